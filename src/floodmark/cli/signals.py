"""SIGINT and SIGTERM: the first asks a command to end cleanly, the second ends the process at once, and says so."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import Any

import msgspec

from floodmark.cli.output.terminal import wrapped
from floodmark.stop import Stop
from floodmark.wording import iso_time

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HINT = "A second signal ends the process at once."


def _nothing() -> str:
    return "Nothing was begun."


class StopSignals:
    """Context manager in which the two signals set `event`. `number` is the first signal that came.

    On a `terminal` the live view shows the first request, elsewhere a line does. A second signal ends the process at
    once: `clearing` gives the codes that remove a live view, and `left` says what the work leaves. Both are called in
    a thread of their own, at any moment, and must take no lock.

    Signals reach only a process's main thread. In another thread this does nothing.
    """

    def __init__(self, style: str = "text", *, terminal: bool = False) -> None:
        self._style, self._terminal = style, terminal
        self.left: Callable[[], str] = _nothing
        self.clearing: Callable[[], bytes] | None = None
        self.event = Stop()
        self.number: int | None = None
        self._before: dict[int, Any] = {}
        self._watcher: threading.Thread | None = None
        self._writer = self._wakeup_before = -1

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._watcher = threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True)
            self._watcher.start()
            self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, _leave_to_watcher)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._writer)  # the watcher reads the end of the pipe
            self._watcher.join()

    def _watch(self, reader: int) -> None:
        """Take each signal's number from the pipe, in a thread of its own.

        A Python handler would run in the main thread. It would have to wait while that thread is blocked in a library,
        and for ever if that thread holds the event's lock, as `event.wait` does.
        """
        while numbers := os.read(reader, 1):
            if numbers[0] in STOP_SIGNALS:
                self._receive(numbers[0])
        os.close(reader)

    def _receive(self, number: int) -> None:
        if self.number is not None:
            self._end_at_once(number)
        self.number = number
        if not self._terminal:
            _write(_message(self._style))
        self.event.ask(number)

    def _end_at_once(self, number: int) -> None:
        code = 128 + number
        try:
            _write((self.clearing() if self.clearing is not None else b"") + self._last_words(code))
        finally:
            os._exit(code)

    def _last_words(self, code: int) -> bytes:
        """Return the log event `ended_at_once`, or the same as a message."""
        left = self.left()
        if self._style == "json":
            return _event("ended_at_once", "error", error="ended at once", hint=left, exit_code=code)
        text = f"Ended at once. {left}"
        return f"\r{wrapped(text)}\n".encode() if self._terminal else f"{text}\n".encode()


def _leave_to_watcher(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python has written the signal's number into the pipe by then."""


def _message(style: str) -> bytes:
    """Return the log event `stop_requested`, or the same as a message."""
    if style != "json":
        return f"floodmark: stopping\n  {_HINT}\n".encode()
    return _event("stop_requested", "warning", hint=_HINT)


def _event(name: str, level: str, **fields: object) -> bytes:
    """Return a line of the JSON log."""
    now = iso_time(datetime.now(UTC), "microseconds")
    return msgspec.json.encode({"timestamp": now, "level": level, "event": name, **fields}) + b"\n"


def _write(text: bytes) -> None:
    """Write to stderr, but not through sys.stderr: the main thread can be in the middle of a write to it."""
    with suppress(OSError):  # nobody can read it, but the command still ends
        os.write(2, text)
