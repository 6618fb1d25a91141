"""The proof by the journal on real servers: no question where nothing was written, and every write is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fix_catalog import begin
from fix_command import Floodmark
from fix_journal import JournaledJob, disable_sql, enable, install, pass_bucket, recorded
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.config import Limits, Selection, TableRule
from floodmark.errors import VerificationFailed
from floodmark.events import StepStarted, Warned
from floodmark.source.postgres.catalog import read_tables
from floodmark.source.postgres.journal import with_journal
from floodmark.source.postgres.journal_objects import KNOWN_FUNCTIONS, read_installed

PERSON = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text);
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200) FROM generate_series(1, 1000) i
"""
ORDERS = """
    CREATE TABLE orders (id int PRIMARY KEY, person bigint REFERENCES person ON DELETE CASCADE ON UPDATE CASCADE);
    INSERT INTO orders SELECT i, i FROM generate_series(1, 50) i;
    CREATE VIEW some_people AS SELECT * FROM person WHERE id < 100
"""
VISIT = """
    CREATE TABLE visit (id int, n int, v text) PARTITION BY RANGE (id);
    CREATE TABLE visit_a PARTITION OF visit FOR VALUES FROM (0) TO (300);
    CREATE TABLE visit_b PARTITION OF visit FOR VALUES FROM (300) TO (600) PARTITION BY LIST (n);
    CREATE TABLE visit_b0 PARTITION OF visit_b FOR VALUES IN (0);
    CREATE TABLE visit_b1 PARTITION OF visit_b DEFAULT;
    INSERT INTO visit SELECT i, i % 2, 'visit ' || i FROM generate_series(1, 599) i
"""
VISITS = ("visit", "visit_a", "visit_b", "visit_b0", "visit_b1")

