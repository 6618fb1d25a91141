"""A run whose start and end are told to a receiver of OpenLineage events."""

from __future__ import annotations

from collections.abc import Callable

from floodmark.cli.interruptible import Work
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import configured_database
from floodmark.config import Settings
from floodmark.events import Event, Observer, Warned
from floodmark.openlineage.emitter import Emitter
from floodmark.openlineage.trace import TraceCollector
from floodmark.pipeline.publish import RunResult
from floodmark.stop import Stop


class TracedRun:
    """A run with its events. Raises ConfigError if they can't be made. Anything else costs one warning."""

    def __init__(self, settings: Settings, streams: CommandStreams) -> None:
        self._streams = streams
        self._emitter = Emitter(settings.openlineage)
        database = configured_database(settings, streams.environ)
        self._trace = TraceCollector(settings.openlineage, database, self._emitter.emit)

    def until_told(self, work: Callable[[], int]) -> int:
        """Do the work, and tell how it ended. Returns its exit code, or raises its error."""
        try:
            code = work()
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)
        return code

    def watched(self, work: Work[RunResult]) -> Work[RunResult]:
        """Return work whose events are traced."""

        def watching(observer: Observer, stop: Stop) -> RunResult:
            def both(event: Event) -> None:
                self._trace.observe(event)
                observer(event)

            self._trace.result = work(both, stop)
            return self._trace.result

        return watching

    def _end(self, error: BaseException | None) -> None:
        self._trace.end(error)
        problem = self._emitter.close()
        if problem is not None:
            self._streams.log.observe(Warned(f"OpenLineage events could not be sent: {problem}"))
