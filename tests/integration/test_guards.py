"""Guards of the proof that the other files do not provoke: each is taken out by `make guards`, which must see red."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from fix_balancer import Balancer
from fix_catalog import MODS
from fix_command import until
from fix_pooler import SHADOWS
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.config import Limits, Secret, Selection, TableRule
from floodmark.errors import SnapshotLost, SourceError
from floodmark.events import Event, RunStarted, TableDecided
from floodmark.model import Chunk
from floodmark.native import usual_encoder
from floodmark.observed import Question
from floodmark.pipeline.job import run
from floodmark.source.postgres.address import address
from floodmark.source.postgres.coordinator import Coordinator
from floodmark.source.postgres.snapshot import PostgresSource
from floodmark.source.postgres.transactions import SnapshotTransactions

MakeNightly = Callable[[PgDatabase], Nightly]
MakeServer = Callable[..., Cluster]
MakeStandby = Callable[[Cluster], Cluster]
MakeBalancer = Callable[[Callable[[], int]], Balancer]
FILL = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text);
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200) FROM generate_series(1, 1000) i
"""


def night(job: Nightly, *statements: str, label: str = "public.person", **changes: Any) -> tuple[str, str]:
    for statement in statements:
        job.database.execute(statement)
    job.run(**changes)
    job.require_truth()
    return job.outcome(label)


# The lineage


def test_a_server_that_does_not_tell_its_crashes_has_no_lineage(nightly: Nightly) -> None:
    """Some services that look like PostgreSQL show no stats_reset; a crash would then leave no trace."""
    night(nightly, FILL)
    nightly.database.execute(
        MODS + "ALTER VIEW pg_catalog.pg_stat_bgwriter RENAME TO pg_stat_hidden; "
        "CREATE VIEW pg_catalog.pg_stat_bgwriter AS SELECT NULL::timestamptz AS stats_reset"
    )
    for _ in range(2):
        assert night(nightly) == ("unchanged", "identical")
        assert "does not show its crashes" in nightly.entry("public.person").reason.detail


@pytest.mark.parametrize("same_oid", [False, True])
def test_a_database_made_anew_from_a_template(nightly: Nightly, same_oid: bool) -> None:
    """A copy has the same tables, files, rows and transaction ids; it may even get the same oid."""
    database, admin = nightly.database, nightly.database.server.admin()
    night(nightly, FILL)
    oid = database.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    twin = database.name + "_twin"
    database.close()
    admin.execute(f'CREATE DATABASE "{twin}" TEMPLATE "{database.name}" STRATEGY file_copy')
    copy = database.server.adopt(twin)
    copy.execute("UPDATE person SET name = 'in the copy' WHERE id = 5")
    copy.close()
    admin.execute(f'DROP DATABASE "{database.name}"')
    oid_clause = f"OID {oid}" if same_oid else ""
    admin.execute(f'CREATE DATABASE "{database.name}" TEMPLATE "{twin}" STRATEGY file_copy {oid_clause}')
    admin.execute(f'DROP DATABASE "{twin}"')
    assert night(nightly) == ("extracted", "lineage_changed")
    assert ("database_xmin" if same_oid else "database_oid") in nightly.entry("public.person").reason.detail


def test_a_table_made_anew_under_its_name(nightly: Nightly) -> None:
    """With `detect: column` no lineage is asked for; that the table is another one is seen all the same."""
    rules = {"public.person": TableRule(detect="column", column="id")}
    night(nightly, FILL, rules=rules)
    anew = "DROP TABLE person; " + FILL.replace("'name '", "'made anew '")
    assert night(nightly, anew, rules=rules)[0] == "extracted"


# Names


def test_a_schema_swapped_while_a_table_is_read(pg: PgDatabase) -> None:
    """Renaming a schema waits for no reader: the name leads to another table for as long as one COPY takes."""
    for schema, name in (("here", "mine"), ("there", "not mine")):
        pg.execute(
            f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t AS SELECT i, '{name}' AS v FROM generate_series(1, 9) i"
        )
    swap = "ALTER SCHEMA here RENAME TO x; ALTER SCHEMA there RENAME TO here; ALTER SCHEMA x RENAME TO there"
    snapshot = PostgresSource(Secret(pg.url), Limits(), None).snapshot()
    info = snapshot.tables(Selection(only=("here.t",)), "")[0]
    (part,) = info.parts
    chunk = Chunk(part.id, 0, 8)
    lines: list[bytes] = []
    pg.execute(swap)
    with pytest.raises(SnapshotLost, match="replaced"):
        snapshot.observe([Question(info.table, part, chunk, True, snapshot.point.xmin or 0)])
    with pytest.raises(SnapshotLost, match="replaced"):
        snapshot.extract(info, part, chunk, True, lambda block: (lines.append(bytes(block)), pg.execute(swap)))
    assert b"not mine" in lines[0]
    snapshot.extract(info, part, chunk, True, lambda block: lines.append(bytes(block)))
    assert b"not mine" not in lines[-1]
    snapshot.close()


