"""Being told to end: work looks at it in safe places, and ends there with the signal's own exit code."""

from __future__ import annotations

import signal
import threading

from floodmark.errors import Stopped


class Stop(threading.Event):
    """Set once work is to end. `number` is the signal that asked for it; whoever sets it otherwise interrupts."""

    number: int = signal.SIGINT

    def ask(self, number: int) -> None:
        """Tell the work to end, because of this signal."""
        self.number = number
        self.set()

    def require_not_asked(self) -> None:
        """Raises Stopped once the work is to end."""
        if self.is_set():
            raise Stopped(self.number)


# For whoever is never told to end.
NEVER = Stop()
