"""Exact change detection on real servers: what changed is extracted, what did not is proven, nothing is missed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from msgspec import UNSET

from fix_postgres import PgDatabase, Servers
from fix_runs import Nightly
from floodmark.config import TableRule
from floodmark.errors import ConfigError, VerificationFailed
from floodmark.events import ChunkAudited, ChunkDone, Event, RunStarted, TableDecided
from floodmark.pipeline.job import run
from floodmark.state.manifest import Inflight, decode

MakeNightly = Callable[[PgDatabase], Nightly]
PERSON = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text, born date, seen timestamptz DEFAULT '2026-11-01 10:00Z');
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200), date '1950-01-01' + i % 20000
    FROM generate_series(1, 2000) i
"""


def filled(nightly: Nightly, *more: str) -> None:
    for statement in (PERSON, *more):
        nightly.database.execute(statement)


def day(nightly: Nightly, *statements: str, **changes: Any) -> tuple[str, str]:
    """Live through a day, run, hold what landed against the database; person's status and reason."""
    for statement in statements:
        nightly.database.execute(statement)
    nightly.run(**changes)
    nightly.require_truth()
    return nightly.outcome("public.person")


CHANGES: dict[str, tuple[str, str, str]] = {
    "insert": ("INSERT INTO person VALUES (9001, 'new')", "extracted", "rows_changed"),
    "update": ("UPDATE person SET name = 'other' WHERE id = 1500", "extracted", "rows_changed"),
    "delete": ("DELETE FROM person WHERE id = 1", "extracted", "rows_removed"),
    "delete and insert": (
        "DELETE FROM person WHERE id = 1; INSERT INTO person VALUES (9001, 'new')",
        "extracted",
        "rows_changed",
    ),
    "update that changes nothing": ("UPDATE person SET name = name WHERE id = 7", "extracted", "rows_changed"),
    "rolled back": ("BEGIN; DELETE FROM person; ROLLBACK", "unchanged", "unchanged"),
    "released savepoint": (
        "BEGIN; SAVEPOINT a; UPDATE person SET name = 'n' WHERE id = 3; RELEASE a; COMMIT",
        "extracted",
        "rows_changed",
    ),
    "rolled back savepoint": (
        "BEGIN; SAVEPOINT a; UPDATE person SET name = 'n' WHERE id = 3; ROLLBACK TO a; COMMIT",
        "unchanged",
        "unchanged",
    ),
    "update of all": ("UPDATE person SET name = name || '!'", "extracted", "rows_changed"),
    "nothing": ("SELECT 1", "unchanged", "unchanged"),
    "vacuum": ("VACUUM person", "unchanged", "unchanged"),
    "vacuum freeze": ("VACUUM FREEZE person", "unchanged", "unchanged"),
    "analyze": ("ANALYZE person", "unchanged", "unchanged"),
    "index": ("CREATE INDEX ON person (name)", "unchanged", "unchanged"),
    "select for update": ("BEGIN; SELECT FROM person FOR UPDATE; COMMIT", "unchanged", "unchanged"),
    "vacuum full": ("VACUUM FULL person", "unchanged", "identical"),
    "cluster": ("CLUSTER person USING person_pkey", "unchanged", "identical"),
    "truncate": ("TRUNCATE person", "extracted", "rewritten"),
    "truncate and fill again": ("TRUNCATE person; INSERT INTO person VALUES (1, 'a')", "extracted", "rewritten"),
    "delete all and vacuum": ("DELETE FROM person", "extracted", "rows_removed"),
    "drop and create": (f"DROP TABLE person; {PERSON}", "unchanged", "identical"),
    "add column": ("ALTER TABLE person ADD note text", "extracted", "schema_changed"),
    "add column with a default": ("ALTER TABLE person ADD note text DEFAULT 'd'", "extracted", "schema_changed"),
    "drop column": ("ALTER TABLE person DROP born", "extracted", "schema_changed"),
    "rename column": ("ALTER TABLE person RENAME born TO birthday", "extracted", "schema_changed"),
    "rename there and back": (
        "ALTER TABLE person RENAME born TO b; ALTER TABLE person RENAME b TO born",
        "unchanged",
        "unchanged",
    ),
    "type without rewrite": ("ALTER TABLE person ALTER name TYPE varchar", "extracted", "schema_changed"),
    "type with rewrite": ("ALTER TABLE person ALTER id TYPE numeric", "extracted", "schema_changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_day(nightly: Nightly, change: str) -> None:
    statement, status, code = CHANGES[change]
    filled(nightly)
    assert day(nightly) == ("extracted", "first_run")
    assert day(nightly, statement) == (status, code)
    assert day(nightly)[0] == "unchanged"


def test_days_on_every_version(nightly_any: Nightly) -> None:
    """The same statements, a day each, on every server version there is."""
    filled(nightly_any)
    day(nightly_any)
    for change in ("insert", "update", "delete", "released savepoint", "vacuum freeze", "vacuum full", "add column"):
        statement, *expected = CHANGES[change]
        if change == "vacuum full":  # the rows move together, over the gaps that the days before left
            expected = ["extracted", "rewritten"]
        assert day(nightly_any, statement) == tuple(expected), change
        assert day(nightly_any) == ("unchanged", "unchanged"), change
    assert day(nightly_any, *CHANGES["truncate"][:1]) == ("extracted", "rewritten")


def test_only_the_chunks_that_changed_are_written(nightly: Nightly) -> None:
    filled(nightly)
    day(nightly)
    chunks = len(nightly.entry("public.person").objects)
    assert chunks > 5
    day(nightly, "UPDATE person SET seen = now() WHERE id = 2")
    assert 1 <= nightly.extracted_chunks("public.person") <= 2
    day(nightly, "INSERT INTO person VALUES (9002, 'new')")
    assert nightly.extracted_chunks("public.person") == 1


def test_an_unchanged_day_writes_no_data_and_reads_none(nightly: Nightly) -> None:
    filled(nightly)
    day(nightly)
    before = set(nightly.folder.rglob("*.gz"))
    result = nightly.run()
    assert result.uploaded_bytes == 0
    assert set(nightly.folder.rglob("*.gz")) == before
    assert not [event for event in nightly.events if isinstance(event, ChunkDone)], "rows were read"


def test_a_transaction_left_open_across_runs(nightly: Nightly) -> None:
    """Its rows have an old xmin when they appear; the remembered xmin is older still."""
    filled(nightly)
    day(nightly)
    with nightly.database.connect() as writer:
        writer.execute("UPDATE person SET name = 'late' WHERE id = 77")
        assert day(nightly, "INSERT INTO person VALUES (9003, 'meanwhile')") == ("extracted", "rows_changed")
        # While the writer is open, all that came after its start stays doubtful, and is read again.
        assert day(nightly) == ("unchanged", "identical")
        writer.commit()
    assert day(nightly) == ("extracted", "rows_changed")
    assert any(b'"late"' in line for line in nightly.landed("public.person"))


def test_a_subtransaction_of_a_transaction_left_open(nightly: Nightly) -> None:
    filled(nightly)
    with nightly.database.connect() as writer:
        writer.execute("SAVEPOINT a; UPDATE person SET name = 'sub' WHERE id = 5; RELEASE a")
        day(nightly)
        assert day(nightly) == ("unchanged", "unchanged")
        writer.commit()
    assert day(nightly) == ("extracted", "rows_changed")


def test_a_prepared_transaction_across_runs(nightly: Nightly) -> None:
    filled(nightly)
    day(nightly)
    name = nightly.database.name
    nightly.database.execute(f"BEGIN; DELETE FROM person WHERE id = 12; PREPARE TRANSACTION '{name}'")
    assert day(nightly) == ("unchanged", "unchanged")
    assert day(nightly, f"COMMIT PREPARED '{name}'") == ("extracted", "rows_removed")


def test_copy_freeze_keeps_its_transaction_id(nightly: Nightly) -> None:
    filled(nightly)
    day(nightly)
    with nightly.database.connect() as writer:
        writer.execute("TRUNCATE person")
        with writer.cursor().copy("COPY person (id, name) FROM STDIN (FREEZE)") as copy:
            copy.write(b"1\tone\n")
        writer.commit()
    assert day(nightly) == ("extracted", "rewritten")
    with nightly.database.connect() as writer:
        writer.execute("CREATE TABLE frozen (id int)")
        with writer.cursor().copy("COPY frozen FROM STDIN (FREEZE)") as copy:
            copy.write(b"1\n2\n")
        writer.commit()
    day(nightly)
    assert nightly.outcome("public.frozen") == ("extracted", "first_run")
    day(nightly)
    assert nightly.outcome("public.frozen") == ("unchanged", "unchanged")


def test_rows_resurrected_by_surgery_are_seen(postgres: Servers, make_nightly: MakeNightly) -> None:
    """pg_surgery gives a deleted row xmin 2 and lets it live again: no transaction wrote it. Version 17 has it."""
    database = postgres[17].database()
    nightly = make_nightly(database)
    filled(nightly, "CREATE EXTENSION pg_surgery", "ALTER TABLE person SET (autovacuum_enabled = off)")
    dead = database.value("SELECT ctid::text FROM person WHERE id = 1")
    alive = database.value("SELECT ctid::text FROM person WHERE id = 2")
    watcher = database.connect()
    watcher.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    watcher.execute("SELECT count(*) FROM person")  # holds the deleted row back from being pruned
    database.execute("DELETE FROM person WHERE id = 1")
    day(nightly)
    database.execute("SELECT heap_force_freeze('person'::regclass, ARRAY[%s]::tid[])", [dead])
    database.execute("SELECT heap_force_kill('person'::regclass, ARRAY[%s]::tid[])", [alive])
    assert database.query("SELECT id FROM person WHERE id IN (1, 2)") == [(1,)]
    nightly.run()
    assert nightly.outcome("public.person") == ("extracted", "rows_changed")
    nightly.require_truth()
    nightly.run()
    assert nightly.outcome("public.person") == ("unchanged", "unchanged"), "the reading counts such rows as well"
    database.drop()


class Meanwhile:
    """Lets another session act at a point of a run."""

    def __init__(self, nightly: Nightly, at: type[Event], act: Callable[[], object], times: int = 1) -> None:
        self.nightly, self.at, self.act, self.left = nightly, at, act, times
        self.lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        self.nightly.events.append(event)
        with self.lock:
            if isinstance(event, self.at) and self.left:
                self.left -= 1
                self.act()


def run_while(nightly: Nightly, at: type[Event], act: Callable[[], object], times: int = 1) -> None:
    nightly.events = []
    nightly.last = run(nightly.settings(), Meanwhile(nightly, at, act, times)).manifest


UNDER_THE_SNAPSHOT = {
    "truncate": "TRUNCATE person",
    "truncate and fill": "TRUNCATE person; INSERT INTO person VALUES (5, 'five')",
    "cluster": "CLUSTER person USING person_pkey",
    "vacuum full": "VACUUM FULL person",
    "rewriting alter": "ALTER TABLE person ALTER id TYPE numeric",
    "drop": "DROP TABLE person; " + PERSON,
    "swap": "ALTER TABLE person RENAME TO old_person; CREATE TABLE person (LIKE old_person)",
    "rename column": "ALTER TABLE person RENAME born TO birthday",
    "swap columns": "ALTER TABLE person RENAME name TO n; ALTER TABLE person ADD name text DEFAULT 'wrong'",
    "drop and add a column": "ALTER TABLE person DROP name, ADD name text DEFAULT 'wrong'",
}


@pytest.mark.parametrize("at", [RunStarted, TableDecided])
@pytest.mark.parametrize("what", UNDER_THE_SNAPSHOT)
@pytest.mark.parametrize("before", [False, True])
def test_rewritten_under_the_snapshot(nightly: Nightly, at: type[Event], what: str, before: bool) -> None:
    """Between the snapshot and the table: what is read is thrown away, and a new snapshot is taken."""
    filled(nightly)
    if before:
        day(nightly)
        nightly.database.execute("UPDATE person SET name = 'changed' WHERE id % 50 = 0")
    run_while(nightly, at, lambda: nightly.database.execute(UNDER_THE_SNAPSHOT[what]))
    nightly.require_truth()
    assert nightly.entry("public.person").status in ("extracted", "unchanged")
    assert day(nightly)[0] == "unchanged"


def test_a_table_rewritten_under_every_snapshot_fails_alone(nightly: Nightly) -> None:
    filled(nightly, "CREATE TABLE calm AS SELECT 1 AS a")
    day(nightly)
    kept = nightly.landed("public.person")
    run_while(nightly, RunStarted, lambda: nightly.database.execute("TRUNCATE person"), times=9)
    assert nightly.outcome("public.person")[0] == "failed"
    assert nightly.outcome("public.calm") == ("unchanged", "unchanged")
    assert nightly.landed("public.person") == kept
    assert day(nightly) == ("extracted", "rewritten")


def test_an_enum_renamed_while_the_table_is_read(nightly: Nightly) -> None:
    filled(
        nightly,
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE feeling (m mood); INSERT INTO feeling VALUES ('sad')",
    )
    rename = "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"
    run_while(nightly, TableDecided, lambda: nightly.database.execute(rename))
    nightly.require_truth()
    assert nightly.landed("public.feeling") == [b'{"m":"blue"}\n']


def test_all_tables_show_one_moment(nightly: Nightly) -> None:
    """Money moves between two tables while they are read; the sum holds."""
    database = nightly.database
    database.execute("CREATE TABLE a AS SELECT i, 100 AS money FROM generate_series(1, 500) i")
    database.execute("CREATE TABLE b AS SELECT i, 100 AS money FROM generate_series(1, 500) i")
    move = "UPDATE a SET money = money - 1; UPDATE b SET money = money + 1"
    for _ in range(3):
        run_while(nightly, TableDecided, lambda: database.execute(f"BEGIN; {move}; COMMIT"), times=2)
        total = sum(int(line.split(b":")[-1].rstrip(b"}\n")) for t in "ab" for line in nightly.landed(f"public.{t}"))
        assert total == 100_000


def test_a_snapshot_is_dated_no_later_than_it_is(nightly: Nightly) -> None:
    """A consumer may take all that was committed before `as_of` for landed."""
    filled(nightly)
    begun = (
        "SELECT min(xact_start) AT TIME ZONE 'UTC' FROM pg_stat_activity "
        "WHERE application_name = 'floodmark' AND datname = current_database()"
    )
    seen: list[datetime] = []
    run_while(nightly, RunStarted, lambda: seen.append(nightly.database.value(begun)))
    as_of = nightly.entry("public.person").as_of
    assert as_of is not None and [datetime.fromisoformat(as_of.removesuffix("Z"))] == seen


def test_an_object_that_is_gone_is_written_again(nightly: Nightly) -> None:
    filled(nightly)
    day(nightly)
    first, *_ = nightly.entry("public.person").objects
    (nightly.folder / first.key).unlink()
    assert day(nightly, "INSERT INTO person VALUES (9009, 'n')") == ("extracted", "rows_changed")
    assert nightly.extracted_chunks("public.person") == 2


def test_the_audit_finds_a_chunk_that_was_wrongly_called_unchanged(nightly: Nightly) -> None:
    """What is remembered is made to lie, as a broken proof would; the audit refuses to commit over it."""
    filled(nightly)
    result = nightly.run()
    state = nightly.folder / "_floodmark"
    manifest = state / str(result.manifest_key)
    digest = result.manifest.tables[0].objects[0].content_sha256
    old = manifest.read_bytes()
    manifest.write_bytes(old.replace(digest.encode(), b"0" * 64))
    head = (state / "head.json").read_bytes()
    sha256 = hashlib.sha256
    told = head.replace(sha256(old).hexdigest().encode(), sha256(manifest.read_bytes()).hexdigest().encode())
    (state / "head.json").write_bytes(told)
    assert nightly.plan()["public.person"].to_extract == 0
    with pytest.raises(VerificationFailed, match=r"public\.person") as found:
        nightly.run(audit_share=100.0)
    assert "a proof must never be wrong" in str(found.value.hint) and "detect: column" not in str(found.value.hint)
    audits = [event.same for event in nightly.events if isinstance(event, ChunkAudited)]
    assert audits.count(False) == 1 and len(audits) > 1
    assert (state / "head.json").read_bytes() == told
    record = decode(Inflight, (state / "inflight.json").read_bytes(), "inflight").ended
    assert record is not UNSET and (record.last.outcome, record.last.exit_code) == ("failed", 14)
    assert record.audited_chunks > record.audit_mismatches == 1
    nightly.run(full=True)
    nightly.run(audit_share=100.0)
    assert {event.same for event in nightly.events if isinstance(event, ChunkAudited)} == {True}


def test_what_a_column_could_not_show_is_told_as_that_and_not_as_a_broken_proof(nightly: Nightly) -> None:
    filled(nightly)
    rules = {"public.person": TableRule(detect="column", column="seen")}
    whole = 1024**3  # in one chunk, so that no row can move to another
    nightly.run(rules=rules, chunk_bytes=whole)
    nightly.database.execute("UPDATE person SET name = 'unseen'")
    with pytest.raises(VerificationFailed, match=r"public\.person") as found:
        nightly.run(rules=rules, chunk_bytes=whole, audit_share=100.0)
    hint = str(found.value.hint)
    assert "public.person by seen" in hint and "row count and the greatest value" in hint
    assert "must never" not in hint and "report" not in hint
    nightly.run(rules=rules, chunk_bytes=whole, full=True, only=("public.person",))
    assert day(nightly, rules=rules, chunk_bytes=whole, audit_share=100.0) == ("unchanged", "unchanged")


def test_a_change_of_definition_says_which_columns_it_is_about(nightly: Nightly) -> None:
    filled(nightly)
    nightly.run()
    nightly.database.execute("ALTER TABLE person ADD note text, DROP born, ALTER name TYPE varchar")
    nightly.run()
    assert nightly.entry("public.person").reason.detail.startswith(
        "columns added: note; removed: born; type changed: name (text to character varying)"
    )
    nightly.database.execute("ALTER TABLE person DROP note, ADD COLUMN note text")
    nightly.run()
    assert "schema_changed: the definition of the table, or of a type" in nightly.entry("public.person").reason.detail


def test_detect_by_column(nightly: Nightly) -> None:
    """detect: column goes by count and greatest value, needs no lineage, and misses what they do not show."""
    filled(nightly)
    rules = {"public.person": TableRule(detect="column", column="seen")}
    assert day(nightly, rules=rules) == ("extracted", "first_run")
    assert day(nightly, rules=rules) == ("unchanged", "unchanged")
    assert "no proof" in nightly.entry("public.person").reason.detail
    changed = "UPDATE person SET name = 'x', seen = now() WHERE id = 5"
    assert day(nightly, changed, rules=rules) == ("extracted", "rows_changed")
    assert day(nightly, "DELETE FROM person WHERE id = 9", rules=rules) == ("extracted", "rows_removed")
    nightly.database.execute("UPDATE person SET name = 'unseen' WHERE id = 5")
    nightly.run(rules=rules)
    assert nightly.outcome("public.person")[0] in ("extracted", "unchanged")
    state = b"".join(path.read_bytes() for path in (nightly.folder / "_floodmark").rglob("*.json"))
    assert b"2026-11-01 10:00" not in state
    with pytest.raises(ConfigError, match="nope"):
        nightly.run(rules={"public.person": TableRule(detect="column", column="nope")})
    assert day(nightly) == ("extracted", "config_changed")