def test_a_sessions_temporary_tables_hide_no_catalog(nightly: Nightly) -> None:
    """pg_temp comes first in a search_path that does not name it, and so before pg_catalog."""
    database = nightly.database
    night(nightly, FILL, "CREATE VIEW people AS SELECT id FROM person")
    fingerprint = nightly.entry("public.person").fingerprint
    database.execute(SHADOWS)
    changes: dict[str, Any] = {"include": ("*", "people"), "audit_share": 100.0}
    assert night(nightly, **changes) == ("unchanged", "identical")  # such a trigger alters the database's own row
    assert nightly.entry("public.person").fingerprint == fingerprint
    assert nightly.outcome("public.people") == ("extracted", "first_run")
    assert night(nightly, **changes) == ("unchanged", "unchanged")
    assert night(nightly, "UPDATE person SET name = 'new' WHERE id = 7", **changes) == ("extracted", "rows_changed")


# Sizes that could not be measured


@pytest.mark.parametrize("known", [False, True])
def test_a_table_whose_size_could_not_be_measured_is_read(nightly: Nightly, known: bool) -> None:
    """Someone holds it while the catalog is read, and lets go: the planner's page count may be far too small."""
    nightly.database.execute(FILL)
    if known:
        night(nightly)
    with nightly.database.connect() as migration:
        migration.execute("LOCK TABLE person IN ACCESS EXCLUSIVE MODE")
        release = threading.Timer(0.5, migration.rollback)
        release.start()
        nightly.run()
        release.join()
    nightly.require_truth()
    assert nightly.outcome("public.person") == (("unchanged", "identical") if known else ("extracted", "first_run"))
    assert not known or "could not be measured" in nightly.entry("public.person").reason.detail
    night(nightly)
    assert night(nightly) == ("unchanged", "unchanged")


# No proof


def test_what_prints_otherwise_without_a_write_is_read_every_time(nightly: Nightly) -> None:
    night(nightly, FILL, "CREATE TABLE pointer AS SELECT 'person'::regclass AS what")
    assert night(nightly, label="public.pointer") == ("unchanged", "identical")
    renamed = night(nightly, "ALTER TABLE person RENAME TO people", label="public.pointer")
    assert renamed == ("extracted", "no_proof")


@pytest.mark.parametrize("column", ["text", "json"])
@pytest.mark.parametrize("encoder", sorted({usual_encoder(), "server"}))
def test_a_users_cast_from_json_shapes_no_line(nightly: Nightly, column: str, encoder: str) -> None:
    """Lines become text, where they must, by json's own output; and blocks become tids by tid's own input."""
    nightly.database.execute(f"CREATE TABLE plain AS SELECT '\"a\"'::{column} AS v FROM generate_series(1, 2000)")
    for source, target, body in (("json", "text", "'wrong'"), ("text", "tid", "'(0,1)'::tid")):
        name = f"as_{target}"
        nightly.database.execute(
            f"CREATE FUNCTION {name}({source}) RETURNS {target} LANGUAGE sql AS $$ SELECT {body} $$; "
            f"CREATE CAST ({source} AS {target}) WITH FUNCTION {name}({source})"
        )
    nightly.run(encoder=encoder)
    expected = b'{"v":"a"}\n' if column == "json" else b'{"v":"\\"a\\""}\n'
    assert nightly.landed("public.plain") == [expected] * 2000


def test_what_could_not_be_proven_when_it_was_read_is_read_once_more(nightly: Nightly) -> None:
    """A user's cast between built-in types may have taken part in the filter; its going leaves no other trace."""
    rules = {"public.person": TableRule(where="name <> 'x'")}
    cast = "CREATE CAST (text AS int) WITH FUNCTION c(text)"
    nightly.database.execute(FILL)
    nightly.database.execute("CREATE FUNCTION c(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; " + cast)
    nightly.run(rules=rules)
    nightly.database.execute("DROP CAST (text AS int)")
    nightly.run(rules=rules)
    assert nightly.outcome("public.person") == ("unchanged", "identical")
    assert "when it was last read" in nightly.entry("public.person").reason.detail
    nightly.run(rules=rules)
    assert nightly.outcome("public.person") == ("unchanged", "unchanged")


