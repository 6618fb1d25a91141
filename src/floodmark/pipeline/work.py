"""One table in progress under one snapshot: its plan, the outcomes of its chunks, its error and its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from floodmark.engine.base import TaskStopped
from floodmark.errors import FloodmarkError, SnapshotLost, SourceError
from floodmark.model import Chunk, ObjectEntry, TableName
from floodmark.pipeline.entries import ChunkOutcome
from floodmark.pipeline.plans import TablePlan


class TableWork:
    """A table in progress. A table is `lost` if it needs a new snapshot, and `stopped` if the run ended before it."""

    def __init__(self, plan: TablePlan) -> None:
        self.plan = plan
        self.outcomes: dict[Chunk, ChunkOutcome] = {}
        self.error: FloodmarkError | None = None
        self.lost = False
        self.stopped = False
        self._seconds = 0.0
        self._running = 0
        self._since = 0.0
        self._timing = threading.Lock()

    @property
    def table(self) -> TableName:
        return self.plan.info.table

    @property
    def seconds(self) -> float:
        """Return the time spent on the table, in seconds.

        It is the time in which at least one task extracted the table, and its share of the questions about many tables.
        """
        return self._seconds

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of a task for the table. Tasks that run at the same time count once."""
        self.begin_task()
        try:
            yield
        finally:
            self.end_task()

    def begin_task(self) -> None:
        """Count the time from now on, until as many tasks ended as began."""
        with self._timing:
            self._since = time.monotonic() if not self._running else self._since
            self._running += 1

    def end_task(self) -> None:
        with self._timing:
            self._running -= 1
            self._seconds += 0.0 if self._running else time.monotonic() - self._since

    def add_seconds(self, share: float) -> None:
        """Add the table's share of a task for several tables."""
        with self._timing:
            self._seconds += share

    @property
    def is_open(self) -> bool:
        """Return True if there is a reason to continue with the table."""
        return self.error is None and not self.stopped

    @property
    def is_complete(self) -> bool:
        """Return True if every chunk is settled."""
        return self.is_open and len(self.outcomes) == len(self.plan.chunks)

    @property
    def in_order(self) -> list[ChunkOutcome]:
        """Return the outcomes of the chunks, in the order of the table's lines. Every chunk must be settled."""
        return [self.outcomes[chunk.chunk] for chunk in self.plan.chunks]

    @property
    def stored_objects(self) -> list[ObjectEntry]:
        """Return the objects of the settled chunks, in the order of the table's lines."""
        return [outcome.object for outcome in self.in_order if outcome.object is not None]

    def record_error(self, error: BaseException) -> None:
        """Record the error of a task. Raise it again if it does not concern only this table."""
        if isinstance(error, TaskStopped):
            self.stopped = True
        elif isinstance(error, SourceError):
            self.error = self.error or error
            self.lost = self.lost or isinstance(error, SnapshotLost)
        else:
            raise error

    def discard_result(self, error: SnapshotLost) -> None:
        """Throw away what was read of the table: it needs a new snapshot."""
        self.outcomes.clear()
        self.record_error(error)
