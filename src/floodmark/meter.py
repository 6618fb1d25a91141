"""The progress of a chunk, told to an observer while its lines are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from floodmark.events import ChunkProgress, Observer
from floodmark.model import Chunk, TableName

# An observer hears of a chunk at most this often.
EVENTS_PER_SECOND = 4
# Up to this share of its expected lines, a chunk's progress is what was read. Beyond it, progress only approaches 1.
_TRUSTED = 0.9


Count = Callable[[int], None]


def count_nothing(number: int) -> None:
    """Ignore the number."""


class LineRatio:
    """The bytes of lines per byte of the source, over all finished chunks. Several threads can use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[TableName | None, tuple[int, int]] = {}

    def add(self, table: TableName, line_bytes: int, source_bytes: int) -> None:
        """Add a finished chunk."""
        if line_bytes and source_bytes:
            with self._lock:
                for key in (table, None):
                    lines, source = self._sums.get(key, (0, 0))
                    self._sums[key] = (lines + line_bytes, source + source_bytes)

    def expected_lines(self, table: TableName, source_bytes: int) -> int:
        """Return the expected bytes of lines, by the table's own ratio, by that of all tables, or one to one."""
        with self._lock:
            lines, source = self._sums.get(table) or self._sums.get(None) or (1, 1)
        return source_bytes * lines // source


class ChunkMeter:
    """Context manager for the work on a chunk that counts `size` bytes in the current step.

    `expected` is about how many bytes `add` will be told of. The observer hears of the beginning, of the progress a few
    times a second, and of the end. If the work fails, the chunk's bytes do not count.
    """

    def __init__(
        self,
        observer: Observer,
        table: TableName,
        chunk: Chunk,
        size: int,
        expected: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer, self._table, self._chunk = observer, table, chunk
        self._size, self._expected, self._clock = size, expected, clock
        self._read = 0
        self._due = 0.0

    def __enter__(self) -> ChunkMeter:
        self._tell(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = self._size if error is None else 0
        self._observer(ChunkProgress(self._table, self._chunk, done, finished=True))

    def add(self, number: int) -> None:
        """Count bytes that were read."""
        self._read += number
        if self._clock() >= self._due:
            self._tell(int(self._size * _share(self._read, self._expected)))

    def _tell(self, done: int) -> None:
        self._due = self._clock() + 1 / EVENTS_PER_SECOND
        self._observer(ChunkProgress(self._table, self._chunk, done))


def _share(read: int, expected: int) -> float:
    """Return the share of the expected bytes that is read. It grows with every byte, and stays below 1."""
    part, rest = read / max(1, expected), 1 - _TRUSTED
    return part if part <= _TRUSTED else 1 - rest**2 / (part - _TRUSTED + rest)