HARMLESS = {
    "nothing": "SELECT 1",
    "vacuum": "VACUUM person",
    "vacuum freeze": "VACUUM (FREEZE) person",
    "analyze": "ANALYZE person",
    "index": "CREATE INDEX ON person (name)",
    "rolled back": "BEGIN; DELETE FROM person; ROLLBACK",
    "savepoint rolled back": "BEGIN; SAVEPOINT a; UPDATE person SET name = 'n' WHERE id = 3; ROLLBACK TO a; COMMIT",
    "rows locked": "BEGIN; SELECT FROM person FOR UPDATE; COMMIT",
    "another table": "CREATE TABLE other (i int); INSERT INTO other VALUES (1)",
    "its catalog is vacuumed": "VACUUM FULL pg_trigger",
    "its function's catalog is vacuumed": "VACUUM (FREEZE, FULL) pg_proc",
    "the journal is vacuumed": "VACUUM (FREEZE, ANALYZE) floodmark.journal, floodmark.journal_floor",
}
WRITES = {
    "insert": "INSERT INTO person VALUES (9001, 'new')",
    "update": "UPDATE person SET name = 'other' WHERE id = 500",
    "delete": "DELETE FROM person WHERE id = 900",
    "upsert that inserts": "INSERT INTO person VALUES (9001, 'a') ON CONFLICT (id) DO UPDATE SET name = 'b'",
    "upsert that updates": "INSERT INTO person VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = 'b'",
    "in a query": "WITH gone AS (DELETE FROM person WHERE id = 7 RETURNING id) SELECT count(*) FROM gone",
    "in a function": "DO $$ BEGIN UPDATE person SET name = 'f' WHERE id = 8; END $$",
    "through a view": "UPDATE some_people SET name = 'v' WHERE id = 9",
    "savepoint released": "BEGIN; SAVEPOINT a; UPDATE person SET name = 'n' WHERE id = 3; RELEASE a; COMMIT",
    "after a savepoint": "BEGIN; SAVEPOINT a; UPDATE person SET name = 'n' WHERE id = 3; ROLLBACK TO a; "
    "UPDATE person SET name = 'm' WHERE id = 4; COMMIT",
    "serializable": "BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE person SET name = 's' WHERE id = 3; COMMIT",
    "as a replica": "SET session_replication_role = replica; UPDATE person SET name = 'r' WHERE id = 5; "
    "SET session_replication_role = origin",
    "copy": "COPY person FROM PROGRAM 'echo 9002,copied' (FORMAT csv)",
    "truncate": "TRUNCATE person CASCADE",
    "truncate and copy freeze": "BEGIN; TRUNCATE person CASCADE; "
    "COPY person FROM PROGRAM 'echo 9002,frozen' (FORMAT csv, FREEZE); COMMIT",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_an_untouched_table_is_proven_without_a_question(journaled: JournaledJob, what: str) -> None:
    journaled.fill(PERSON)
    assert journaled.day(HARMLESS[what]) == "journal"
    assert journaled.detail() == "all 4 chunks proven unchanged by the journal"
    checking = [event for event in journaled.job.events if isinstance(event, StepStarted) and event.step == "checking"]
    assert not any(table.label == "public.person" for event in checking for table in event.sizes)


@pytest.mark.parametrize("what", WRITES)
def test_a_write_is_noticed(journaled: JournaledJob, what: str) -> None:
    journaled.fill(PERSON, ORDERS, journal=("person", "orders"))
    assert journaled.day() == "journal"
    assert journaled.day(WRITES[what]) in ("rows_changed", "rows_removed", "rewritten")
    assert journaled.day() in ("unchanged", "journal")
    assert journaled.day() == "journal"


@pytest.mark.parametrize("statement", ["DELETE FROM person WHERE id = 3", "UPDATE person SET id = 8000 WHERE id = 3"])
def test_a_cascade_is_noticed(journaled: JournaledJob, statement: str) -> None:
    journaled.fill(PERSON, ORDERS, journal=("person", "orders"))
    assert journaled.day(statement, label="public.orders") in ("rows_changed", "rows_removed")


def test_the_journal_on_every_version(journaled_any: JournaledJob) -> None:
    journaled = journaled_any
    journaled.fill(PERSON)
    for _ in range(2):
        assert journaled.day() == "journal"
        assert journaled.day("UPDATE person SET name = name || '!' WHERE id < 9") == "rows_changed"
        assert journaled.day("MERGE INTO person p USING (VALUES (20, 'm'), (9003, 'm')) v (i, n) ON p.id = i "
                             "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (i, n); "
                             "DELETE FROM person WHERE id = 9003") in ("rows_changed", "rows_removed")  # fmt: skip
        journaled.settle()


def test_a_journal_in_no_use_costs_nothing(journaled: JournaledJob) -> None:
    """Only tables that ask for it use it; another table's proof is the counting."""
    journaled.fill(PERSON, ORDERS, journal=("person", "orders"))
    rules = {"public.orders": TableRule(detect="journal")}
    assert journaled.day(detect="exact", rules=rules) == "unchanged"
    assert journaled.job.outcome("public.orders") == ("unchanged", "journal")
    assert journaled.day(rules={"public.person": TableRule(detect="exact")}) == "unchanged"
    assert journaled.job.outcome("public.orders") == ("unchanged", "journal")


def test_a_table_gets_its_journal_later(journaled: JournaledJob) -> None:
    """The first run after that counts, and the next one can use the journal: `detect` itself changes no line."""
    job = journaled.job
    journaled.database.execute(PERSON)
    job.run()
    assert journaled.day() == "unchanged"
    assert "not installed: floodmark journal install" in journaled.detail()
    install(journaled.database)
    assert journaled.day() == "unchanged"
    assert "the journal of public.person is not on: floodmark journal enable public.person" in journaled.detail()
    enable(journaled.database, "person")
    assert journaled.day() == "unchanged" and "was not used" not in journaled.detail()
    assert journaled.day() == "journal"
    assert journaled.day(disable_sql("person")) == "unchanged"
    assert any("is not on" in event.message for event in job.events if isinstance(event, Warned))


def test_a_recent_write_is_counted_until_its_bucket_ends(journaled: JournaledJob) -> None:
    journaled.fill(PERSON)
    journaled.database.execute("UPDATE person SET name = 'new' WHERE id = 7")
    for code in ("rows_changed", "unchanged"):
        journaled.job.run(detect="journal")
        journaled.job.require_truth()
        assert journaled.job.outcome("public.person")[1] == code
    pass_bucket(journaled.database)
    assert [journaled.day() for _ in range(2)] == ["unchanged", "journal"]


# Partitions and inheritance


@pytest.mark.parametrize(
    ("statement", "relation"),
    [
        ("UPDATE visit SET v = 'x' WHERE id = 5", "visit"),
        ("UPDATE visit_a SET v = 'x' WHERE id = 5", "visit_a"),
        ("UPDATE visit_b SET v = 'x' WHERE id = 400", "visit_b"),
        ("UPDATE visit_b1 SET v = 'x' WHERE id = 401", "visit_b1"),
        ("UPDATE visit SET id = id + 300 WHERE id BETWEEN 7 AND 9", "visit"),
        ("UPDATE visit_b SET n = 0 WHERE id = 405", "visit_b"),
        ("INSERT INTO visit VALUES (1, 1, 'new')", "visit"),
        ("DELETE FROM visit_b WHERE id > 590", "visit_b"),
    ],
)
def test_a_write_to_any_level_of_a_partitioned_table(journaled: JournaledJob, statement: str, relation: str) -> None:
    journaled.fill(VISIT, journal=VISITS)
    assert journaled.day(label="public.visit") == "journal"
    assert journaled.day(statement, label="public.visit") in ("rows_changed", "rows_removed")
    assert relation in recorded(journaled.database)


def test_a_write_to_one_leaf_leaves_the_proof_of_the_others(journaled: JournaledJob) -> None:
    journaled.fill(VISIT, journal=VISITS)
    journaled.database.execute("UPDATE visit_a SET v = 'x' WHERE id = 5")
    for code in ("rows_changed", "unchanged"):
        journaled.job.run(detect="journal")
        journaled.job.require_truth()
        assert journaled.job.outcome("public.visit")[1] == code
    assert "2 of them by the journal" in journaled.detail("public.visit")


def test_a_new_partition_needs_a_journal_of_its_own(journaled: JournaledJob) -> None:
    journaled.fill(VISIT, journal=VISITS)
    journaled.day("CREATE TABLE visit_c PARTITION OF visit FOR VALUES FROM (600) TO (900)", label="public.visit")
    journaled.database.execute("INSERT INTO visit VALUES (700, 0, 'new')")
    journaled.settle()
    assert journaled.day(label="public.visit") == "unchanged"
    assert "3 of them by the journal; the journal was not used: the journal of public.visit is not on" in (
        journaled.detail("public.visit")
    )
    assert journaled.day("UPDATE visit_c SET v = 'y'", label="public.visit") == "rows_changed"


@pytest.mark.parametrize("missing", ["visit", "visit_b"])
def test_every_ancestor_needs_the_journal(journaled: JournaledJob, missing: str) -> None:
    """A statement that names a parent fires only the parent's own triggers."""
    journaled.fill(VISIT, journal=tuple(name for name in VISITS if name != missing))
    assert journaled.day(label="public.visit") == "unchanged"
    change = f"UPDATE {missing} SET v = 'through it' WHERE id = 400"
    assert journaled.day(change, label="public.visit") == "rows_changed"


def test_a_parent_that_a_table_inherits_from_needs_the_journal(journaled: JournaledJob) -> None:
    family = "CREATE TABLE parent (id bigint); ALTER TABLE person INHERIT parent"
    journaled.fill(PERSON.replace("PRIMARY KEY", ""), family)
    assert journaled.day() == "unchanged" and "is not on" in journaled.detail()
    assert journaled.day("DELETE FROM parent WHERE id = 5") == "rows_removed"
    enable(journaled.database, "parent")
    journaled.settle()
    assert journaled.day() == "journal"
    assert journaled.day("DELETE FROM parent WHERE id = 6") == "rows_removed"


VISITS_ELSEWHERE = """
    ALTER TABLE visit DETACH PARTITION visit_a;
    CREATE TABLE q (id int, n int, v text) PARTITION BY RANGE (id);
    ALTER TABLE q ATTACH PARTITION visit_a FOR VALUES FROM (0) TO (300);
    UPDATE q SET v = 'through q' WHERE id = 5;
    ALTER TABLE q DETACH PARTITION visit_a;
    ALTER TABLE visit ATTACH PARTITION visit_a FOR VALUES FROM (0) TO (300)
"""
PERSON_ELSEWHERE = """
    CREATE TABLE q (id bigint); ALTER TABLE person INHERIT q; DELETE FROM q WHERE id = 7;
    ALTER TABLE person NO INHERIT q; DROP TABLE q
"""


def test_a_partition_is_written_under_another_parent(journaled: JournaledJob) -> None:
    """That parent has no journal, and nothing of it is left when the next run begins."""
    journaled.fill(VISIT, journal=VISITS)
    assert journaled.day(VISITS_ELSEWHERE, label="public.visit") == "rows_changed"


def test_a_table_is_written_through_a_parent_that_it_had_for_a_while(journaled: JournaledJob) -> None:
    journaled.fill(PERSON.replace("PRIMARY KEY", ""))
    assert journaled.day(PERSON_ELSEWHERE) == "rows_removed"


def test_a_parent_of_the_parent_for_a_while(journaled: JournaledJob) -> None:
    family = "CREATE TABLE parent (id bigint); ALTER TABLE person INHERIT parent"
    journaled.fill(PERSON.replace("PRIMARY KEY", ""), family, journal=("person", "parent"))
    assert journaled.day() == "journal"
    assert journaled.day(PERSON_ELSEWHERE.replace("TABLE person", "TABLE parent")) == "rows_removed"


def test_the_audit_finds_what_the_journal_misses(journaled: JournaledJob) -> None:
    """A parent without columns leaves no trace on the table: a limit, which docs/change-detection.md names."""
    journaled.fill(PERSON.replace("PRIMARY KEY", ""))
    journaled.database.execute(PERSON_ELSEWHERE.replace("(id bigint)", "()").replace(" WHERE id = 7", ""))
    pass_bucket(journaled.database)
    with pytest.raises(VerificationFailed, match=r"public\.person"):
        journaled.job.run(detect="journal", audit_share=100.0)


def test_the_functions_are_those_that_are_known(pg: PgDatabase) -> None:
    """A change of a migration changes a function: then its digest belongs to KNOWN_FUNCTIONS, with those before."""
    install(pg)
    with pg.connect() as connection:
        found = read_installed(connection)
    assert {one.name: one.digest for one in found.functions if one.digest not in KNOWN_FUNCTIONS[one.name]} == {}
    assert len(found.functions) == len(KNOWN_FUNCTIONS)


class Counting:
    """A connection that counts its statements."""

    def __init__(self, connection: Any) -> None:
        self._connection, self.number = connection, 0

    def execute(self, *arguments: Any, **named: Any) -> Any:
        self.number += 1
        return self._connection.execute(*arguments, **named)

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)


