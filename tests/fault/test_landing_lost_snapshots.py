"""A landing zone whose run loses its snapshot after it sent a table: the receiver got last what is published."""

from __future__ import annotations

from typing import Any

import pytest

from fix_runs import Nightly
from floodmark.events import ChunkDone, Event

SERVICE = """
    CREATE TABLE split (id int, v text) PARTITION BY LIST (id);
    CREATE TABLE one PARTITION OF split FOR VALUES IN (1); CREATE TABLE two PARTITION OF split FOR VALUES IN (2);
    INSERT INTO split VALUES (1, 'one'), (2, 'two')
"""
# What happens to the leaf `two` after the run has sent the table, and before it looks at definitions again.
AFTER_SENDING = {
    "a leaf is dropped": "DROP TABLE two",
    "a leaf is detached": "ALTER TABLE split DETACH PARTITION two",
    "a column there and back, a row deleted": "ALTER TABLE two RENAME TO x; ALTER TABLE x RENAME TO two; "
    "ALTER TABLE split RENAME v TO w; ALTER TABLE split RENAME w TO v; DELETE FROM two WHERE v = 'new'",
    "another leaf comes": "CREATE TABLE three PARTITION OF split FOR VALUES IN (3)",
}


@pytest.mark.parametrize("what", AFTER_SENDING)
@pytest.mark.parametrize("stateless", [False, True])
def test_the_receiver_has_what_is_published(nightly: Nightly, what: str, stateless: bool) -> None:
    database = nightly.database
    database.execute(SERVICE)
    state = None if stateless else str(nightly.folder.parent / "state")
    changes: dict[str, Any] = {"layout": "moj-landing", "compression": "none", "state_url": state}
    if not stateless:
        nightly.run(**changes)
    database.execute("INSERT INTO split VALUES (2, 'new')")
    done: list[Event] = []

    def act(event: Event) -> None:
        if isinstance(event, ChunkDone):
            done.append(event)
            if len(done) == 2:
                database.execute(AFTER_SENDING[what])

    nightly.run_observed(act, **changes)
    for _ in range(1 if stateless else 2):
        expected = sorted(row[0] for row in database.query("SELECT v FROM split"))
        newest = list(nightly.received()["split"].items())[-1][1]
        assert sorted(line.split(b'"')[5].decode() for line in newest) == expected
        assert nightly.entry("public.split").rows == len(expected)
        if not stateless:
            nightly.run(**changes)
            assert nightly.outcome("public.split")[0] == "unchanged", nightly.entry("public.split").reason
