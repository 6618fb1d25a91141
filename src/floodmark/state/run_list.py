"""The list of a state's runs: committed, failed, stopped, and those without a known end."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.model import Ended
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Inflight, Manifest, Working


class KnownRun(Struct, frozen=True, kw_only=True):
    """One run. Exactly one of the three fields is set, except that a run that committed can also have its end.

    `manifest` is what it committed, without the chunks of its tables. `ended` is its recorded end. `working` is its
    place in the list of runs, if it has no recorded end: it is at work, or it was killed.
    """

    manifest: Manifest | None = None
    ended: Ended | None = None
    working: Working | None = None

    @property
    def run_id(self) -> str:
        known = self.manifest or self.ended or self.working
        assert known is not None
        return known.run_id

    @property
    def moment(self) -> datetime:
        """Return when the run ended, or when it began if its end is not known."""
        if self.manifest is not None:
            return datetime.fromisoformat(self.manifest.finished_at)
        if self.ended is not None:
            return datetime.fromisoformat(self.ended.ended_at)
        assert self.working is not None
        return datetime.fromisoformat(self.working.started_at)


def known_runs(ledger: Ledger, limit: int | None = None, since: datetime | None = None) -> list[KnownRun]:
    """Return up to `limit` runs, newest first, that were not over before `since`.

    It reads one small document and, one by one, as many manifests as it returns. Raises StateUnreadable, StorageError.
    """
    inflight = ledger.in_flight()
    ends = inflight.known_ends
    outlines = map(_outline, ledger.history(limit))
    committed = (KnownRun(manifest=one, ended=ends.get(one.run_id)) for one in outlines)
    recent = list(takewhile(lambda run: since is None or run.moment >= since, committed))
    published = {run.manifest.run_id for run in recent if run.manifest is not None}
    others = [run for run in uncommitted_runs(inflight) if since is None or run.moment >= since]
    # A run whose commit got no answer can have failed by its own record, and be committed all the same.
    others = [run for run in others if run.run_id not in published]
    return sorted([*recent, *others], key=lambda run: run.moment, reverse=True)[:limit]


def _outline(manifest: Manifest) -> Manifest:
    """Return a manifest with the facts that a list of runs shows. With all of their chunks, many take much memory.

    Release 0.1.0 did not record what a run put, so the objects of its manifests tell it.
    """
    kept = {} if manifest.uploaded_bytes is UNSET else {"objects": ()}
    tables = (replace(entry, watermark=None, columns=(), **kept) for entry in manifest.tables)
    return replace(manifest, tables=tuple(tables))


def uncommitted_runs(inflight: Inflight) -> list[KnownRun]:
    """Return the runs that committed nothing, as far as they are recorded.

    A run whose commit got no answer can be among them, although it committed.
    """
    ends = inflight.known_ends
    runs = [KnownRun(ended=one) for one in ends.values() if one.outcome in ("failed", "stopped")]
    return runs + [KnownRun(working=one) for one in inflight.runs if one.run_id not in ends]
