"""The journal in a test's database, as `floodmark journal` installs it and turns it on."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.config import Selection
from floodmark.journal.migrate import upgrade_sql
from floodmark.observed import JournalFacts
from floodmark.source.postgres.journal_names import BUCKET_SHIFT, RECORD_FUNCTION, TRUNCATE_TRIGGER, WRITE_TRIGGER

REMOVE = "DROP SCHEMA floodmark CASCADE"
REMOVE_IF_THERE = "DROP SCHEMA IF EXISTS floodmark CASCADE"
# Every table and partition that a user made.
USER_TABLES = """
    SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND nspname <> 'floodmark'
      AND nspname <> 'information_schema' AND nspname !~ '^pg_'
"""
PASS_BUCKET = f"""DO $$ BEGIN
    FOR i IN 1..{2**BUCKET_SHIFT} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP;
END $$"""


@cache
def install_sql() -> str:
    return upgrade_sql()


def install(database: PgDatabase) -> None:
    database.execute(install_sql())


def enable_sql(relation: str) -> str:
    """Turn the journal on for one relation: not for its partitions, nor for what it belongs to."""
    return "".join(
        f"CREATE TRIGGER {name} BEFORE {events} ON {relation} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION floodmark.{RECORD_FUNCTION}(); "
        f"ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {name}; "
        for name, events in ((WRITE_TRIGGER, "INSERT OR UPDATE OR DELETE"), (TRUNCATE_TRIGGER, "TRUNCATE"))
    )


def enable(database: PgDatabase, *relations: str) -> None:
    for relation in relations:
        database.execute(enable_sql(relation))


def disable_sql(relation: str) -> str:
    return f"DROP TRIGGER {WRITE_TRIGGER} ON {relation}; DROP TRIGGER {TRUNCATE_TRIGGER} ON {relation}"


def pass_bucket(database: PgDatabase) -> None:
    """Let transaction ids go on until every bucket that was written to has ended."""
    database.execute(PASS_BUCKET)


def recorded(database: PgDatabase) -> set[str]:
    """The relations that the journal has a write of."""
    return {name for (name,) in database.query("SELECT DISTINCT relation::regclass::text FROM floodmark.journal")}


PERSON = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text);
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200) FROM generate_series(1, 1000) i
"""
UPDATE = "UPDATE person SET name = 'new' WHERE id = 7"


def always(state: str) -> str:
    """Put both triggers of a table into a state."""
    return f"ALTER TABLE person {state} TRIGGER floodmark_journal, {state} TRIGGER floodmark_journal_truncate"


def trim(database: PgDatabase) -> None:
    database.execute("SELECT floodmark.trim_journal('0')")


def facts_of(snapshot: object) -> JournalFacts:
    (info,) = snapshot.tables(Selection(only=("public.person",), detect="journal"), "")  # type: ignore[attr-defined]
    facts = info.parts[0].journal
    assert isinstance(facts, JournalFacts)
    return facts


class JournaledJob:
    """A nightly job whose tables have `detect: journal`, on a database with a journal."""

    def __init__(self, job: Nightly) -> None:
        self.job, self.database = job, job.database

    def fill(self, *statements: str, journal: tuple[str, ...] = ("person",)) -> None:
        """Make tables, turn their journal on, and run until the journal can prove them."""
        for statement in statements:
            self.database.execute(statement)
        install(self.database)
        enable(self.database, *journal)
        self.settle()

    def settle(self) -> None:
        """Run until the last write is older than what a run remembers."""
        for _ in range(2):
            pass_bucket(self.database)
            self.job.run(detect="journal")

    def day(self, *statements: str, label: str = "public.person", **changes: Any) -> str:
        """Live through a day, run, hold what landed against the database; the table's reason."""
        for statement in statements:
            self.database.execute(statement)
        pass_bucket(self.database)
        self.job.run(**{"detect": "journal", **changes})
        self.job.require_truth()
        return self.job.entry(label).reason.code

    def detail(self, label: str = "public.person") -> str:
        return self.job.entry(label).reason.detail


@pytest.fixture
def journaled(nightly: Nightly) -> JournaledJob:
    return JournaledJob(nightly)


@pytest.fixture
def journaled_any(nightly_any: Nightly) -> JournaledJob:
    return JournaledJob(nightly_any)


@pytest.fixture
def ready(journaled: JournaledJob) -> JournaledJob:
    journaled.fill(PERSON)
    assert journaled.day() == "journal"
    return journaled
