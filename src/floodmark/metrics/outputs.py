"""The outputs of a run's own metrics: a port during the run, a Pushgateway, and a file.

They show the ledger's facts from the start of the run, plus the run's own reports since. So a run that fails removes
nothing. An error here becomes a warning and never fails a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType

from msgspec.structs import replace
from prometheus_client import write_to_textfile

from floodmark.config import Metrics
from floodmark.errors import ConfigError, FloodmarkError, Stopped, exit_code_of
from floodmark.events import Event, Observer, RunEnded, Warned
from floodmark.metrics.exposition import registry, registry_page
from floodmark.metrics.ledger_facts import LedgerFacts
from floodmark.metrics.live import LiveTotals, add_event
from floodmark.metrics.push import PushFailed, push
from floodmark.metrics.server import MetricsServer
from floodmark.metrics.values import MetricValue, about_chunks, about_itself, about_runs
from floodmark.model import Ended
from floodmark.state.announced import Notified
from floodmark.state.manifest import Manifest
from floodmark.wording import iso_time


class MetricsOutputs:
    """Context manager that sends a run's events through `observe` and on to `observer`.

    `known` reads the ledger's facts. `database` is the database's name in the configuration, used until another source
    tells its name.
    """

    def __init__(self, wanted: Metrics, observer: Observer, known: Callable[[], LedgerFacts], database: str) -> None:
        self._wanted, self._observer, self._read, self._database = wanted, observer, known, database
        self._lock = threading.Lock()
        self._known = LedgerFacts()
        self._live: LiveTotals | None = None
        self._ended: Ended | None = None
        self._manifest: Manifest | None = None
        self._server: MetricsServer | None = None

    def __enter__(self) -> MetricsOutputs:
        began = datetime.now(UTC).timestamp()
        try:
            self._known = self._read()
        except FloodmarkError as error:
            self._known = LedgerFacts(unread=True)
            self._warn(f"metrics begin without the facts of the state: {error.sentence}")
        self._live = LiveTotals(self._known.database or self._database, began)
        if self._wanted.port is not None:
            self._serve(self._wanted.address, self._wanted.port)
        self._send()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._ended is None and error is not None:
                self._ended = _ended(self._live, error)
            if self._ended is not None:
                self._known, self._live = self._known.after_run(self._ended, self._manifest), None
        self._send()

    def observe(self, event: Event) -> None:
        """Count an event, and pass it on."""
        with self._lock:
            if isinstance(event, RunEnded):
                self._ended = event.ended
            elif self._live is not None:
                self._live = add_event(self._live, event)
        self._observer(event)

    def record_manifest(self, manifest: Manifest) -> None:
        """Keep the manifest that the run published. The final values come from it."""
        self._manifest = manifest

    def record_notified(self, notified: Notified) -> None:
        """Export the numbers of notifications again."""
        with self._lock:
            self._known = replace(self._known, notified=notified)
        self._send()

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()

    def values(self) -> Iterator[MetricValue]:
        """Yield all current values."""
        with self._lock:
            known, live = self._known, self._live
        yield from about_itself()
        yield from about_runs(known, live)

    def _served(self) -> Iterator[MetricValue]:
        yield from self.values()
        live = self._live
        if live is not None:
            yield from about_chunks(live)

    def _serve(self, address: str, port: int) -> None:
        try:
            self._server = MetricsServer(address, port, registry_page(registry(self._served)))
        except ConfigError as error:
            self._warn(f"{error.sentence}; the run continues without them")

    def _send(self) -> None:
        """Push and write, if configured."""
        shown = registry(self.values)
        if self._wanted.pushgateway is not None:
            database = self._live.database if self._live is not None else self._known.database
            try:
                push(self._wanted.pushgateway, shown, database)
            except PushFailed as error:
                self._warn(f"metrics can't be pushed: {error}")
        if self._wanted.textfile is not None:
            try:
                write_to_textfile(self._wanted.textfile, shown)
            except OSError as error:
                self._warn(f"metrics can't be written: {self._wanted.textfile}: {error.strerror}")

    def _warn(self, message: str) -> None:
        self._observer(Warned(message))


def _ended(live: LiveTotals | None, error: BaseException) -> Ended:
    """Return the end of a run that failed before it could report its own end."""
    began = datetime.fromtimestamp(live.started if live is not None else 0.0, UTC)
    return Ended(
        run_id="",
        database=live.database if live is not None else "",
        started_at=iso_time(began),
        ended_at=iso_time(datetime.now(UTC)),
        outcome="stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed",
        exit_code=exit_code_of(error),
    )
