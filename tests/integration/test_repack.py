"""REPACK (CONCURRENTLY) under the snapshot of a run: it shows an old snapshot an empty table, without an error."""

from __future__ import annotations

import pytest

from fix_postgres import PgDatabase
from fix_repack import repack_concurrently
from fix_runs import Nightly
from floodmark.events import Event, RunStarted, TableDecided

TABLE = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text, essay text);
    ALTER TABLE person ALTER essay SET STORAGE EXTERNAL
"""
TOASTED, SHORT = 3000, 3  # lengths of a value: with short ones only, lines and count come from one statement


def fill(rows: int, length: int = TOASTED) -> str:
    return (
        "INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200), "
        f"CASE WHEN i % 100 = 0 THEN repeat('e', {length}) END FROM generate_series(1, {rows}) i"
    )


def files(database: PgDatabase) -> tuple[int, ...]:
    (found,) = database.query("SELECT oid, relfilenode FROM pg_class WHERE relname = 'person'")
    return found


def run_while_repacked(nightly: Nightly, at: type[Event]) -> None:
    """Run, and repack the table once when the first event of this kind tells that it is time."""
    times = iter(range(1))

    def observer(event: Event) -> None:
        if isinstance(event, at) and next(times, None) is not None:
            repack_concurrently(nightly.database, "person")

    nightly.run_observed(observer)
    assert next(times, None) is None


def test_an_old_snapshot_sees_an_empty_table(pg_any: PgDatabase) -> None:
    """The trap itself: without it, the other tests here would show nothing."""
    pg_any.execute(TABLE + ";" + fill(500))
    old, new = pg_any.connect(), pg_any.connect()
    old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT count(*) FROM pg_class")
    oid, file = files(pg_any)
    digest = "SELECT count(*), md5(string_agg(p::text, '' ORDER BY id)) FROM person p"
    before = pg_any.query(digest)
    repack_concurrently(pg_any, "person")
    assert files(pg_any)[0] == oid and files(pg_any)[1] != file
    assert new.execute(digest).fetchall() == before == pg_any.query(digest)
    assert old.execute(digest).fetchall() == [(0, None)]
    # What gives it away: the catalog of the snapshot names the old file, and the server reads the new one.
    shown = "SELECT relfilenode = pg_relation_filenode(oid) FROM pg_class WHERE relname = 'person'"
    assert old.execute(shown).fetchone() == (False,)


@pytest.mark.parametrize(
    ("before", "at", "length"),
    [
        ("nothing landed", RunStarted, TOASTED),
        ("nothing landed", TableDecided, SHORT),
        ("landed", RunStarted, SHORT),
        ("landed", TableDecided, TOASTED),
        ("landed and changed", RunStarted, TOASTED),
        ("landed and changed", TableDecided, SHORT),
    ],
)
def test_a_table_that_is_repacked_under_the_snapshot(
    nightly_any: Nightly, before: str, at: type[Event], length: int
) -> None:
    database = nightly_any.database
    database.execute(TABLE + ";" + fill(2000, length))
    if before != "nothing landed":
        nightly_any.run()
    if before == "landed and changed":
        database.execute("UPDATE person SET name = 'changed' WHERE id % 50 = 0")
    run_while_repacked(nightly_any, at)
    nightly_any.require_truth()
    assert len(nightly_any.landed("public.person")) == 2000
    for _ in range(2):  # what was proven before the repack is in the old file, so the next run reads it
        nightly_any.run()
        assert nightly_any.entry("public.person").status == "unchanged"
    assert nightly_any.outcome("public.person") == ("unchanged", "unchanged")


def test_new_blocks_are_not_taken_for_empty_ones(nightly_any: Nightly) -> None:
    """An empty table was landed. A run asks its new blocks for one row, and the repacked file shows none."""
    database = nightly_any.database
    database.execute(TABLE)
    nightly_any.run()
    database.execute(fill(2000))
    run_while_repacked(nightly_any, RunStarted)
    nightly_any.require_truth()
    assert len(nightly_any.landed("public.person")) == 2000


def test_a_repacked_table_is_read_once(nightly_any: Nightly) -> None:
    """From run to run it is one more rewrite: another file."""
    database = nightly_any.database
    database.execute(TABLE + ";" + fill(2000))
    nightly_any.run()
    repack_concurrently(database, "person")
    nightly_any.run()
    assert nightly_any.entry("public.person").reason.code in ("rewritten", "identical")
    nightly_any.require_truth()
    nightly_any.run()
    assert nightly_any.outcome("public.person") == ("unchanged", "unchanged")
