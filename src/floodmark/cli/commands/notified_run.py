"""A run whose end is told to people and programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from floodmark.backends import open_ledger
from floodmark.cli.interruptible import Work
from floodmark.cli.output.log_events import Line
from floodmark.cli.output.logs import Log
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import configured_database
from floodmark.config import NotifySettings, Settings
from floodmark.errors import ConfigError, FloodmarkError, SourceMismatch, exit_code_of
from floodmark.events import Event, Observer, ignore_event
from floodmark.notify.facts import FactCollector, RunFacts, facts_of_refusal
from floodmark.notify.intervals import Outcome
from floodmark.notify.job import open_channels, tell
from floodmark.pipeline.publish import RunResult
from floodmark.retrying import Patience
from floodmark.state.announced import Notified
from floodmark.state.documents import Documents
from floodmark.stop import Stop

Result = TypeVar("Result")
# Notifications have little time, and can do without the state.
_PATIENCE = Patience(tries=2)


class NotifiedRun:
    """A run with the facts that a message needs. `until_told` returns when all channels are told.

    Raises ConfigError for a channel that can't be used. The others are told of that.
    """

    def __init__(self, settings: Settings, streams: CommandStreams) -> None:
        self._settings, self._streams = settings, streams
        try:
            self._channels = open_channels(settings.notify)
        except ConfigError as error:
            tell_refusal(error, settings.notify, streams)
            raise
        self._facts = FactCollector(configured_database(settings, streams.environ))
        self._recorded: Callable[[Notified], object] = lambda notified: None

    def until_told(self, work: Callable[[NotifiedRun], int]) -> int:
        """Do the work, and tell how it ended. Returns its exit code, or raises its error."""
        try:
            code = work(self)
        except BaseException as error:
            self._tell(self._facts.facts(exit_code_of(error), error), error)
            raise
        self._tell(self._facts.facts(code, None), None)
        return code

    def watched(self, work: Work[RunResult]) -> Work[RunResult]:
        """Return work that keeps the facts of the run."""

        def watching(observer: Observer, stop: Stop) -> RunResult:
            def both(event: Event) -> None:
                self._facts.observe(event)
                observer(event)

            self._facts.result = work(both, stop)
            return self._facts.result

        return watching

    def add_problem(self, error: FloodmarkError) -> None:
        """Add what failed after the commit."""
        self._facts.after_commit.append(error)

    def when_recorded(self, take: Callable[[Notified], object]) -> None:
        """Call this function with the new numbers of notifications."""
        self._recorded = take

    def _tell(self, facts: RunFacts, error: BaseException | None) -> None:
        # A state that belongs to another database is left as it is.
        documents = None if isinstance(error, SourceMismatch) else self._documents()
        told = tell(facts, self._channels, self._settings.notify, documents, _observer(self._streams.log))
        _log_outcomes(self._streams.log, told.outcomes)
        if told.notified is not None:
            self._recorded(told.notified)

    def _documents(self) -> Documents | None:
        try:
            ledger = open_ledger(self._settings, ignore_event, _PATIENCE)
        except FloodmarkError:
            return None
        return None if ledger is None else ledger.documents


def tell_refusal(error: FloodmarkError, settings: NotifySettings, streams: CommandStreams) -> None:
    """Tell the channels that can be used that a run could not begin. There is no state, so no interval counts."""
    facts = facts_of_refusal(error, configured_database(None, streams.environ))
    told = tell(facts, open_channels(settings, lenient=True), settings, None, _observer(streams.log))
    _log_outcomes(streams.log, told.outcomes)


def _observer(log: Log) -> Observer:
    def observe(event: Event) -> None:
        log.observe(event)

    return observe


def _log_outcomes(log: Log, outcomes: Sequence[Outcome]) -> None:
    for one in outcomes:
        kinds = ",".join(one.kinds)
        if one.result == "sent":
            log.write(Line("notification_sent", {"channel": one.channel, "kinds": kinds}))
        elif one.result == "held":
            log.write(Line("notification_held", {"channel": one.channel, "kinds": kinds}))
        else:
            fields = {"channel": one.channel, "kinds": kinds, "why": one.why, "hint": one.hint}
            log.write(Line("notification_failed", fields))
