"""An audit that finds its table rewritten, replaced or gone since the run's snapshot: the table needs a new one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fix_runs import Nightly
from floodmark.events import Event, RunStarted, TableDecided, Warned

FILL = """
    CREATE TABLE person (id int, name text); CREATE TABLE other (id int, name text);
    INSERT INTO person SELECT i, 'person ' || i || repeat('x', 200) FROM generate_series(1, 900) i;
    INSERT INTO other SELECT i, 'other ' || i || repeat('x', 200) FROM generate_series(1, 900) i
"""
EXCHANGE = "ALTER TABLE person RENAME TO x; ALTER TABLE other RENAME TO person; ALTER TABLE x RENAME TO other"
ACTS = {
    "truncate and fill again": "TRUNCATE person; INSERT INTO person SELECT id, 'again' FROM other",
    "vacuum full": "VACUUM FULL person",
    "exchange": EXCHANGE,
    "create anew": "ALTER TABLE person RENAME TO old; CREATE TABLE person AS SELECT id, 'anew' AS name FROM old",
    "drop": "DROP TABLE person",
}


def once(act: Callable[[], object], at: type[Event], number: int) -> Callable[[Event], None]:
    """Act at an event of a kind, the first time after so many of them."""
    seen: list[Event] = []

    def observe(event: Event) -> None:
        if isinstance(event, at):
            seen.append(event)
            if len(seen) == number:
                act()

    return observe


@pytest.mark.parametrize("kind", ACTS)
def test_an_audit_meets_another_table(nightly_any: Nightly, kind: str) -> None:
    """All is proven unchanged when the other session acts; the run takes a new snapshot and lands what that shows."""
    job = nightly_any
    job.database.execute(FILL)
    job.run()
    job.run_observed(once(lambda: job.database.execute(ACTS[kind]), TableDecided, 2), audit_chunks=99)
    assert not [event.message for event in job.events if isinstance(event, Warned)]
    assert sum(isinstance(event, RunStarted) for event in job.events) == 2
    dropped = {entry.table.label for entry in job.last.tables if entry.status == "dropped"} if job.last else set()
    assert dropped == ({"public.person"} if kind == "drop" else set())
    job.require_truth()