# Rewritten under us, without a name or a block of its own


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_what_a_view_reads_is_truncated_under_the_snapshot(nightly: Nightly, kind: str) -> None:
    """An old snapshot sees the new file, which is empty, and no error says so."""
    database = nightly.database
    database.execute(FILL)
    database.execute(f"CREATE {kind} people AS SELECT id FROM person")
    done: list[Event] = []

    def observer(event: Event) -> None:
        if isinstance(event, TableDecided) and not done:
            done.append(event)
            refresh = "; REFRESH MATERIALIZED VIEW people" if kind != "VIEW" else ""
            database.execute(f"TRUNCATE person; INSERT INTO person VALUES (1, 'only one'){refresh}")

    nightly.last = run(nightly.settings(include=("public.people",)), observer).manifest
    assert nightly.landed("public.people") == [b'{"id":1}\n']


def test_row_level_security_that_comes_under_the_snapshot_hides_no_row(nightly: Nightly) -> None:
    """The catalog was read before; the server then refuses rather than leave rows out."""
    database = nightly.database
    role = database.role("reader_of_all")
    database.execute(FILL)
    database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_of_all")

    def observer(event: Event) -> None:
        if isinstance(event, TableDecided):
            database.execute("ALTER TABLE person ENABLE ROW LEVEL SECURITY; "
                             "CREATE POLICY few ON person USING (id < 10)")  # fmt: skip

    nightly.last = run(nightly.settings(url=role.url), observer).manifest
    assert nightly.outcome("public.person") == ("failed", "denied")
    assert nightly.entry("public.person").objects == ()


# Encodings


def test_objects_written_otherwise_are_not_named_again(nightly: Nightly) -> None:
    """The lines are the same, so their digests are; but a consumer reads all of a table in one encoding."""
    night(nightly, FILL)
    assert night(nightly, compression="none")[0] == "extracted"
    entry = nightly.entry("public.person")
    assert entry.encoding is not None and entry.encoding.compression == "none"
    assert all(one.key.endswith(".jsonl") for one in entry.objects)
    assert night(nightly, compression="none") == ("unchanged", "unchanged")


# Other servers behind one address


def test_a_balancer_between_two_servers(
    private_server: Cluster, standby: MakeStandby, make_nightly: MakeNightly, balancer: MakeBalancer
) -> None:
    """Every second connection reaches the other server: one connection reads all, and it is said."""
    job = make_nightly(private_server.database())
    job.database.execute(FILL)
    twin = standby(private_server)
    turns = itertools.cycle((private_server.port, twin.port))
    url = job.database.url.replace(str(private_server.port), str(balancer(lambda: next(turns)).port))
    job.run(url=url)
    job.require_truth()
    assert any("can't share the snapshot" in getattr(event, "message", "") for event in job.events)
    job.database.execute("UPDATE person SET name = 'changed' WHERE id = 7")
    twin.wait_for(private_server)
    job.run(url=url)
    job.require_truth()


def test_a_definition_is_compared_on_the_server_that_was_read(
    private_server: Cluster, standby: MakeStandby, make_nightly: MakeNightly, balancer: MakeBalancer
) -> None:
    """A label is renamed while a table is read, and only a standby that lags behind still says otherwise."""
    job = make_nightly(private_server.database())
    job.database.execute("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE person AS SELECT 'sad'::mood AS m")
    twin = standby(private_server)
    target = [private_server.port]
    url = job.database.url.replace(str(private_server.port), str(balancer(lambda: target[0]).port))
    snapshots: list[Event] = []

    def observer(event: Event) -> None:
        if isinstance(event, RunStarted):
            snapshots.append(event)
            target[0] = private_server.port
        if isinstance(event, TableDecided) and len(snapshots) == 1:
            twin.pause()
            job.database.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
            target[0] = twin.port

    job.last = run(job.settings(url=url, connections=1), observer).manifest
    status, _ = job.outcome("public.person")
    assert len(snapshots) > 1
    assert status == "extracted"
    assert job.landed("public.person") in ([b'{"m":"blue"}\n'], [b'{"m":"sad"}\n'])
    in_recovery = job.last.source.snapshot.lineage and job.last.source.snapshot.lineage.in_recovery
    assert job.landed("public.person") == ([b'{"m":"sad"}\n'] if in_recovery else [b'{"m":"blue"}\n'])
    twin.resume()


