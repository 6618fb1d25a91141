"""Blocks of lines that another thread reads ahead: it verifies and decompresses while this one converts and inserts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread

# The thread pauses while blocks of this size wait. So memory grows by this, or by one longer block.
_AHEAD = 2 * 2**20


def read_ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same blocks in order. Raises what reading them raises, after the blocks before it."""
    reading = _Reading(blocks)
    thread = Thread(target=reading.run, name="floodmark-read-ahead", daemon=True)
    thread.start()
    try:
        while (block := reading.take()) is not None:
            yield block
    finally:
        reading.close()
        thread.join()


class _Reading:
    """The blocks between the thread that reads them and the thread that takes them."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._changed = blocks, Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Read all blocks, or as many as are wanted."""
        error = None
        try:
            while self._is_wanted() and (block := next(self._blocks, None)) is not None:
                self._add(block)
        except BaseException as caught:
            error = caught
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self) -> bytes | None:
        """Wait for the next block. Return None after the last one. Raises the error that ended the reading."""
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            if self._waiting:
                block = self._waiting.popleft()
                self._size -= len(block)
                self._changed.notify_all()
                return block
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """End the reading after the block in progress."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _is_wanted(self) -> bool:
        """Wait until there is room for a block. Return false if nobody wants one."""
        with self._changed:
            while self._size >= _AHEAD and not self._ended:
                self._changed.wait()
            return not self._ended

    def _add(self, block: bytes) -> None:
        with self._changed:
            self._waiting.append(block)
            self._size += len(block)
            self._changed.notify_all()
