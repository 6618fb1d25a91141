"""A run that serves, pushes or writes its own metrics."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from floodmark.backends import open_ledger
from floodmark.cli.settings import configured_database
from floodmark.config import Settings
from floodmark.events import Observer, ignore_event
from floodmark.metrics.ledger_facts import LedgerFacts, read_facts
from floodmark.metrics.outputs import MetricsOutputs
from floodmark.pipeline import job
from floodmark.pipeline.publish import RunResult
from floodmark.retrying import Patience
from floodmark.state.announced import Notified
from floodmark.stop import Stop

# The run itself retries the store often. Its metrics need fewer retries.
_PATIENCE = Patience(tries=2)


class MeteredRun:
    """Context manager for a run with metrics: `run` does the job, and the port serves its metrics until the end."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._database = configured_database(settings, environ)
        self._outputs: MetricsOutputs | None = None

    def run(self, observer: Observer, stop: Stop) -> RunResult:
        outputs = self._outputs = MetricsOutputs(self._settings.metrics, observer, self._known, self._database)
        with outputs:
            result = job.run(self._settings, outputs.observe, stop)
            outputs.record_manifest(result.manifest)
            return result

    def record_notified(self, notified: Notified) -> None:
        """Export the numbers of notifications, which are sent after the end of the run."""
        if self._outputs is not None:
            self._outputs.record_notified(notified)

    def __enter__(self) -> MeteredRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outputs is not None:
            self._outputs.close()

    def _known(self) -> LedgerFacts:
        ledger = open_ledger(self._settings, ignore_event, _PATIENCE)
        return LedgerFacts(stateless=True) if ledger is None else read_facts(ledger)
