"""The long-lived exporter: it reads states at intervals and serves the last known values.

A scrape reads nothing from a store. While a store is unreachable, the last known values stay, and
floodmark_ledger_up and floodmark_ledger_last_read_timestamp_seconds show the failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from floodmark.errors import FloodmarkError
from floodmark.metrics.exposition import joined, lines_of
from floodmark.metrics.lanes import Lane
from floodmark.metrics.reading import Reading, about_reading, read_again, told_apart
from floodmark.metrics.values import about_itself
from floodmark.state.ledger import Ledger

# A reading that takes longer hangs. A failing one takes a minute at most, with its retries.
_PATIENCE = 600.0
# Seconds between two looks at what is due.
_LOOK = 0.2
# Readings at once. Those of states whose last reading failed have threads of their own, so that they delay no other.
_WIDTH = 8

OnChange = Callable[[str, FloodmarkError | None], None]


class Exporter:
    """The states of one exporter, read in parallel.

    `on_change` receives a state's location with each change between reachable (None) and unreachable (the reason). With
    `state_label`, each series has the state's location as a label.
    """

    def __init__(
        self,
        ledgers: Sequence[Ledger],
        interval: float,
        on_change: OnChange,
        clock: Callable[[], float] = time.time,
        *,
        state_label: bool = False,
    ) -> None:
        self._ledgers, self._interval, self._on_change, self._clock = ledgers, interval, on_change, clock
        self._lock = threading.Lock()
        self._readings = [Reading(url=one.url, label=one.url if state_label else None) for one in ledgers]
        self._shown = self._readings
        self._up: list[bool | None] = [None] * len(ledgers)
        self._due = [0.0] * len(ledgers)
        self._waiting: set[int] = set()
        self._beat = time.monotonic()
        self._lanes = [Lane(self._read, min(_WIDTH, len(ledgers))) for _ in ("fine", "failed")]

    def healthy(self) -> bool:
        """Return true if the states are still being read, even if some are unreachable.

        A restart of the exporter would not bring a state back.
        """
        now = time.monotonic()
        begun = min([self._beat, *(began for lane in self._lanes for began in lane.begun)])
        return now - begun < 3 * self._interval + _PATIENCE

    def text(self) -> list[bytes]:
        """Return all series as text, in pieces."""
        shown = self._shown
        several = len(shown) > 1
        about = [about_reading(one, several=several) for one in shown]
        return joined([lines_of(about_itself()), *about, *(one.runs for one in shown), *(one.tables for one in shown)])

    def readings(self) -> Sequence[Reading]:
        """Return the last reading of each state, in the order of the ledgers, whatever its database's name."""
        return self._readings

    def refresh(self) -> None:
        """Read all states once, one after the other."""
        for number in range(len(self._ledgers)):
            self._read(number)

    def run(self, stop: threading.Event) -> None:
        """Read each state every interval until told to stop."""
        for lane in self._lanes:
            lane.start()
        while not stop.is_set():
            self._beat = time.monotonic()
            for number in self._due_now(self._beat):
                self._lanes[self._readings[number].error is not None].add(number)
            for lane in self._lanes:
                lane.raise_failure()
            stop.wait(_LOOK)

    def _due_now(self, now: float) -> list[int]:
        with self._lock:
            due = [n for n, moment in enumerate(self._due) if n not in self._waiting and moment <= now]
            self._waiting.update(due)
        return due

    def _read(self, number: int) -> None:
        """Read one state, and replace what is shown of it at once, so that no scrape mixes two readings."""
        reading = read_again(self._ledgers[number], self._readings[number], self._clock)
        with self._lock:
            self._readings = [*self._readings[:number], reading, *self._readings[number + 1 :]]
            self._shown = told_apart(self._readings)
            changes = [(n, one) for n, one in enumerate(self._shown) if self._changed(n, one)]
            for n, one in changes:
                self._up[n] = one.up
            self._due[number] = time.monotonic() + self._interval
            self._waiting.discard(number)
        for _, one in changes:
            self._on_change(one.url, one.error)

    def _changed(self, number: int, shown: Reading) -> bool:
        """Return True if a state that was tried can be shown now and could not be before, or the other way round."""
        tried = shown.up or shown.error is not None
        return tried and self._up[number] is not shown.up
