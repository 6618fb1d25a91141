"""One state as the exporter last read it: its facts, and its series as text.

The manifest of a state can be large. Only the facts and the text that were made from it are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from msgspec import Struct
from msgspec.structs import replace

from floodmark.errors import ConfigError, FloodmarkError
from floodmark.metrics.exposition import Lines, lines_of, with_state
from floodmark.metrics.ledger_facts import NEVER, LedgerFacts, read_facts
from floodmark.metrics.values import MetricValue, about_runs, about_table, about_the_ledger
from floodmark.model import TableEntry
from floodmark.state.ledger import Ledger

# Tables whose series are made at a time. The values of a table take far more memory than their text.
_TABLES = 100
# Manifests in memory at once, of all states: one of 10 TB takes 100 MB. States without news do not wait for them.
_manifests = threading.Semaphore(2)


class Reading(Struct, frozen=True, kw_only=True):
    """The last known facts of a state, and the text of its series.

    `read` is the time of the last reading that succeeded, in seconds since 1970. `error` is why the newest one failed.
    `label` is the state's location if each series has the label `state_url`, else None.
    """

    url: str
    label: str | None = None
    facts: LedgerFacts | None = None
    runs: Lines = {}
    tables: Lines = {}
    read: float = NEVER
    error: FloodmarkError | None = None

    @property
    def up(self) -> bool:
        return self.read != NEVER and self.error is None

    @property
    def database(self) -> str | None:
        """Return the database's name, or None if the state shows nothing."""
        return self.facts.database if self.facts is not None and self.runs else None


def read_again(ledger: Ledger, before: Reading, clock: Callable[[], float]) -> Reading:
    """Return a new reading of a state. If it fails, it is the one before with the error."""
    try:
        facts, tables = _facts_and_tables(ledger, before)
        runs = lines_of(_labelled(about_runs(facts), before.label))
    except FloodmarkError as failed:
        return replace(before, error=failed)
    return replace(before, facts=facts, runs=runs, tables=tables, read=clock(), error=None)


def _facts_and_tables(ledger: Ledger, before: Reading) -> tuple[LedgerFacts, Lines]:
    """Return the facts of a state without the manifest, and the series of its tables."""
    with ExitStack() as turn:
        facts = read_facts(ledger, before.facts, lambda: turn.enter_context(_manifests))
        if facts.manifest is not None:
            tables = _table_lines(facts.database, facts.manifest.tables, before.label)
            return facts.without_manifest(), tables
    return facts, before.tables if facts.commit is not None else {}


def told_apart(readings: Sequence[Reading]) -> list[Reading]:
    """Return the readings, and for each state whose database's name is taken an error instead of its series.

    With that label every name is free. The first state of a name has it, in the order of the list.
    """
    owners: dict[str, Reading] = {}
    shown = []
    for one in readings:
        name = one.database
        owner = one if name is None or one.label is not None else owners.setdefault(name, one)
        shown.append(one if owner is one else replace(one, runs={}, tables={}, error=_name_taken(one, owner)))
    return shown


def about_reading(one: Reading, *, several: bool) -> Lines:
    """Return the series that tell if a state can be read. Among several states they have the label `state_url`."""
    values = about_the_ledger(one.up, one.read)
    return lines_of(with_state(values, one.url) if several or one.label is not None else values)


def _table_lines(database: str, entries: Sequence[TableEntry], label: str | None) -> Lines:
    parts: dict[str, list[bytes]] = {}
    for start in range(0, len(entries), _TABLES):
        values = (value for entry in entries[start : start + _TABLES] for value in about_table(database, entry))
        for name, lines in lines_of(_labelled(values, label)).items():
            parts.setdefault(name, []).append(lines)
    return {name: b"".join(found) for name, found in parts.items()}


def _labelled(values: Iterable[MetricValue], label: str | None) -> Iterable[MetricValue]:
    return values if label is None else with_state(values, label)


def _name_taken(one: Reading, owner: Reading) -> ConfigError:
    why = f"its database has the same name as that of {owner.url}"
    return ConfigError("a state is not shown", on=one.url, why=why, hint="Start the exporter with --state-label.")
