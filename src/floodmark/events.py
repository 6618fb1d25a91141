"""The events that a run sends to its observers. Log lines, live progress and metrics are all made from them.

A run calls its observer from several threads. An observer must be quick and must not raise.
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
    """Chunks that an uncommitted run left. This run need not read them again if they are proven.

    `outcome` is that run's recorded outcome. It is `unfinished` if none is recorded: it is at work, or was killed.
    """

    run_id: str
    chunks: int
    outcome: str = "unfinished"


class TableDecided(Struct, frozen=True):
    """The decision about a table. It has `chunks` in all; the run reads `to_extract` of them."""

    table: TableName
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class ChunkDone(Struct, frozen=True):
    """One extracted chunk. `uploaded_bytes` is 0 if the same lines were already stored."""

    table: TableName
    rows: int
    raw_bytes: int
    uploaded_bytes: int
    seconds: float


class TableFinished(Struct, frozen=True):
    entry: TableEntry


class ChunkAudited(Struct, frozen=True):
    """A chunk that was proven unchanged and read again. `same`: its lines equal the stored lines."""

    table: TableName
    same: bool


class Retried(Struct, frozen=True):
    """A failed action that is tried again. `what` and `why` hold no row's value and no secret."""

    what: str
    why: str
    attempt: int


class Warned(Struct, frozen=True):
    """A message that the operator should know; the run goes on."""

    message: str


class RunFinished(Struct, frozen=True):
    run_id: str
    tables: int
    failed: int
    uploaded_bytes: int
    duration_seconds: float


class Completed(Struct, frozen=True):
    """A commit that was announced to schedulers: this run's, or that of an earlier run that could not do it."""

    run_id: str
    manifest: str


class RunEnded(Struct, frozen=True):
    """The last event of every run, however it ended. Only a run that published has a RunFinished before it."""

    ended: Ended


Event = (
    RunStarted
    | ProgressFound
    | TableDecided
    | ChunkDone
    | TableFinished
    | ChunkAudited
    | Retried
    | Warned
    | RunFinished
    | Completed
    | RunEnded
)
Observer = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Ignore the event."""
