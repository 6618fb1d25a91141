"""The request to end: the work checks for it at safe points, and ends with the exit code of the signal."""

from __future__ import annotations

import signal
import threading
import time

from floodmark.errors import Stopped


class Stop(threading.Event):
    """A request to end the work. `number` is the signal behind it; if it is set in another way, SIGINT counts."""

    number: int = signal.SIGINT

    def ask(self, number: int) -> None:
        """Tell the work to end because of this signal."""
        self.number = number
        self.set()

    def require_not_asked(self) -> None:
        """Raise Stopped if the work is to end."""
        if self.is_set():
            raise Stopped(self.number)


# For callers that are never told to end.
NEVER = Stop()


class Deadline:
    """The end of a run's time: a request to stop, or a moment, whichever comes first."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._moment: float | None = None

    def start(self, seconds: float) -> None:
        """Let the time end in this many seconds. Only the first call counts."""
        if self._moment is None:
            self._moment = time.monotonic() + seconds

    def reached(self) -> bool:
        return self._stop.is_set() or (self._moment is not None and time.monotonic() > self._moment)
