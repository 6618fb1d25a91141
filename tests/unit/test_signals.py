"""Signals that ask the work to end, at the worst moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType

from fix_child import Child
from floodmark.cli.signals import StopSignals


def test_a_signal_inside_a_wait_does_not_hang_the_process() -> None:
    """`Event.wait` holds the event's lock for a moment. A handler that needed it would wait for ever."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the handler hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(10)
    try:
        with StopSignals() as signals:
            with signals.event._cond:
                signal.raise_signal(signal.SIGTERM)
            assert signals.event.wait(10)
        assert signals.event.number == signal.SIGTERM
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


BLOCKED = """
import hashlib
from floodmark.cli.signals import StopSignals
with StopSignals():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, as in DuckDB or a TLS library
"""


def test_the_second_signal_ends_a_process_whose_main_thread_is_busy() -> None:
    """A Python handler runs only between two instructions of the main thread."""
    with Child([sys.executable, "-c", BLOCKED], patience=30, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == b"floodmark: stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
