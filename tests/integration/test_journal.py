"""`floodmark journal`: what it installs, on real servers, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_command import Floodmark
from fix_postgres import Cluster, PgDatabase, Role
from floodmark.config import Secret
from floodmark.errors import TableLocked
from floodmark.events import Event, ignore_event
from floodmark.journal import change, migrate
from floodmark.journal.connection import JournalConnection
from floodmark.journal.plan import TableChange
from floodmark.retrying import Patience
from floodmark.source.postgres import journal_names as names
from floodmark.source.postgres.address import address

TRIGGERS = """
SELECT t.tgrelid::regclass::text, t.tgname, t.tgenabled::text FROM pg_trigger t
WHERE NOT t.tgisinternal AND t.tgname LIKE 'floodmark%' ORDER BY 1, 2"""
OBJECTS = """
SELECT o.type, o.identity FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o
     WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'floodmark'::regnamespace ORDER BY 1, 2"""


def commands(database: PgDatabase | Role, folder: Path) -> Floodmark:
    return Floodmark(folder / "journal", {"FLOODMARK_SOURCE": database.url})


def psql(database: PgDatabase, script: str) -> str:
    """Run a script by psql, as a DBA would."""
    program = shutil.which("psql")
    if program is None:
        pytest.skip("psql is not installed")
    done = subprocess.run(
        [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database.dsn, "-f", "-"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def definition(database: PgDatabase) -> list[Any]:
    """The content of the schema, without oids: objects, columns, function bodies, triggers and rights."""
    return [
        database.query(OBJECTS),
        database.query("""
            SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.reloptions,
                   c.relreplident, c.relacl::text
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace = 'floodmark'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY 1, a.attnum"""),
        database.query("""
            SELECT proname, prosrc, prosecdef, proconfig, proacl::text FROM pg_proc
            WHERE pronamespace = 'floodmark'::regnamespace ORDER BY 1"""),
        database.query("""
            SELECT pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger
            WHERE tgrelid = 'floodmark.journal'::regclass ORDER BY 1"""),
        database.query("SELECT version_num FROM floodmark.alembic_version"),
    ]


def test_the_whole_life_of_a_journal(pg_any: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg_any, tmp_path)
    pg_any.execute("""
        CREATE TABLE a (id int); CREATE TABLE p (id int) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (id);
        CREATE TABLE p11 PARTITION OF p1 FOR VALUES IN (1);
        CREATE TABLE above (id int); CREATE TABLE below () INHERITS (above); CREATE TABLE under () INHERITS (below)""")
    assert job("journal", "status").out == "the journal is not installed\n"
    assert "revision 0001" in job("journal", "install").out
    assert "up to date" in job("journal", "install").out
    job("journal", "enable", "a", "p", "under")
    on = ["a", "above", "below", "p", "p1", "p11", "under"]
    names = ("floodmark_journal", "floodmark_journal_truncate")
    assert pg_any.query(TRIGGERS) == [(table, name, "A") for table in on for name in names]
    before = pg_any.query("SELECT oid, xmin FROM pg_trigger ORDER BY 1")
    assert "nothing to do" in job("journal", "enable", "a", "p").out
    assert pg_any.query("SELECT oid, xmin FROM pg_trigger ORDER BY 1") == before
    job("journal", "disable", "under")
    assert [row[0] for row in pg_any.query(TRIGGERS)] == [table for table in on if table != "under" for _ in names]
    assert "12 triggers" in job("journal", "remove").out
    assert pg_any.query(TRIGGERS) == []
    assert pg_any.query("SELECT FROM pg_namespace WHERE nspname = 'floodmark'") == []
    assert job("journal", "status", "--output", "json").json["revision"] is None


def test_the_printed_sql_does_what_the_commands_do(pg: PgDatabase, postgres: Any, tmp_path: Path) -> None:
    other = pg.server.database()
    try:
        tables = """
            CREATE TABLE "A.b%c:d" (id int); CREATE TABLE p (id int) PARTITION BY LIST (id);
            CREATE TABLE p1 PARTITION OF p DEFAULT"""
        job, printing = commands(pg, tmp_path), commands(other, tmp_path)
        role = pg.role("reader")
        for database in (pg, other):
            database.execute(tables)
        job("journal", "install", "--grant-to", role.name)
        psql(other, printing("journal", "install", "--sql", "--grant-to", role.name).out)
        assert definition(pg) == definition(other)
        job("journal", "enable", '"A.b%c:d"', "p")
        script = printing("journal", "enable", '"A.b%c:d"', "p", "--sql").out
        assert other.query(TRIGGERS) == []
        psql(other, script)
        assert other.query(TRIGGERS) == pg.query(TRIGGERS) != []
        assert "nothing to do" in printing("journal", "enable", "p", "--sql").out
        script = printing("journal", "disable", "p", "--sql").out
        psql(other, script)
        assert [row[0] for row in other.query(TRIGGERS)] == ['"A.b%c:d"'] * 2
        psql(other, printing("journal", "remove", "--sql").out)
        assert other.query("SELECT FROM pg_namespace WHERE nspname = 'floodmark'") == []
        assert other.query(TRIGGERS) == []
    finally:
        other.drop()


def test_a_role_that_may_read_the_journal_may_do_nothing_else(pg: PgDatabase, tmp_path: Path) -> None:
    role = pg.role("reader")
    job = commands(pg, tmp_path)
    pg.execute("CREATE TABLE a (id int)")
    job("journal", "install", "--grant-to", "reader")
    job("journal", "enable", "a")
    pg.execute("INSERT INTO a VALUES (1)")
    with role.connect(autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM floodmark.journal").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM floodmark.journal_floor").fetchone() == (1,)
        for denied in (
            "DELETE FROM floodmark.journal",
            "INSERT INTO floodmark.journal VALUES (1, 1)",
            "UPDATE floodmark.journal_floor SET floor = '1'",
            "TRUNCATE floodmark.journal",
            "SELECT floodmark.trim_journal('0')",
            "CREATE TABLE floodmark.x (i int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(denied)
    reading = commands(role, tmp_path)
    assert "public.a" in reading("journal", "status").out
    for arguments in (["enable", "a"], ["disable", "a"], ["trim"], ["remove"]):
        done = reading("journal", *arguments, code=12)
        assert "the role" in done.err and "correct horse" not in done.said
    done = reading("journal", "install", "--grant-to", "nobody-of-this-name", code=10)
    assert "no such role" in done.err


def test_an_owner_of_tables_can_enable_with_the_rights_in_the_docs(pg: PgDatabase, tmp_path: Path) -> None:
    owner = pg.role("app")
    job = commands(pg, tmp_path)
    job("journal", "install", "--grant-to", "app")
    pg.execute("CREATE TABLE a (id int); ALTER TABLE a OWNER TO app; CREATE TABLE b (id int)")
    owned = commands(owner, tmp_path)
    assert "EXECUTE" in owned("journal", "enable", "a", code=12).err
    pg.execute("GRANT EXECUTE ON FUNCTION floodmark.record_write() TO app")
    owned("journal", "enable", "a")
    assert "does not own the table" in owned("journal", "enable", "b", code=12).err
    with owner.connect(autocommit=True) as connection:
        connection.execute("INSERT INTO a VALUES (1)")
    assert pg.value("SELECT count(*) FROM floodmark.journal") == 1


def test_status_names_each_fault_and_enable_repairs_it(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    pg.execute("""
        CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TABLE c (id int); CREATE TABLE d (id int);
        CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE later (id int)""")
    job("journal", "install")
    job("journal", "enable", "a", "b", "c", "d", "p")
    pg.execute("""
        ALTER TABLE a DISABLE TRIGGER ALL; ALTER TABLE b ENABLE TRIGGER floodmark_journal;
        DROP TRIGGER floodmark_journal_truncate ON c;
        CREATE OR REPLACE TRIGGER floodmark_journal BEFORE INSERT ON d EXECUTE FUNCTION floodmark.record_write();
        ALTER TABLE d ENABLE ALWAYS TRIGGER floodmark_journal;
        ALTER TABLE p ATTACH PARTITION later FOR VALUES IN (1)""")
    found = job("journal", "status", "--output", "json").json
    faults = {
        table["name"]: [
            (one["name"], one["trigger"].removeprefix("floodmark_"), one["state"]) for one in table["faults"]
        ]
        for table in found["tables"]
    }
    assert faults == {
        "a": [("a", "journal", "disabled"), ("a", "journal_truncate", "disabled")],
        "b": [("b", "journal", "not always")],
        "c": [("c", "journal_truncate", "missing")],
        "d": [("d", "journal", "changed")],
        "p": [("later", "journal", "missing"), ("later", "journal_truncate", "missing")],
    }
    assert {one["state"] for one in found["tables"]} == {"incomplete"} and found["faults"] == []
    assert "floodmark_journal missing on public.later" in job("journal", "status").out
    job("journal", "enable", "*")
    found = job("journal", "status", "--output", "json").json
    assert {one["state"] for one in found["tables"]} == {"on"}


def test_status_names_faults_of_the_journal_itself(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    job("journal", "install")
    pg.execute("ALTER TABLE floodmark.journal DISABLE TRIGGER guard_delete")
    pg.execute("ALTER TABLE floodmark.journal SET UNLOGGED; DELETE FROM floodmark.journal_floor")
    faults = job("journal", "status", "--output", "json").json["faults"]
    assert faults == [
        "the trigger guard_delete of floodmark.journal is missing or disabled",
        "floodmark.journal is missing or unlogged",
        "floodmark.journal_floor has no row",
    ]
    assert "floor has no row" in job("journal", "trim", code=12).err


@pytest.mark.parametrize(
    "loss",
    [
        "TABLE floodmark.journal",
        "TABLE floodmark.journal_floor",
        "TABLE floodmark.journal_moment",
        "FUNCTION floodmark.record_write() CASCADE",
        "FUNCTION floodmark.guard_journal() CASCADE",
        "FUNCTION floodmark.trim_journal(interval)",
    ],
)
def test_a_journal_that_lost_an_object_is_told_and_can_be_removed(pg: PgDatabase, tmp_path: Path, loss: str) -> None:
    job = commands(pg, tmp_path)
    pg.execute("CREATE TABLE a (id int)")
    job("journal", "install")
    job("journal", "enable", "a")
    pg.execute(f"DROP {loss}")
    status = job("journal", "status").out
    assert "fault: " in status and "is missing" in status and "floodmark journal remove" in status
    job("journal", "remove")
    pg.execute("INSERT INTO a VALUES (1)")
    job("journal", "install")


def test_relations_that_no_trigger_can_watch_are_refused(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    job("journal", "install")
    pg.execute("""
        CREATE TABLE a (id int); CREATE VIEW v AS SELECT 1 AS one; CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
        CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p DEFAULT;
        CREATE TABLE q (id int) PARTITION BY LIST (id);
        CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (id int) SERVER s;
        CREATE FOREIGN TABLE q1 PARTITION OF q DEFAULT SERVER s""")
    for name, why in (
        ("v", "it is a view"),
        ("m", "it is a materialized view"),
        ("f", "it is a foreign table"),
        ("q", "it is a foreign table"),
        ("p1", "it is a partition"),
        ("nothing", "there is no such table"),
        ("floodmark.journal", "there is no such table"),
        ("nothing.*", "there is no such table"),
        ('"a', "is not closed"),
    ):
        assert why in job("journal", "enable", "a", name, code=10).err, name
    assert "it is a partition" in job("journal", "disable", "p1", code=10).err
    assert pg.query(TRIGGERS) == []  # nor was the first table changed


def test_tables_of_a_logical_subscription_are_refused(make_server: Callable[..., Cluster], tmp_path: Path) -> None:
    publisher, subscriber = (make_server(settings={"wal_level": "logical"}).database() for _ in range(2))
    for database in (publisher, subscriber):
        database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    publisher.execute("CREATE PUBLICATION p FOR TABLE a")
    job = commands(subscriber, tmp_path)
    job("journal", "install")
    job("journal", "enable", "b")
    options = "create_slot = false, slot_name = NONE, enabled = false"
    subscriber.execute(f"CREATE SUBSCRIPTION s CONNECTION '{publisher.dsn}' PUBLICATION p WITH ({options})")
    assert "a logical subscription writes to it" in job("journal", "enable", "a", code=12).err
    publisher.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    assert "publishes all tables" in commands(publisher, tmp_path)("journal", "install", code=12).err


def test_install_refuses_a_schema_with_something_else(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    pg.execute("CREATE SCHEMA floodmark; CREATE TABLE floodmark.invoice (id int)")
    done = job("journal", "install", code=10)
    assert "the schema exists, and holds something else: table floodmark.invoice" in done.err
    pg.execute("DROP TABLE floodmark.invoice")
    job("journal", "install")  # an empty schema that a DBA made is fine


def test_remove_refuses_a_schema_with_something_else(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    pg.execute("CREATE TABLE a (id int)")
    job("journal", "install")
    job("journal", "enable", "a")
    pg.execute("CREATE FUNCTION floodmark.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert "function floodmark.mine()" in job("journal", "remove", code=10).err
    assert len(pg.query(TRIGGERS)) == 2
    pg.execute("DROP FUNCTION floodmark.mine()")
    job("journal", "remove")


def test_a_standby_and_an_old_or_new_revision_are_refused(
    private_server: Cluster, standby: Callable[[Cluster], Cluster], tmp_path: Path
) -> None:
    primary = private_server.database()
    job = commands(primary, tmp_path)
    primary.execute("CREATE TABLE a (id int)")
    job("journal", "install")
    replica = standby(private_server)
    reading = commands(primary.on(replica), tmp_path)
    assert "revision 0001" in reading("journal", "status").out
    for arguments in (["install"], ["enable", "a"], ["disable", "a"], ["trim"], ["remove"]):
        assert "the server is a standby" in reading("journal", *arguments, code=12).err
    primary.execute("UPDATE floodmark.alembic_version SET version_num = '9999'")
    assert "a newer version of Floodmark" in job("journal", "install", code=10).err
    assert "revision 9999 is installed" in job("journal", "enable", "a", code=10).err


def test_wrong_command_lines(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    assert "--from goes with --sql" in job("journal", "install", "--from", "0001", code=2).err
    assert "no such revision" in job("journal", "install", "--sql", "--from", "7", code=10).err
    assert "not installed" in job("journal", "enable", "a", code=10).err
    assert "not installed" in job("journal", "trim", code=10).err
    assert "not installed" in job("journal", "remove", code=10).err
    assert "time span" in job("journal", "trim", "--keep", "soon", code=2).err
    assert (
        "only PostgreSQL" in job("journal", "status", environment={"FLOODMARK_SOURCE": "sqlite:///a.db"}, code=10).err
    )
    wrong = pg.url.replace("postgres@", "postgres:secretword@").replace(pg.name, "missing")
    done = job("journal", "status", environment={"FLOODMARK_SOURCE": wrong}, code=12)
    assert "does not exist" in done.err and "secretword" not in done.said


def test_enable_gives_up_a_busy_table_and_leaves_nobody_waiting(
    pg: PgDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "PATIENCE", Patience(tries=3, shortest=0.1, longest=0.1, jitter=0))
    install(pg)
    pg.execute("CREATE TABLE a (id int)")
    retries: list[Event] = []
    with JournalConnection(address(Secret(pg.url))) as connection:
        with pg.connect() as writer:
            writer.execute("INSERT INTO a VALUES (1)")
            with pytest.raises(TableLocked, match="another session kept it locked") as caught:
                change.enable(connection, ["a"], retries.append)
            assert "pg_stat_activity" in str(caught.value) and len(retries) == 2
            assert pg.query(TRIGGERS) == []
            pg.execute("INSERT INTO a VALUES (2)")  # nobody waits behind a try that is over
            writer.commit()
        change.enable(connection, ["a"], retries.append)
        with pg.connect() as reader:
            reader.execute("SELECT * FROM a")
            with pytest.raises(TableLocked):
                change.disable(connection, ["a"], retries.append)
    assert len(pg.query(TRIGGERS)) == 2


def test_writers_wait_only_shortly_while_enable_tries(pg: PgDatabase) -> None:
    """A writer behind the waiting lock goes on when the try gives up, long before the writer in front ends."""
    pg.execute("CREATE TABLE a (id int)")
    install(pg)
    done: list[TableChange] = []
    waits = []
    with pg.connect() as holder, pg.connect(autocommit=True) as second:
        holder.execute("INSERT INTO a VALUES (1)")
        thread = threading.Thread(target=_enable, args=(pg, done))
        thread.start()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            begun = time.monotonic()
            second.execute("INSERT INTO a VALUES (2)")
            waits.append(time.monotonic() - begun)
        holder.commit()
        thread.join(30)
    assert done and 0.1 < max(waits) < 1.5
    assert len(pg.query(TRIGGERS)) == 2


def _enable(database: PgDatabase, done: list[TableChange]) -> None:
    with JournalConnection(address(Secret(database.url))) as connection:
        done += change.enable(connection, ["a"], ignore_event)


def install(database: PgDatabase) -> None:
    with migrate.engine_of(address(Secret(database.url))).connect() as schema:
        migrate.upgrade(schema)
        schema.commit()


def test_names_are_those_of_the_migrations(pg: PgDatabase) -> None:
    install(pg)
    functions = pg.query("SELECT proname FROM pg_proc WHERE pronamespace = 'floodmark'::regnamespace ORDER BY 1")
    assert functions == [(names.GUARD_FUNCTION,), (names.RECORD_FUNCTION,), ("trim_journal",)]
    guards = pg.query("SELECT tgname FROM pg_trigger WHERE tgrelid = 'floodmark.journal'::regclass ORDER BY 1")
    assert guards == [(name,) for name in names.GUARD_TRIGGERS]
    assert migrate.revisions()[-1] == names.REVISION
    body = pg.value("SELECT prosrc FROM pg_proc WHERE proname = 'record_write'")
    assert f"OPERATOR(pg_catalog.>>) {names.BUCKET_SHIFT};" in body
    assert str(names.ENDLESS) in pg.value("SELECT prosrc FROM pg_proc WHERE proname = 'guard_journal'")


def test_a_role_that_owns_nothing_prints_the_sql_that_another_runs(pg: PgDatabase, tmp_path: Path) -> None:
    job = commands(pg, tmp_path)
    reading = commands(pg.role("reader"), tmp_path)
    pg.execute("CREATE TABLE a (id int)")
    job("journal", "install", "--grant-to", "reader")
    assert reading("journal", "enable", "a", code=12).err
    psql(pg, reading("journal", "enable", "a", "--sql").out)
    assert len(pg.query(TRIGGERS)) == 2
    assert "does not own the table" in reading("journal", "disable", "a", code=12).err
    psql(pg, reading("journal", "disable", "a", "--sql").out)
    assert pg.query(TRIGGERS) == []
    job("journal", "enable", "a")
    psql(pg, reading("journal", "remove", "--sql").out)
    assert pg.query(TRIGGERS) == [] and not pg.value("SELECT to_regnamespace('floodmark') IS NOT NULL")


def test_remove_does_nothing_if_the_role_does_not_own_the_schema(pg: PgDatabase, tmp_path: Path) -> None:
    job, owned = commands(pg, tmp_path), commands(pg.role("app"), tmp_path)
    pg.execute("CREATE TABLE a (id int); ALTER TABLE a OWNER TO app")
    job("journal", "install", "--grant-to", "app")
    job("journal", "enable", "a")
    assert "schema floodmark: the role does not own it" in owned("journal", "remove", code=12).err
    assert len(pg.query(TRIGGERS)) == 2


def test_an_installation_from_the_newest_revision_prints_that_there_is_nothing_to_do(tmp_path: Path) -> None:
    job = Floodmark(tmp_path, {})
    assert job("journal", "install", "--sql", "--from", names.REVISION).out == "-- There is nothing to do.\n"
