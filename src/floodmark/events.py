"""The events that a run sends to its observers. Log lines, live progress and metrics are all made from them.

The other long commands send the events about steps and their progress, too. An observer is called from several threads.
It must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from floodmark.model import Chunk, Ended, Point, Reason, TableEntry, TableName

Step = Literal[
    "reading the state",
    "waiting for the server",
    "reading the catalog",
    "waiting for a checkpoint",
    "checking",
    "looking for objects",
    "extracting",
    "sending whole tables",
    "auditing",
    "comparing definitions",
    "committing",
    "reading manifests",
    "checking objects",
    "reading objects",
    "comparing with the source",
    "loading",
    "publishing",
    "delivering",
    "listing objects",
    "deleting",
]
Unit = Literal["bytes", "objects", "manifests", "keys"]


class StepStarted(Struct, frozen=True):
    """A step of a command. The step before it has ended.

    `total` is its amount of work, None if nobody knows. If it works on tables, `sizes` holds the share of each, and
    `total` is not set. What a byte is depends on the step: of the source, or of stored objects.
    """

    step: Step
    sizes: Mapping[TableName, int] = {}
    total: int | None = None
    unit: Unit = "bytes"


class StepAdvanced(Struct, frozen=True):
    """More work of the current step that is done, in the step's unit. It belongs to no table."""

    number: int = 1


class ChunkProgress(Struct, frozen=True):
    """The part of a chunk that is done in the current step, in the step's bytes.

    The first event of a chunk has 0 bytes, and the last one is `finished`. If that one has 0 bytes, the chunk failed,
    and might be tried again.
    """

    table: TableName
    chunk: Chunk
    done_bytes: int
    finished: bool = False


class TableGivenUp(Struct, frozen=True):
    """A table that failed. The current step reads no more of it."""

    table: TableName


class RunStarted(Struct, frozen=True):
    run_id: str
    source: str
    destination: str
    point: Point
    attempt: int
    database: str = ""
    encoder: str | None = None


class ProgressFound(Struct, frozen=True):
    """Chunks that an uncommitted run left. This run need not read them again if they are proven.

    `outcome` is that run's recorded outcome. It is `unfinished` if none is recorded: it is at work, or was killed.
    """

    run_id: str
    chunks: int
    outcome: str = "unfinished"


class TableDecided(Struct, frozen=True):
    """The decision about a table. It has `chunks` in all; the run reads `to_extract` of them.

    `unwritten` chunks are proven by WAL summaries: no block of theirs was written.
    """

    table: TableName
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int
    unwritten: int = 0


class WrittenBlocksRead(Struct, frozen=True):
    """The use of the source's WAL summaries: of `chunks` to count, `unwritten` are proven without a count.

    `why` says why they could not be used for some table, None if nothing prevented it. `seconds` include a wait for a
    checkpoint.
    """

    chunks: int
    unwritten: int
    seconds: float
    why: str | None = None


class ChunkDone(Struct, frozen=True):
    """One extracted chunk. `uploaded_bytes` is 0 if the same lines were already stored.

    `estimated_bytes` is the chunk's share of the table's `estimated_bytes` in TableDecided.
    """

    table: TableName
    rows: int
    raw_bytes: int
    uploaded_bytes: int
    seconds: float
    estimated_bytes: int = 0


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
    StepStarted
    | StepAdvanced
    | ChunkProgress
    | TableGivenUp
    | RunStarted
    | ProgressFound
    | TableDecided
    | WrittenBlocksRead
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
