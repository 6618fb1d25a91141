"""The request to end: the work checks for it at safe points, and ends with the exit code of the signal."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def stopped_leaving(left: Callable[[], str]) -> Iterator[None]:
    """Add to a Stopped that leaves this block what the stopped work left, unless an inner block knew better."""
    try:
        yield
    except Stopped as stopped:
        if stopped.hint is not None:
            raise
        raise Stopped(stopped.signal_number, left()) from None


class Deadline:
    """The end of a run's time: a request to stop, or a moment, whichever comes first."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._moment: float | None = None

    def start(self, seconds: float) -> None:
        """Let the time end in this many seconds. Only the first call counts."""
        if self._moment is None:
            self._moment = time.monotonic() + seconds

    @property
    def stop_asked(self) -> bool:
        """Return True if a signal ends the run, and not its time."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait this long, or until a signal ends the run. Return True if the run's time is over."""
        self._stop.wait(seconds)
        return self.reached()

    def reached(self) -> bool:
        return self._stop.is_set() or (self._moment is not None and time.monotonic() > self._moment)
