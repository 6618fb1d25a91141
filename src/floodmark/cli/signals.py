"""SIGINT and SIGTERM: the first asks the run to end cleanly, the second ends the process at once."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from floodmark.stop import Stop

_WORDS = b"floodmark: stopping; once more ends at once\n"
_JSON = b'{"level":"warning","event":"stopping; once more ends at once"}\n'


class StopSignals:
    """Context manager in which the two signals set `event`. `number` is the first signal that came.

    Signals reach only a process's main thread. In another thread this does nothing.
    """

    def __init__(self, style: str = "text") -> None:
        self._words = _JSON if style == "json" else _WORDS
        self.event = Stop()
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        self._ask(number)
        # This does not use sys.stderr, because the signal can come in the middle of a write to it.
        try:
            os.write(2, self._words)
        except OSError:
            return  # nobody can read it, but the run still ends

    def _ask(self, number: int) -> None:
        """Set the event in a thread of its own.

        The signal can come in the middle of `event.wait`, which then holds the event's lock. Setting the event here
        would wait for that lock for ever. Starting a thread this way takes no lock.
        """
        _thread.start_new_thread(self.event.ask, (number,))
