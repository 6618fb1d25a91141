"""Totals of run events, and their text for both kinds of progress display."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from msgspec import Struct

from floodmark.cli.output.figures import size
from floodmark.cli.output.views import ChunkCounts
from floodmark.events import ChunkDone, Event, RunStarted, TableDecided
from floodmark.model import TableName
from floodmark.wording import plural

Clock = Callable[[], float]


class Work(Struct):
    """A table in progress. `since` is the start of its first chunk, on the monotonic clock."""

    chunks: int
    to_extract: int
    done: int = 0
    rows: int = 0
    raw_bytes: int = 0
    since: float | None = None

    @property
    def running(self) -> bool:
        return self.since is not None and self.done < self.to_extract


class Tally:
    """The totals of a run's events so far. Safe to use from several threads."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.begun = clock()
        self.tables: dict[TableName, Work] = {}

    def take(self, event: Event) -> None:
        with self.lock:
            if isinstance(event, RunStarted):
                self.tables.clear()
            elif isinstance(event, TableDecided):
                self.tables[event.table] = Work(event.chunks, event.to_extract)
            elif isinstance(event, ChunkDone):
                self._add(event)

    def counts(self) -> dict[TableName, ChunkCounts]:
        """Return, per table, the number of chunks that were read and the number of all its chunks."""
        with self.lock:
            return {name: ChunkCounts(min(work.done, work.chunks), work.chunks) for name, work in self.tables.items()}

    def running(self) -> list[tuple[TableName, Work]]:
        """Return copies of the tables in progress, the oldest first."""
        with self.lock:
            found = [(name, _copy(work)) for name, work in self.tables.items() if work.running]
        return sorted(found, key=lambda pair: pair[1].since or 0.0)

    def overall(self) -> str:
        """Return one summary line: chunks, rows, bytes and their rate."""
        with self.lock:
            works = list(self.tables.values())
            done, planned = sum(work.done for work in works), sum(work.to_extract for work in works)
            rows, raw = sum(work.rows for work in works), sum(work.raw_bytes for work in works)
            speed = rate(raw, self.clock() - self.begun)
            return f"{done} of {plural(planned, 'chunk')}, {plural(rows, 'row')}, {size(raw)} read at {speed}"

    def sums(self) -> dict[str, int]:
        """Return the same totals as numbers."""
        with self.lock:
            works = list(self.tables.values())
            return {
                "chunks_done": sum(work.done for work in works),
                "chunks": sum(work.to_extract for work in works),
                "rows": sum(work.rows for work in works),
                "raw_bytes": sum(work.raw_bytes for work in works),
                "seconds": round(self.clock() - self.begun),
            }

    def _add(self, event: ChunkDone) -> None:
        work = self.tables.setdefault(event.table, Work(1, 1))
        if work.since is None:
            work.since = self.clock() - event.seconds
        work.done += 1
        work.rows += event.rows
        work.raw_bytes += event.raw_bytes


def rate(number: int, elapsed: float) -> str:
    return f"{number / 1e6 / elapsed:.1f} MB/s" if elapsed > 0 else "- MB/s"


def _copy(work: Work) -> Work:
    return Work(work.chunks, work.to_extract, work.done, work.rows, work.raw_bytes, work.since)
