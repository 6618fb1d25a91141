"""Work that shows its progress, and that a signal ends cleanly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from floodmark.cli.output import Session
from floodmark.cli.progress import progress
from floodmark.cli.signals import StopSignals
from floodmark.cli.tally import Tally
from floodmark.events import Observer

Outcome = TypeVar("Outcome")
Work = Callable[[Observer, StopSignals], Outcome]


def stoppable(session: Session, tally: Tally, work: Work[Outcome]) -> Outcome:
    """Do the work with progress on stderr, and let the first signal end it cleanly. Raises Stopped."""
    with StopSignals(session.log.style if session.log else "text") as stop, progress(session, tally) as observer:
        return work(observer, stop)
