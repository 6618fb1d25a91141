"""The long-lived exporter: it reads the ledger at intervals and serves the last known values.

A scrape reads nothing from the store. While the store is unreachable, the last known values stay, and
floodmark_ledger_up and floodmark_ledger_last_read_timestamp_seconds show the failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from floodmark.errors import FloodmarkError
from floodmark.metrics.exposition import registry
from floodmark.metrics.ledger_facts import LedgerFacts, read_facts
from floodmark.metrics.values import NEVER, MetricValue, about_itself, about_runs, about_the_ledger
from floodmark.state.ledger import Ledger

# A reading that takes longer hangs. A failing one takes a minute at most, with its retries.
_PATIENCE = 600.0


class Exporter:
    """The state of one exporter. `registry` holds its metrics.

    `on_change` receives each change between reachable (None) and unreachable (the reason).
    """

    def __init__(
        self,
        ledger: Ledger,
        interval: float,
        on_change: Callable[[FloodmarkError | None], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._interval, self._on_change, self._clock = ledger, interval, on_change, clock
        self._known: LedgerFacts | None = None
        self._values: tuple[MetricValue, ...] = ()
        self._up: bool | None = None
        self._read = NEVER
        self._beat = time.monotonic()
        self._shown: tuple[MetricValue, ...] = ()
        self.registry = registry(lambda: self._shown)
        self._show()

    def healthy(self) -> bool:
        """Return true if the ledger is still being read, even if it is unreachable.

        A restart of the exporter would not bring the ledger back.
        """
        return time.monotonic() - self._beat < 3 * self._interval + _PATIENCE

    def refresh(self) -> None:
        """Read the ledger and keep its values."""
        before = self._up
        error = None
        try:
            self._known = read_facts(self._ledger, self._known)
            self._values = tuple(about_runs(self._known))
            self._read, self._up = self._clock(), True
        except FloodmarkError as failed:
            error, self._up = failed, False
        self._beat = time.monotonic()
        self._show()
        if self._up != before:
            self._on_change(error)

    def run(self, stop: threading.Event) -> None:
        """Refresh every interval until told to stop."""
        while not stop.is_set():
            self.refresh()
            stop.wait(self._interval)

    def _show(self) -> None:
        """Replace all shown values at once, so that no scrape mixes two readings."""
        self._shown = (*about_itself(), *about_the_ledger(bool(self._up), self._read), *self._values)
