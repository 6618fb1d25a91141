"""The report at the exporter's front page: made of the states that the exporter reads."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from floodmark.errors import FloodmarkError, StorageError
from floodmark.metrics.lanes import Lane
from floodmark.metrics.ledger_facts import LedgerFacts
from floodmark.metrics.page import Document
from floodmark.metrics.reading import Reading
from floodmark.report import StateHistory, UnreadState, read_history, render_html
from floodmark.state.ledger import Ledger

# The runs that the page shows, as `floodmark report` does by default.
_NIGHTS = 30
# Histories that are read at once. Each has a manifest in memory, and a manifest can be large.
_WIDTH = 2
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
_STRICT = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class _Known(Struct, frozen=True):
    """A state's history, and the facts with which it was read."""

    facts: LedgerFacts
    history: StateHistory


class ReportMaker:
    """The report of several states. A state is read again only if the exporter has seen a run there since.

    `readings` gives the exporter's last reading of each state. A state that it can't read is not tried once more.
    """

    def __init__(self, ledgers: Sequence[Ledger], readings: Callable[[], Sequence[Reading]]) -> None:
        self._ledgers, self._readings = ledgers, readings
        self._known: dict[int, _Known] = {}
        self._found: dict[int, StateHistory | UnreadState] = {}
        self._facts: dict[int, LedgerFacts] = {}
        self._failure: Exception | None = None
        self._done = threading.Semaphore(0)
        self._lane = Lane(self._read, min(_WIDTH, len(ledgers)))
        self._lane.start()

    def make(self) -> Document:
        """Return the report as it is now. Raises FloodmarkError if it can't be made."""
        self._found, self._failure = {}, None
        to_read = [n for n, reading in enumerate(self._readings()) if not self._settled(n, reading)]
        for number in to_read:
            self._lane.add(number)
        for _ in to_read:
            self._done.acquire()
        if self._failure is not None:
            raise self._failure
        text = render_html([self._found[n] for n in range(len(self._ledgers))], datetime.now(UTC))
        return Document(text.encode("utf-8"), _policy_of(text))

    def _settled(self, number: int, reading: Reading) -> bool:
        """Find a state's history without a request, if possible."""
        known = self._known.get(number)
        if reading.error is not None:
            self._found[number] = UnreadState(reading.url, reading.error)
        elif reading.facts is None:
            why, hint = "the exporter has not read it yet", "Load the page again in a minute."
            error = StorageError("can't show a state", on=reading.url, why=why, hint=hint)
            self._found[number] = UnreadState(reading.url, error)
        elif known is not None and known.facts == reading.facts:
            self._found[number] = known.history
        else:
            self._facts[number] = reading.facts
            return False
        return True

    def _read(self, number: int) -> None:
        """Read a state's history, or keep the reason why it can't be read."""
        ledger, known = self._ledgers[number], self._known.get(number)
        try:
            history = read_history(ledger, _NIGHTS, None if known is None else known.history)
            self._known[number] = _Known(self._facts[number], history)
            self._found[number] = history
        except FloodmarkError as error:
            self._found[number] = UnreadState(ledger.url, error)
        except Exception as error:  # a bug: the page fails, and the exporter goes on
            self._failure = error
        finally:
            self._done.release()


def _policy_of(text: str) -> str:
    """Return the policy that the page states itself, so that browsers apply the same one."""
    found = _POLICY.search(text)
    return _STRICT if found is None else html.unescape(found[1])
