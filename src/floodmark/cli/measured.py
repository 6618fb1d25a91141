"""A run that serves, pushes or writes its own metrics, as the command line uses it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from urllib.parse import unquote, urlsplit

from floodmark.backends import open_ledger
from floodmark.cli.output import Session
from floodmark.cli.signals import StopSignals
from floodmark.config import Settings
from floodmark.events import Observer, ignore_event
from floodmark.metrics.known import LedgerFacts, read_facts
from floodmark.metrics.outputs import WaysOut
from floodmark.pipeline import job as runs
from floodmark.pipeline.publish import RunResult
from floodmark.retrying import Patience

# The run itself retries the store often. Its metrics need fewer retries.
_PATIENCE = Patience(tries=2)


class Measured:
    """Context manager for a run with metrics: `run` does the job, and the port serves its metrics."""

    def __init__(self, settings: Settings, session: Session) -> None:
        self._settings = settings
        self._database = _database(settings, session.environ)
        self._ways: WaysOut | None = None

    def run(self, observer: Observer, stop: StopSignals) -> RunResult:
        ways = self._ways = WaysOut(self._settings.metrics, observer, self._known, self._database)
        with ways:
            result = runs.run(self._settings, ways.observe, stop.event)
            ways.published(result.manifest)
            return result

    def __enter__(self) -> Measured:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ways is not None:
            self._ways.close()

    def _known(self) -> LedgerFacts:
        ledger = open_ledger(self._settings, ignore_event, _PATIENCE)
        return LedgerFacts(stateless=True) if ledger is None else read_facts(ledger)


def _database(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the database name in the configuration, or an empty string if only a service file holds it."""
    url = settings.source.url
    path = "" if url is None else unquote(urlsplit(url.reveal()).path[1:])
    return path or environ.get("PGDATABASE", "")
