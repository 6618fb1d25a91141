"""SIGINT and SIGTERM: the first asks the run to end cleanly, the second ends the process at once."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import Any, TypeVar

import msgspec

from floodmark.cli.output.progress import progress
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.output.tally import Tally
from floodmark.events import Observer
from floodmark.stop import Stop
from floodmark.wording import iso_time

Outcome = TypeVar("Outcome")
_HINT = "A second signal ends the process at once."


class StopSignals:
    """Context manager in which the two signals set `event`. `number` is the first signal that came.

    Signals reach only a process's main thread. In another thread this does nothing.
    """

    def __init__(self, style: str = "text") -> None:
        self._style = style
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
            os.write(2, _message(self._style))
        except OSError:
            return  # nobody can read it, but the run still ends

    def _ask(self, number: int) -> None:
        """Set the event in a thread of its own.

        The signal can come in the middle of `event.wait`, which then holds the event's lock. Setting the event here
        would wait for that lock for ever. Starting a thread this way takes no lock.
        """
        _thread.start_new_thread(self.event.ask, (number,))


Work = Callable[[Observer, StopSignals], Outcome]


def run_interruptible(streams: CommandStreams, tally: Tally, work: Work[Outcome]) -> Outcome:
    """Do the work with progress on stderr, and let the first signal end it cleanly. Raises Stopped."""
    with StopSignals(streams.log.style) as stop, progress(streams, tally) as observer:
        return work(observer, stop)


def _message(style: str) -> bytes:
    """Return the log event `stop_requested`, or the same as a message."""
    if style != "json":
        return f"floodmark: stopping\n  {_HINT}\n".encode()
    now = iso_time(datetime.now(UTC), "microseconds")
    fields = {"timestamp": now, "level": "warning", "event": "stop_requested", "hint": _HINT}
    return msgspec.json.encode(fields) + b"\n"
