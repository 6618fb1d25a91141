"""The shared tools of the steps under one snapshot, and the state of each table in progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from floodmark.engine.base import TaskStopped
from floodmark.errors import FloodmarkError, SnapshotLost, SourceError
from floodmark.events import Observer
from floodmark.layout import Layout
from floodmark.model import Chunk, Encoding, TableInfo, TableName
from floodmark.pipeline.detect import Policy, TablePlan
from floodmark.pipeline.entries import Attempt, ChunkOutcome
from floodmark.pipeline.remembered import Remembered
from floodmark.source.base import Snapshot
from floodmark.storage.base import Storage


class Context(Struct, frozen=True):
    """The tools of an attempt.

    `key` makes an object's key from a table and a chunk's number. `stopping` says that the run is to end (a signal, or
    out of time). `announce` is called before the first object is put, with the tables that objects can belong to.
    `done` is called for each chunk that is finished and not committed yet. `landed` is called for each table that a
    landing zone has whole, with True if anything was put for it.
    """

    snapshot: Snapshot
    destination: Storage
    layout: Layout
    encoding: Encoding
    attempt: Attempt
    policy: Callable[[Remembered], Policy]
    remembered: Mapping[TableName, Remembered]
    key: Callable[[TableName, int], str]
    observer: Observer
    stopping: Callable[[], bool]
    announce: Callable[[Sequence[TableName]], None]
    landed: Callable[[TableName, bool], None]
    done: Callable[[TableInfo, ChunkOutcome], None]
    redefined: Callable[[Sequence[TableInfo]], Sequence[TableName]]
    audit_chunks: int

    def of(self, table: TableName) -> Remembered:
        return self.remembered.get(table, Remembered())


class Work:
    """A table in progress."""

    def __init__(self, plan: TablePlan) -> None:
        self.plan = plan
        self.outcomes: dict[Chunk, ChunkOutcome] = {}
        self.error: FloodmarkError | None = None
        self.lost = False
        self.stopped = False
        self._begun: float | None = None
        self._ended = 0.0

    @property
    def table(self) -> TableName:
        return self.plan.info.table

    @property
    def seconds(self) -> float:
        """Return the seconds from the first task's start to the last one's end.

        They include any work on other tables in between.
        """
        return 0.0 if self._begun is None else max(0.0, self._ended - self._begun)

    @contextmanager
    def timed(self) -> Iterator[None]:
        begun = time.monotonic()
        self._begun = begun if self._begun is None else min(self._begun, begun)
        try:
            yield
        finally:
            self._ended = max(self._ended, time.monotonic())

    @property
    def open(self) -> bool:
        """Return True if there is a reason to continue with the table."""
        return self.error is None and not self.stopped

    def fail(self, error: BaseException) -> None:
        """Record the error of a task. Raise it again if it does not concern only this table."""
        if isinstance(error, TaskStopped):
            self.stopped = True
        elif isinstance(error, SourceError):
            self.error = self.error or error
            self.lost = self.lost or isinstance(error, SnapshotLost)
        else:
            raise error