def test_the_number_of_queries_does_not_grow_with_the_tables(pg: PgDatabase) -> None:
    names = [f"t{number}" for number in range(40)]
    pg.execute("; ".join(f"CREATE TABLE {name} (i int)" for name in names))
    install(pg)
    enable(pg, *names)
    sent = []
    for selection in (Selection(), Selection(only=("public.t1",), detect="journal"), Selection(detect="journal")):
        with pg.connect(autocommit=True) as connection:
            begin(connection, Limits())
            tables = read_tables(connection, selection, "")[1]
            database = int(pg.value("SELECT oid FROM pg_database WHERE datname = current_database()"))
            counting = Counting(connection)
            found = with_journal(counting, database, tables)  # type: ignore[arg-type]
            sent.append(counting.number)
            facts = [part.journal for table in found for part in table.info.parts]
            assert all(one is None or one.doubt is None for one in facts)
            assert (None in facts) == (selection.detect == "exact")
    assert sent[0] == 0 and sent[1] == sent[2] <= 13


def test_the_commands_turn_the_journal_on(nightly: Nightly, tmp_path: Path) -> None:
    """A role that may only read is told what to run, and the owner runs it."""
    database = nightly.database
    database.execute(PERSON)
    database.execute(VISIT)
    reader = database.role(f"reader_{database.name}")
    database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader.name}")
    environ = {"FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    job, owner = (Floodmark(tmp_path, {**environ, "FLOODMARK_SOURCE": url}) for url in (reader.url, database.url))
    (tmp_path / "floodmark.yaml").write_text("detect: journal\naudit: {share: 0%}\n")

    def told() -> tuple[str, str]:
        found = {one["check"]: one for one in job("doctor", "--output", "json").json["checks"]}
        return found["journal"]["result"], found["journal"]["found"]

    assert "not installed: floodmark journal install" in told()[1]
    owner("journal", "install")
    assert "may not read the journal: floodmark journal install --grant-to" in told()[1]
    owner("journal", "install", "--grant-to", reader.name)
    assert "the journal of public.visit is not on: floodmark journal enable public.visit" in told()[1]
    owner("journal", "enable", "public.person", "public.visit")
    assert told() == ("ok", "it can prove that no row changed in 2 tables")
    codes: list[list[str]] = []
    for _ in range(2):
        pass_bucket(database)
        manifest = job("run", "--output", "json").json
        codes.append([entry["reason"]["code"] for entry in manifest["tables"]])
    assert codes == [["first_run"] * 2, ["journal"] * 2]
    pass_bucket(database)
    assert {one["reason"]["code"] for one in job("plan", "--output", "json").json["tables"]} == {"journal"}
    verified = job("verify", "--against-source", "--output", "json").json
    assert [table["source"]["same"] for table in verified["tables"]] == [1, 3]
    assert "2 unchanged" in job("run").out
    database.execute("UPDATE visit SET v = 'new' WHERE id = 7")
    assert "public.visit" in job("run").out