def test_a_snapshot_of_the_same_name_and_look_on_another_server(make_server: MakeServer, standby: MakeStandby) -> None:
    """Two standbys that were both promoted can export one name for what looks like one snapshot. They are two."""
    primary = make_server(settings={"autovacuum": "off"})  # it takes transaction ids, too
    database = primary.database()
    here, there = (database.on(standby(primary)) for _ in range(2))
    position = primary.flushed()  # of both: a transaction between them would make two looks
    for one in (here, there):
        one.server.wait_until(position)
    primary.stop()
    for one in (here, there):
        one.server.promote()
    with ExitStack() as stack:
        coordinator = _one_name_on_both(stack, here, there)
        transactions = SnapshotTransactions(coordinator, address(Secret(there.url)), Limits(), {})
        stack.callback(transactions.close)
        assert transactions.parallelism == 1
        assert "its snapshot differs" in transactions.drawbacks[-1].found


def test_a_snapshot_that_is_gone_is_told_as_that(pg_any: PgDatabase) -> None:
    """From PostgreSQL 17 on, an unknown snapshot has the SQLSTATE of a definition that changed."""
    where = address(Secret(pg_any.url))
    coordinator = Coordinator(where, Limits(), {})
    transactions = SnapshotTransactions(coordinator, where, Limits(), {})
    pid = coordinator.connection.info.backend_pid
    coordinator.close()
    until(lambda: not pg_any.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]))
    imports = transactions.begin("can't read", "t", "SET LOCAL jit = off")  # the first worker's began otherwise
    with pytest.raises(SnapshotLost, match="can't import the snapshot"), imports:
        pytest.fail("it was imported")
    transactions.close()


def _one_name_on_both(stack: ExitStack, here: PgDatabase, there: PgDatabase) -> Coordinator:
    """A coordinator here, while there a session holds a snapshot that was exported under the same name.

    A name is made of a process's slot and of the number of its transactions; the latter can be made to agree.
    """
    aged = [here.connect(autocommit=True) for _ in range(8)]
    for number in range(300 * len(aged)):
        aged[number % len(aged)].execute("SELECT 1")
    here.close()
    time.sleep(0.5)  # their slots come free
    coordinators = [Coordinator(address(Secret(here.url)), Limits(), {}) for _ in range(8)]
    for coordinator in coordinators:
        stack.callback(coordinator.close)
    for session in [there.connect(autocommit=True) for _ in range(12)]:
        for coordinator in coordinators:
            if _exported_as(session, coordinator.exported.id):
                return coordinator
    pytest.fail("no session could be brought to the same name")


def _exported_as(session: psycopg.Connection[Any], name: str) -> bool:
    """Let transactions pass until the next snapshot has this name; false for a session that can't have it."""
    slot, wanted, _ = (int(part, 16) for part in name.split("-"))
    while True:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        row = session.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        mine, number, _ = (int(part, 16) for part in row[0].split("-"))
        if (mine, number) == (slot, wanted):
            return True
        session.execute("ROLLBACK")
        if mine != slot or number > wanted:
            return False


# What servers are refused


def test_old_snapshot_threshold_is_refused(make_server: MakeServer) -> None:
    """With it, an imported snapshot can lose rows without an error; PostgreSQL 17 took it out."""
    database = make_server(16, settings={"old_snapshot_threshold": "1min"}).database()
    with pytest.raises(SourceError, match="old_snapshot_threshold is 1min"):
        PostgresSource(Secret(database.url), Limits(), None).snapshot()


def test_zero_damaged_pages_is_refused(make_server: MakeServer) -> None:
    """With it, the rows of a damaged page are lost with a warning that nobody sees."""
    database = make_server(settings={"zero_damaged_pages": "on"}).database()
    with pytest.raises(SourceError, match="zero_damaged_pages is on"):
        PostgresSource(Secret(database.url), Limits(), None).snapshot()


def test_a_session_with_another_transaction_does_not_hold_the_snapshot(pg: PgDatabase) -> None:
    """A pooler that connects again without a word would answer as well."""
    coordinator = Coordinator(address(Secret(pg.url)), Limits(), {})
    assert coordinator.alive()
    pg.execute("CREATE TABLE a (i int)")
    assert coordinator.alive()
    coordinator.connection.execute("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    assert not coordinator.alive()
    coordinator.close()
