"""The error of a run that a signal ended: what is kept of it, and how to go on. Pure."""

from __future__ import annotations

from msgspec import Struct

from floodmark.errors import RunStopped
from floodmark.wording import plural


class KeptWork(Struct, frozen=True):
    """The work that outlives a stopped run, in chunks.

    `chunks` is what the run had to extract, 0 if it did not know yet, and `kept` of them are saved. `earlier` counts
    the chunks of earlier runs that can still be used. `resumable` is False if no run of this kind keeps chunks: a
    landing zone's receiver takes the objects away, or there is no state.
    """

    kept: int
    chunks: int = 0
    earlier: int = 0
    resumable: bool = True


def stopped_run(signal_number: int, work: KeptWork) -> RunStopped:
    """Return the error of a run that did not commit."""
    return RunStopped(signal_number, _left(work), work.kept, work.chunks)


def _left(work: KeptWork) -> str:
    if not work.resumable:
        return "Nothing was committed. The next run sends the tables of this run again, each as a whole."
    if work.kept:
        share = f"{work.kept:,} of {plural(work.chunks, 'chunk')}" if work.chunks else plural(work.kept, "chunk")
        return f"Nothing was committed. {_kept(share, work.kept)}"
    if work.earlier:
        return f"Nothing was committed. {_kept(plural(work.earlier, 'chunk') + ' of an earlier run', work.earlier)}"
    return "Nothing was committed, and no chunk is kept. The next run starts from the beginning."


def _kept(what: str, number: int) -> str:
    verb, them = ("is", "it") if number == 1 else ("are", "them")
    return f"{what} {verb} kept; the next run continues from {them}."
