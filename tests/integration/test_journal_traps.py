"""Traps of the proof by the journal: what would hide a write from it must lead to the counting proof."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from fix_catalog import MODS
from fix_journal import (
    REMOVE,
    UPDATE,
    JournaledJob,
    always,
    enable_sql,
    facts_of,
    install_sql,
    pass_bucket,
    trim,
)
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.config import Limits, Secret
from floodmark.source.postgres.snapshot import PostgresSource

MakeNightly = Callable[[PgDatabase], Nightly]
MakeServer = Callable[..., Cluster]
MakeStandby = Callable[[Cluster], Cluster]
NOTHING = """
    CREATE OR REPLACE FUNCTION floodmark.record_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN RETURN NULL; END $$
"""


# Statements that hide the write from the journal. What is there afterwards is just what was there before.
UNSEEN = {
    "disabled for a while": (always("DISABLE"), UPDATE, always("ENABLE ALWAYS")),
    "all triggers disabled for a while": (
        "ALTER TABLE person DISABLE TRIGGER ALL", UPDATE, "ALTER TABLE person ENABLE TRIGGER ALL",
        always("ENABLE ALWAYS")
    ),
    "for replicas only, for a while": (always("ENABLE REPLICA"), UPDATE, always("ENABLE ALWAYS")),
    "dropped and made again": (
        "DROP TRIGGER floodmark_journal ON person; DROP TRIGGER floodmark_journal_truncate ON person", UPDATE,
        enable_sql("person")
    ),
    "the function is replaced for a while": ("{nothing}", UPDATE, "{restored}"),
    "rows are deleted": (UPDATE, "DELETE FROM floodmark.journal"),
    "rows are updated": (UPDATE, "UPDATE floodmark.journal SET relation = 1"),
    "truncated": (UPDATE, "TRUNCATE floodmark.journal"),
    "removed and installed again": (UPDATE, REMOVE, install_sql(), enable_sql("person")),
    "another journal in its place for a while": (
        "ALTER TABLE floodmark.journal RENAME TO away; CREATE TABLE floodmark.journal (LIKE floodmark.away)", UPDATE,
        "DROP TABLE floodmark.journal; ALTER TABLE floodmark.away RENAME TO journal"
    ),
    "another schema in its place for a while": (
        "ALTER SCHEMA floodmark RENAME TO away; CREATE SCHEMA floodmark; "
        "CREATE TABLE floodmark.journal (LIKE away.journal)", UPDATE,
        "DROP SCHEMA floodmark CASCADE; ALTER SCHEMA away RENAME TO floodmark"
    ),
    "a rule discards its rows for a while": (
        "CREATE RULE away AS ON INSERT TO floodmark.journal DO INSTEAD NOTHING", UPDATE,
        "DROP RULE away ON floodmark.journal", "VACUUM floodmark.journal"
    ),
}  # fmt: skip
# What is left as it is: nothing can be proven, and the reason says what to do.
UNUSABLE = {
    "disabled": ((always("DISABLE"),), "the journal of public.person is not on"),
    "not in every session": ((always("ENABLE"),), "the journal of public.person is not on"),
    "as pg_restore --disable-triggers leaves it": (
        ("ALTER TABLE person DISABLE TRIGGER ALL", "ALTER TABLE person ENABLE TRIGGER ALL"), "is not on"
    ),
    "for replicas only": ((always("ENABLE REPLICA"),), "is not on"),
    "only if a condition holds": (
        ("DROP TRIGGER floodmark_journal ON person; CREATE TRIGGER floodmark_journal AFTER INSERT OR UPDATE OR DELETE "
         "ON person WHEN (false) EXECUTE FUNCTION floodmark.record_write(); " + always("ENABLE ALWAYS"),), "is not on"
    ),
    "only some events": (
        ("DROP TRIGGER floodmark_journal ON person; CREATE TRIGGER floodmark_journal AFTER INSERT OR DELETE "
         "ON person EXECUTE FUNCTION floodmark.record_write(); " + always("ENABLE ALWAYS"),), "is not on"
    ),
    "only some columns": (
        ("DROP TRIGGER floodmark_journal ON person; CREATE TRIGGER floodmark_journal AFTER INSERT OR DELETE "
         "OR UPDATE OF id ON person EXECUTE FUNCTION floodmark.record_write(); " + always("ENABLE ALWAYS"),),
        "is not on"
    ),
    "another function": (
        ("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
         "DROP TRIGGER floodmark_journal ON person; CREATE TRIGGER floodmark_journal AFTER INSERT OR DELETE "
         "OR UPDATE ON person EXECUTE FUNCTION nothing(); " + always("ENABLE ALWAYS"),), "is not on"
    ),
    "the function is replaced": ((NOTHING,), "its functions were replaced"),
    "its guard is off": (
        ("ALTER TABLE floodmark.journal DISABLE TRIGGER guard_delete",), "triggers on the journal's own tables"
    ),
    "a trigger discards its rows": (
        ("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
         "CREATE TRIGGER nothing BEFORE INSERT ON floodmark.journal FOR EACH ROW EXECUTE FUNCTION nothing()",),
        "triggers on the journal's own tables"
    ),
    "a rule discards its rows": (
        ("CREATE RULE away AS ON INSERT TO floodmark.journal DO INSTEAD NOTHING",), "not as Floodmark made them"
    ),
    "inherited": (
        ("CREATE TABLE child () INHERITS (floodmark.journal)",), "not as Floodmark made them"
    ),
    "unlogged": (("ALTER TABLE floodmark.journal SET UNLOGGED",), "not as Floodmark made them"),
    "rows are deleted": (
        ("INSERT INTO floodmark.journal VALUES (1, 1::bigint << 40); DELETE FROM floodmark.journal",),
        "floodmark journal trim"
    ),
    "no floor": (("DELETE FROM floodmark.journal_floor",), "floor is missing"),
    "no journal": ((REMOVE,), "not installed: floodmark journal install"),
    "an extension writes past triggers": ((
            MODS + "UPDATE pg_extension SET extname = 'pglogical' WHERE extname = 'plpgsql'",
        ), "pglogical can write"),
}  # fmt: skip


@pytest.mark.parametrize("how", UNSEEN)
def test_an_unseen_write_is_counted(ready: JournaledJob, how: str) -> None:
    restored = ready.database.value("SELECT pg_get_functiondef('floodmark.record_write'::regproc)")
    made = [one.replace("{nothing}", NOTHING).replace("{restored}", restored) for one in UNSEEN[how]]
    assert ready.day(*made) == "rows_changed"
    assert ready.day() == "unchanged" or ready.day() == "journal"


@pytest.mark.parametrize("how", UNUSABLE)
def test_a_journal_that_is_not_as_it_was_made(ready: JournaledJob, how: str) -> None:
    statements, why = UNUSABLE[how]
    assert ready.day(*statements) == "unchanged"
    assert why in ready.detail()
    assert ready.day() == "unchanged"
    assert ready.day(UPDATE) == "rows_changed"


def test_the_function_was_replaced_while_a_transaction_was_open(ready: JournaledJob) -> None:
    """It ran while nothing was recorded, and it commits when all is as it was: a new function waits for no writer."""
    restored = ready.database.value("SELECT pg_get_functiondef('floodmark.record_write'::regproc)")
    ready.database.execute(NOTHING)
    with ready.database.connect() as writer:
        writer.execute(UPDATE)
        ready.database.execute(restored)
        assert ready.day() == "unchanged"
        writer.commit()
    assert ready.day() == "rows_changed"
    assert [ready.day() for _ in range(2)] == ["journal", "journal"]


def test_a_journal_is_believed_only_if_nobody_ran_before_it(ready: JournaledJob) -> None:
    """It was replaced and restored, and whoever is open now can have run under the other one."""
    restored = ready.database.value("SELECT pg_get_functiondef('floodmark.record_write'::regproc)")
    with ready.database.connect() as other:
        other.execute("SELECT pg_current_xact_id()")
        assert [ready.day(NOTHING, restored) for _ in range(2)] == ["unchanged", "unchanged"]
    assert [ready.day() for _ in range(3)] == ["unchanged", "journal", "journal"]


def test_a_journal_is_turned_on_only_when_no_writer_is_open(ready: JournaledJob) -> None:
    """The proof needs this: who writes before the triggers are there has ended before they are."""
    ready.database.execute(
        "DROP TRIGGER floodmark_journal ON person; DROP TRIGGER floodmark_journal_truncate ON person"
    )
    with ready.database.connect() as writer, ready.database.connect() as owner:
        writer.execute(UPDATE)
        owner.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            owner.execute(enable_sql("person"))


# Transactions across runs


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK"])
def test_a_transaction_stays_open_across_runs(ready: JournaledJob, how: str) -> None:
    with closing(ready.database.connect()) as writer:
        writer.execute(UPDATE)
        assert ready.day() in ("unchanged", "journal")
        assert ready.day() in ("unchanged", "journal")
        writer.execute(how)
    assert ready.day() == ("rows_changed" if how == "COMMIT" else "journal")


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK"])
def test_a_transaction_stays_prepared_across_runs(ready: JournaledJob, how: str) -> None:
    gid = ready.database.name
    ready.database.execute(f"BEGIN; SAVEPOINT a; {UPDATE}; RELEASE a; PREPARE TRANSACTION '{gid}'")
    assert ready.day() in ("unchanged", "journal")
    assert ready.day() in ("unchanged", "journal")
    ready.database.execute(f"{how} PREPARED '{gid}'")
    assert ready.day() == ("rows_changed" if how == "COMMIT" else "journal")


def test_a_transaction_relies_on_the_row_of_another(ready: JournaledJob) -> None:
    """Both are in one bucket: the second one records nothing, and ends after a run that saw the first one."""
    ready.database.execute("UPDATE person SET name = 'first' WHERE id = 3")
    with ready.database.connect() as second:
        second.execute(UPDATE)
        ready.job.run(detect="journal")
        second.commit()
    assert ready.day() == "rows_changed"


# Trimming


def test_what_was_trimmed_away_is_counted(ready: JournaledJob) -> None:
    """The write of a transaction is gone from the journal, but the floor says how much can be."""
    ready.database.execute(UPDATE)
    for _ in range(2):
        pass_bucket(ready.database)
        trim(ready.database)
    assert not ready.database.query("SELECT FROM floodmark.journal")
    assert ready.day() == "rows_changed"
    assert ready.day() == "journal"


def test_a_trim_is_no_reason_to_count_twice(ready: JournaledJob) -> None:
    trim(ready.database)
    assert [ready.day() for _ in range(2)] == ["journal", "journal"]
    pass_bucket(ready.database)
    trim(ready.database)
    assert [ready.day() for _ in range(2)] == ["unchanged", "journal"]


def test_a_slow_run_sees_the_journal_as_its_snapshot_does(ready: JournaledJob) -> None:
    """A trim under the snapshot takes rows away that the snapshot still shows."""
    ready.database.execute(UPDATE)
    pass_bucket(ready.database)
    snapshot = PostgresSource(Secret(ready.database.url), Limits(), None).snapshot()
    for _ in range(2):
        trim(ready.database)
        pass_bucket(ready.database)
    facts = facts_of(snapshot)
    assert facts.doubt is None and facts.newest > 0 and facts.floor < facts.newest
    snapshot.close()


# The journal changes under the snapshot


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE floodmark.journal",
        "VACUUM FULL floodmark.journal",
        "TRUNCATE floodmark.journal_floor",
        "ALTER TABLE floodmark.journal RENAME TO x; CREATE TABLE floodmark.journal (LIKE floodmark.x)",
        "ALTER TABLE floodmark.journal RENAME TO x; CREATE VIEW floodmark.journal AS SELECT * FROM floodmark.x LIMIT 0",
        "ALTER SCHEMA floodmark RENAME TO away",
        "ALTER SCHEMA floodmark RENAME TO away; CREATE SCHEMA floodmark; CREATE TABLE floodmark.journal "
        "(LIKE away.journal); CREATE TABLE floodmark.journal_floor AS SELECT * FROM away.journal_floor",
        "ALTER TABLE floodmark.journal RENAME TO x; ALTER TABLE floodmark.twin RENAME TO journal",
        "ALTER TABLE floodmark.journal_floor RENAME TO x; ALTER TABLE floodmark.low RENAME TO journal_floor",
        "DROP TABLE floodmark.journal",
    ],
)
def test_the_journal_is_read_as_the_snapshot_means_it(ready: JournaledJob, statement: str) -> None:
    """A name is looked up in the present catalog, and a new file is empty for an old snapshot."""
    twins = "CREATE TABLE floodmark.twin (LIKE floodmark.journal); CREATE TABLE floodmark.low AS SELECT '1'::xid8 floor"
    ready.database.execute(f"{twins}; {UPDATE}")
    snapshot = PostgresSource(Secret(ready.database.url), Limits(), None).snapshot()
    ready.database.execute(statement)
    doubt = facts_of(snapshot).doubt
    assert doubt is not None and ("while they were read" in doubt or "could not be read" in doubt)
    snapshot.close()


def test_a_journal_that_somebody_locks_is_not_waited_for(ready: JournaledJob) -> None:
    with ready.database.connect() as owner:
        owner.execute("LOCK TABLE floodmark.journal IN ACCESS EXCLUSIVE MODE")
        ready.job.run(detect="journal")
    ready.job.require_truth()
    assert "could not be read (LockNotAvailable)" in ready.detail()


def test_reading_the_journal_leaves_no_lock(ready: JournaledJob) -> None:
    snapshot = PostgresSource(Secret(ready.database.url), Limits(), None).snapshot()
    facts_of(snapshot)
    ready.database.execute("SET lock_timeout = '1s'; LOCK TABLE floodmark.journal IN ACCESS EXCLUSIVE MODE")
    snapshot.close()
