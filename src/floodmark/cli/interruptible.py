"""Work that shows its progress and that a signal ends cleanly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from floodmark.cli.output.progress import progress
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.output.tally import Tally
from floodmark.cli.signals import StopSignals
from floodmark.events import Observer

Outcome = TypeVar("Outcome")
Work = Callable[[Observer, StopSignals], Outcome]


def run_interruptible(streams: CommandStreams, tally: Tally, work: Work[Outcome]) -> Outcome:
    """Do the work with progress on stderr, and let the first signal end it cleanly. Raises Stopped."""
    with StopSignals(streams.log.style) as stop, progress(streams, tally) as observer:
        return work(observer, stop)
