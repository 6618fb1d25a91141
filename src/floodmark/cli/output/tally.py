"""The progress of a command, from its events: the current step, its tables, its rate and its end. Thread-safe.

The live view and the log's `progress` events show the same numbers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from floodmark.cli.output.views import ChunkCounts
from floodmark.events import (
    ChunkDone,
    ChunkProgress,
    Event,
    RunStarted,
    Step,
    StepAdvanced,
    StepStarted,
    TableDecided,
    TableGivenUp,
    Unit,
)
from floodmark.model import Chunk, TableName

Clock = Callable[[], float]
# The rate covers this many seconds up to now.
WINDOW = 10.0
# Samples are at least this far apart, so that the window has few of them.
_SAMPLE_EVERY = 0.25
# The tables at work that are shown; the others are only counted.
SHOWN_TABLES = 8


class TableProgress(Struct, frozen=True):
    """A table at work, with its own share of the step. `chunks` is set in steps that count chunks."""

    table: TableName
    done: int
    total: int
    chunks: ChunkCounts | None

    @property
    def percent(self) -> int | None:
        return percent(self.done, self.total)


class Progress(Struct, frozen=True):
    """The progress of a command's current step.

    `done` and `total` are in the step's unit, and `rate` is that unit per second. `total` is None if nobody knows it.
    `elapsed` is in seconds since the command began, `eta` in seconds until the step's end. `tables` are the first
    tables at work, `more_tables` the number of others.
    """

    step: Step
    unit: Unit
    done: int
    total: int | None
    percent: int | None
    rate: float | None
    elapsed: float
    eta: float | None
    chunks: ChunkCounts | None
    tables: tuple[TableProgress, ...]
    more_tables: int


class _StepTable(Struct):
    """A table in the current step. `reading` holds the chunks at work, with the bytes that are done of each."""

    size: int
    done: int
    reading: dict[Chunk, int]
    given_up: bool = False

    @property
    def reached(self) -> int:
        return min(self.size, self.done + sum(self.reading.values()))

    @property
    def total(self) -> int:
        return self.reached if self.given_up else self.size


class _TableChunks(Struct):
    """The chunks of a table: all, those to read, and those that were read."""

    chunks: int
    to_extract: int
    done: int = 0


class SlidingRate:
    """The rate of a growing number, over the last seconds."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._samples = deque([(0.0, 0)])

    def restart(self, now: float) -> None:
        """Begin again at 0."""
        self._samples.clear()
        self._samples.append((now, 0))

    def add(self, now: float, number: int) -> None:
        """Note the number, and forget what lies before the window. The last sample is always the newest."""
        if len(self._samples) > 1 and now - self._samples[-2][0] < _SAMPLE_EVERY:
            self._samples.pop()
        self._samples.append((now, number))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()

    def per_second(self, now: float, number: int) -> float | None:
        """Return the rate up to now, or None in the first second."""
        then, before = self._samples[0]
        return (number - before) / (now - then) if now - then >= 1 else None


class Tally:
    """The totals of a command's events so far."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._chunks: dict[TableName, _TableChunks] = {}
        self._step: StepStarted | None = None
        self._tables: dict[TableName, _StepTable] = {}
        self._reached = 0  # in all tables, and what belongs to none
        self._most = 0
        self._rate = SlidingRate()

    def take(self, event: Event) -> None:
        """Add an event."""
        with self._lock:
            if isinstance(event, ChunkProgress):
                self._read(event)
            elif isinstance(event, StepAdvanced):
                self._reached += event.number
            elif isinstance(event, StepStarted):
                self._begin(event)
            elif isinstance(event, TableGivenUp):
                self._give_up(event.table)
            elif isinstance(event, ChunkDone):
                self._chunks.setdefault(event.table, _TableChunks(1, 1)).done += 1
            elif isinstance(event, TableDecided):
                self._chunks[event.table] = _TableChunks(event.chunks, event.to_extract)
            elif isinstance(event, RunStarted):
                self._chunks.clear()
            self._rate.add(self.clock(), self._done())

    def counts(self) -> dict[TableName, ChunkCounts]:
        """Return, per table, the number of chunks that were read and the number of all its chunks."""
        with self._lock:
            return {name: ChunkCounts(min(one.done, one.chunks), one.chunks) for name, one in self._chunks.items()}

    @property
    def step(self) -> Step | None:
        """Return the current step. It takes no lock, so that a thread that handles a signal can ask."""
        return None if self._step is None else self._step.step

    def progress(self) -> Progress | None:
        """Return the progress of the current step, or None before the first one."""
        with self._lock:
            return None if self._step is None else self._progress(self._step, self.clock())

    def _done(self) -> int:
        """Return how much of the step is done. A chunk that is read again lets the sum fall; that is not shown."""
        self._most = max(self._most, self._reached)
        return self._most

    def _progress(self, step: StepStarted, now: float) -> Progress:
        done = self._done()
        total = step.total if step.total is not None else sum(one.total for one in self._tables.values()) or None
        self._rate.add(now, done)
        rate = self._rate.per_second(now, done)
        counted = step.step in ("extracting", "loading")
        chunks = _sum(self._chunks.values()) if counted else None
        at_work = [(name, one) for name, one in self._tables.items() if one.reading]
        return Progress(
            step=step.step,
            unit=step.unit,
            done=done,
            total=total,
            percent=_percent_of_step(done, total, chunks),
            rate=rate,
            elapsed=now - self._begun,
            eta=(total - done) / rate if total is not None and rate else None,
            chunks=chunks,
            tables=tuple(self._at_work(name, one, counted) for name, one in at_work[:SHOWN_TABLES]),
            more_tables=max(0, len(at_work) - SHOWN_TABLES),
        )

    def _at_work(self, name: TableName, one: _StepTable, counted: bool) -> TableProgress:
        chunks = self._chunks.get(name) if counted else None
        return TableProgress(name, one.reached, one.total, None if chunks is None else _sum([chunks]))

    def _begin(self, step: StepStarted) -> None:
        self._step, self._reached, self._most = step, 0, 0
        self._tables = {name: _StepTable(size, 0, {}) for name, size in step.sizes.items()}
        self._rate.restart(self.clock())

    def _read(self, event: ChunkProgress) -> None:
        table = self._tables.get(event.table)
        if table is None:
            return
        before = table.reached
        if event.finished:
            table.reading.pop(event.chunk, None)
            table.done += event.done_bytes
        else:
            table.reading[event.chunk] = event.done_bytes
        self._reached += table.reached - before

    def _give_up(self, name: TableName) -> None:
        table = self._tables.get(name)
        if table is not None:
            table.given_up = True
            self._most = self._reached  # the sum no longer counts what was read of it
        if name in self._chunks:
            self._chunks[name].to_extract = self._chunks[name].done


def percent(done: int, total: int | None) -> int | None:
    """Return a whole percentage, rounded down, so that 100 means all. None if there is no total."""
    return min(100, 100 * done // total) if total else None


def _percent_of_step(done: int, total: int | None, chunks: ChunkCounts | None) -> int | None:
    """Return the step's percentage. Without known sizes, chunks count. It is 100 only if no chunk is left."""
    if chunks is None:
        return percent(done, total)
    if not total:
        return percent(chunks.read, chunks.total)
    share = percent(done, total)
    return share if share is None or chunks.read >= chunks.total else min(99, share)


def _sum(tables: Iterable[_TableChunks]) -> ChunkCounts:
    read = planned = 0
    for one in tables:
        read, planned = read + min(one.done, one.to_extract), planned + one.to_extract
    return ChunkCounts(read, planned)
