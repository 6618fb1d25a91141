"""What a run tells its observers: log lines, live progress and metrics all come from these.

A run calls its observer from several threads; an observer must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from floodmark.model import Ended, Point, Reason, TableEntry, TableName


class RunStarted(Struct, frozen=True):
    run_id: str
    source: str
    destination: str
    point: Point
    attempt: int
    database: str = ""


class ProgressFound(Struct, frozen=True):
    """A run that did not commit, or not yet, left chunks that this one need not read again if they are proven."""

    run_id: str
    chunks: int


class TableDecided(Struct, frozen=True):
    """What will be done with a table. `chunks` in all, of which `to_extract` will be read."""

    table: TableName
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class ChunkDone(Struct, frozen=True):
    """One chunk was extracted. `uploaded_bytes` is 0 when the lines were what is already stored."""

    table: TableName
    rows: int
    raw_bytes: int
    uploaded_bytes: int
    seconds: float


class TableFinished(Struct, frozen=True):
    entry: TableEntry


class Audited(Struct, frozen=True):
    """A chunk that was proven unchanged was read again. `same`: its lines are those that are stored."""

    table: TableName
    same: bool


class Retried(Struct, frozen=True):
    """Something failed and is tried again. `what` and `why` hold no row's value and no secret."""

    what: str
    why: str
    attempt: int


class Warned(Struct, frozen=True):
    """Something the operator should know; the run goes on."""

    message: str


class RunFinished(Struct, frozen=True):
    run_id: str
    tables: int
    failed: int
    uploaded_bytes: int
    duration_seconds: float


class RunEnded(Struct, frozen=True):
    """The last event of every run, however it ended; only one that published something has a RunFinished before."""

    ended: Ended


Event = (
    RunStarted
    | ProgressFound
    | TableDecided
    | ChunkDone
    | TableFinished
    | Audited
    | Retried
    | Warned
    | RunFinished
    | RunEnded
)
Observer = Callable[[Event], None]


def silent(event: Event) -> None:
    """The observer that observes nothing."""
