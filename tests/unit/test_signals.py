"""Signals that ask the work to end, at the worst moment."""

from __future__ import annotations

import signal
from types import FrameType

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
