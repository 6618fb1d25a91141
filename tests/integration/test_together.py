"""Many small tables counted by one statement: each answer is about its own table, whatever the names led to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.config import Limits, Secret, Selection
from floodmark.errors import FloodmarkError, SnapshotLost, SourceError
from floodmark.model import Chunk
from floodmark.observed import Observation, Question
from floodmark.source.postgres import together
from floodmark.source.postgres.snapshot import PostgresSource

TABLES = "; ".join(f"CREATE TABLE t{n} AS SELECT generate_series(1, {n}) AS i" for n in range(5))
NAMES = [f"public.t{n}" for n in range(5)]


class Counted:
    """A snapshot of a test's database, and the answers to questions about whole tables."""

    def __init__(self, database: PgDatabase) -> None:
        self.snapshot = PostgresSource(Secret(database.url), Limits(connections=2, lock_timeout=1), None).snapshot()
        self.tables = {info.table.label: info for info in self.snapshot.tables(Selection(), "")}

    def question(self, label: str) -> Question:
        info = self.tables[label]
        (part,) = info.parts
        return Question(info.table, part, Chunk(part.id, 0, 8), True, self.snapshot.point.xmin or 0)

    def ask(self, *labels: str) -> list[Observation]:
        return list(self.snapshot.observe([self.question(label) for label in labels]))

    def rows(self, *labels: str) -> list[int]:
        return [seen.rows for seen in self.ask(*labels)]


@pytest.fixture
def count(pg_any: PgDatabase) -> Iterator[Callable[[], Counted]]:
    """Take a snapshot of the test's database, as it is now."""
    taken: list[Counted] = []

    def take() -> Counted:
        taken.append(Counted(pg_any))
        return taken[-1]

    yield take
    for one in taken:
        one.snapshot.close()


def test_one_statement_gives_the_answers_of_many(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    """The same three counts and the same file as one question at a time, and far fewer statements."""
    pg_any.execute(TABLES)
    pg_any.execute("DELETE FROM t4 WHERE i = 1; UPDATE t3 SET i = i")
    held = count()
    pg_any.execute("INSERT INTO t2 VALUES (7)")
    assert held.ask(*NAMES) == [held.ask(name)[0] for name in NAMES]
    assert held.rows(*NAMES) == [0, 1, 2, 3, 3]
    later = count()
    older = [Question(*one) for one in ((q.table, q.part, q.chunk, q.open, 3) for q in map(later.question, NAMES))]
    assert [seen.young for seen in later.snapshot.observe(older)] == [0, 1, 3, 3, 3]


def test_more_tables_than_one_statement_takes(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    number = 2 * together.MOST_QUESTIONS + 1
    pg_any.execute("; ".join(f"CREATE TABLE m{n:03} AS SELECT generate_series(1, {n}) AS i" for n in range(number)))
    assert count().rows(*(f"public.m{n:03}" for n in range(number))) == list(range(number))


def test_a_table_that_is_asked_about_twice(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    pg_any.execute(TABLES)
    assert count().rows("public.t2", "public.t3", "public.t2") == [2, 3, 2]


def test_two_names_exchanged(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    """All that was expected is locked, and nothing else. Only the rows tell whose they are."""
    pg_any.execute(TABLES)
    held = count()
    pg_any.execute("ALTER TABLE t1 RENAME TO x; ALTER TABLE t2 RENAME TO t1; ALTER TABLE x RENAME TO t2")
    with pytest.raises(SnapshotLost, match="replaced"):
        held.rows(*NAMES)


def test_an_empty_table_in_the_place_of_a_full_one(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    pg_any.execute(TABLES)
    held = count()
    pg_any.execute("ALTER TABLE t0 RENAME TO x; ALTER TABLE t2 RENAME TO t0; ALTER TABLE x RENAME TO t2")
    with pytest.raises(SnapshotLost, match="replaced"):
        held.rows(*NAMES)


def test_two_empty_tables_exchanged_are_both_empty(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    pg_any.execute(TABLES + "; CREATE TABLE e (i int)")
    held = count()
    pg_any.execute("ALTER TABLE t0 RENAME TO x; ALTER TABLE e RENAME TO t0; ALTER TABLE x RENAME TO e")
    assert held.rows("public.e", *NAMES) == [0, 0, 1, 2, 3, 4]


REPLACEMENTS = {
    "a table that was not asked about": "ALTER TABLE t2 RENAME TO x; ALTER TABLE other RENAME TO t2",
    "an empty table that was not asked about": "ALTER TABLE t0 RENAME TO x; ALTER TABLE nothing RENAME TO t0",
    "a table that is new": "ALTER TABLE t2 RENAME TO x; CREATE TABLE t2 AS SELECT 1 AS i",
    "a view of the table": "ALTER TABLE t2 RENAME TO x; "
    "CREATE VIEW t2 AS SELECT tableoid, ctid, xmin, i FROM x WHERE i < 2",
    "a parent": "ALTER TABLE t0 RENAME TO x; CREATE TABLE t0 (i int); ALTER TABLE x INHERIT t0",
    "a partitioned table": "ALTER TABLE t0 RENAME TO x; CREATE TABLE t0 (i int) PARTITION BY LIST (i)",
    "nothing": "DROP TABLE t2",
}


@pytest.mark.parametrize("act", REPLACEMENTS.values(), ids=list(REPLACEMENTS))
def test_something_else_in_a_tables_place(pg_any: PgDatabase, count: Callable[[], Counted], act: str) -> None:
    pg_any.execute(TABLES + "; CREATE TABLE other AS SELECT 1 AS i; CREATE TABLE nothing (i int)")
    held = count()
    pg_any.execute(act)
    with pytest.raises(SourceError):
        held.rows(*NAMES)


@pytest.mark.parametrize("act", ["TRUNCATE t3", "VACUUM FULL t3"])
def test_a_table_that_is_rewritten(pg_any: PgDatabase, count: Callable[[], Counted], act: str) -> None:
    pg_any.execute(TABLES)
    held = count()
    pg_any.execute(act)
    with pytest.raises(SnapshotLost, match="rewritten"):
        held.rows(*NAMES)


def test_a_locked_table_holds_up_no_other(pg_any: PgDatabase, nightly_any: Nightly) -> None:
    """The others are answered, and the run waits for the locked one as long as its limits allow, and no longer."""
    pg_any.execute(TABLES)
    nightly_any.run()
    with pg_any.connect() as migration:
        migration.execute("LOCK TABLE t2 IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        nightly_any.run(lock_timeout=2, audit_share=0.0)
        assert time.monotonic() - begun < 30
        outcomes = nightly_any.outcomes()
        migration.rollback()
    assert outcomes.pop("public.t2")[0] == "failed"
    assert set(outcomes.values()) == {("unchanged", "unchanged")}


def test_a_table_without_rights_holds_up_no_other(pg_any: PgDatabase, count: Callable[[], Counted]) -> None:
    pg_any.execute(TABLES)
    held = count()
    assert held.rows(*NAMES) == [0, 1, 2, 3, 4]
    pg_any.execute("ALTER TABLE t2 ALTER COLUMN i TYPE bigint")
    with pytest.raises(FloodmarkError, match="t2"):
        held.rows("public.t2")
    assert held.rows(*(name for name in NAMES if name != "public.t2")) == [0, 1, 3, 4]
