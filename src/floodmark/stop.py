"""The request to end: the work checks for it at safe points, and ends with the exit code of the signal."""

from __future__ import annotations

import signal
import threading

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
