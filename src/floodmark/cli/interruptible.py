"""Long commands: their work with progress on stderr, which the first signal ends cleanly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from floodmark.cli.output.progress import progress
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.output.tally import Tally
from floodmark.events import Observer
from floodmark.stop import Stop

Outcome = TypeVar("Outcome")
Work = Callable[[Observer, Stop], Outcome]


def run_interruptible(streams: CommandStreams, tally: Tally, work: Work[Outcome], left: Callable[[], str]) -> Outcome:
    """Do the work with progress on stderr, and let the first signal end it cleanly. Raises Stopped.

    `left` says what the work leaves if the second signal ends it: see StopSignals.
    """
    stop = streams.signals.event
    with progress(streams, tally, stop) as observer:
        streams.signals.left, streams.signals.clearing = left, observer.clearing
        return work(observer, stop)
