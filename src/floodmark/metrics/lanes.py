"""Threads that do small pieces of work, and end with the process: a piece that hangs delays no end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue


class Lane:
    """A fixed number of threads that take numbers from a queue, and do the work of each.

    `begun` are the times at which the work in progress began, in seconds of the monotonic clock.
    """

    def __init__(self, work: Callable[[int], None], width: int) -> None:
        self._work, self._width = work, width
        self._queue: SimpleQueue[int] = SimpleQueue()
        self._begun: dict[int, float] = {}
        self._failure: BaseException | None = None

    @property
    def begun(self) -> list[float]:
        return list(self._begun.values())

    def start(self) -> None:
        for _ in range(self._width):
            threading.Thread(target=self._serve, daemon=True, name="reader").start()

    def add(self, number: int) -> None:
        self._queue.put(number)

    def raise_failure(self) -> None:
        """Raise the first error that ended a thread: a bug, which must not pass in silence."""
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        while True:
            number = self._queue.get()
            self._begun[number] = time.monotonic()
            try:
                self._work(number)
            except BaseException as error:
                self._failure = self._failure or error
                return
            finally:
                del self._begun[number]
