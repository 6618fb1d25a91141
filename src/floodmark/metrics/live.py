"""The totals of a run in progress, from its events. Pure."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from floodmark.events import ChunkAudited, ChunkDone, Event, Retried, RunStarted, TableDecided


class LiveTotals(Struct, frozen=True):
    """A run's reports so far. `started` is in seconds since 1970; `planned` and `done` count chunks."""

    database: str
    started: float
    planned: int = 0
    done: int = 0
    retries: int = 0
    audited: int = 0
    mismatches: int = 0
    uploaded: int = 0


def add_event(live: LiveTotals, event: Event) -> LiveTotals:
    """Return the totals with one more event. A new snapshot's chunks are planned again."""
    if isinstance(event, RunStarted):
        return replace(live, database=event.database or live.database, planned=0, done=0)
    if isinstance(event, TableDecided):
        return replace(live, planned=live.planned + event.to_extract)
    if isinstance(event, ChunkDone):
        return replace(live, done=live.done + 1, uploaded=live.uploaded + event.uploaded_bytes)
    if isinstance(event, Retried):
        return replace(live, retries=live.retries + 1)
    if isinstance(event, ChunkAudited):
        return replace(live, audited=live.audited + 1, mismatches=live.mismatches + (not event.same))
    return live
