"""The journal's trigger and guard on real servers: every write is recorded, and a lost row is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from fix_postgres import PgDatabase
from floodmark.config import Secret
from floodmark.events import ignore_event
from floodmark.journal import change, migrate
from floodmark.journal.connection import JournalConnection
from floodmark.source.postgres.address import address
from floodmark.source.postgres.journal_names import ENDLESS

RECORDED = "SELECT DISTINCT relation::regclass::text FROM floodmark.journal ORDER BY 1"
BUCKETS = "SELECT bucket FROM floodmark.journal WHERE relation = 'a'::regclass ORDER BY 1"
LATEST = "SELECT pg_current_xact_id()::text::bigint"
NOW = "SELECT pg_current_xact_id()::text::bigint >> 10"
SCANS = "SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = 'journal'"
FLOOR = "SELECT floor::text::bigint FROM floodmark.journal_floor"
# Takes some thousands of transaction ids at once.
BURN = """
DO $$ BEGIN
    FOR i IN 1..%d LOOP
        BEGIN PERFORM pg_current_xact_id(); INSERT INTO burnt VALUES (i); RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
END $$"""


def journaled(database: PgDatabase, tables: str, enabled: Sequence[str]) -> None:
    database.execute(f"{tables}; CREATE TABLE burnt (id int)")
    where = address(Secret(database.url))
    with migrate.engine_of(where).connect() as schema:
        migrate.upgrade(schema)
        schema.commit()
    with JournalConnection(where) as connection:
        change.enable(connection, enabled, ignore_event)


def recorded(database: PgDatabase) -> list[str]:
    """The relations recorded since the last call."""
    found = [name for (name,) in database.query(RECORDED)]
    database.execute("TRUNCATE floodmark.journal")
    return found


def next_bucket(database: PgDatabase) -> int:
    """Take ids up to the start of another bucket, so that the caller's next writes all fall into it."""
    database.execute(BURN % (1024 - int(database.value(LATEST)) % 1024))
    return int(database.value(NOW))


def test_every_kind_of_write_is_recorded(pg_any: PgDatabase) -> None:
    journaled(
        pg_any,
        """CREATE TABLE a (id int PRIMARY KEY);
        CREATE TABLE b (id int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
        CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
        CREATE TABLE up (id int); CREATE TABLE down () INHERITS (up)""",
        ["a", "b", "p", "down"],
    )
    for statement, relations in (
        ("INSERT INTO a SELECT generate_series(1, 9)", ["a"]),
        ("INSERT INTO b VALUES (1), (2), (3)", ["b"]),
        ("UPDATE a SET id = 10 WHERE id = 1", ["a", "b"]),
        ("DELETE FROM a WHERE id = 2", ["a", "b"]),
        ("UPDATE a SET id = id WHERE false", ["a"]),
        ("WITH gone AS (DELETE FROM b RETURNING id) INSERT INTO a SELECT 100", ["a", "b"]),
        ("INSERT INTO a VALUES (100) ON CONFLICT DO NOTHING", ["a"]),
        ("TRUNCATE a CASCADE", ["a", "b"]),
        ("INSERT INTO p VALUES (1)", ["p"]),
        ("INSERT INTO p1 VALUES (1)", ["p1"]),
        ("UPDATE p SET id = 2", ["p"]),
        ("TRUNCATE p", ["p", "p1", "p2"]),
        ("TRUNCATE p2", ["p2"]),
        ("INSERT INTO down VALUES (1)", ["down"]),
        ("UPDATE up SET id = 2", ["up"]),
        ("DELETE FROM ONLY up", ["up"]),
        ("SELECT * FROM a FOR UPDATE", []),
        ("VACUUM FULL a", []),
    ):
        pg_any.execute(statement)
        assert recorded(pg_any) == relations, statement


def test_copy_and_merge_are_recorded(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    with pg.connect(autocommit=True) as connection, connection.cursor().copy("COPY a FROM STDIN") as copy:
        copy.write("1\n")
    assert recorded(pg) == ["a"]
    with pg.connect() as connection:
        connection.execute("TRUNCATE a")
        with connection.cursor().copy("COPY a FROM STDIN (FREEZE)") as copy:
            copy.write("1\n")
        connection.commit()
    assert recorded(pg) == ["a"]
    pg.execute("MERGE INTO a USING (VALUES (1)) v (id) ON a.id = v.id WHEN MATCHED THEN DELETE")
    assert recorded(pg) == ["a"]


def test_replication_sessions_are_recorded_and_a_disabled_trigger_shows(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    pg.execute("SET session_replication_role = replica; INSERT INTO a VALUES (1); RESET session_replication_role")
    assert recorded(pg) == ["a"]


def test_one_row_per_table_and_bucket(pg_any: PgDatabase) -> None:
    journaled(pg_any, "CREATE TABLE a (id int)", ["a"])
    first = next_bucket(pg_any)
    for _ in range(5):
        pg_any.execute("INSERT INTO a VALUES (1)")
    assert pg_any.query(BUCKETS) == [(first,)]
    second = next_bucket(pg_any)
    pg_any.execute("INSERT INTO a VALUES (1)")
    assert pg_any.query(BUCKETS) == [(first,), (second,)] and second > first


def test_a_row_of_an_aborted_or_open_transaction_is_written_again(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    bucket = next_bucket(pg)
    with pg.connect() as aborted, pg.connect() as other:
        aborted.execute("INSERT INTO a VALUES (1)")
        other.execute("INSERT INTO a VALUES (2)")  # does not see the row, and does not wait for it
        aborted.rollback()
        other.commit()
    assert pg.query(BUCKETS) == [(bucket,)]
    recorded(pg)
    with pg.connect() as connection:
        connection.execute("SAVEPOINT s; INSERT INTO a VALUES (1); ROLLBACK TO s")
        connection.execute("INSERT INTO a VALUES (2)")
        connection.execute("SAVEPOINT s; INSERT INTO a VALUES (3); RELEASE s; INSERT INTO a VALUES (4)")
        connection.commit()
    assert pg.query(BUCKETS) == [(bucket,)]


def test_a_prepared_transaction_is_recorded_with_its_own_id(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    bucket = next_bucket(pg)
    pg.execute("BEGIN; INSERT INTO a VALUES (1); PREPARE TRANSACTION 'later'")
    assert pg.query(BUCKETS) == []
    next_bucket(pg)
    pg.execute("COMMIT PREPARED 'later'")
    assert pg.query(BUCKETS) == [(bucket,)]


def test_a_subtransaction_is_recorded_under_its_top_level_transaction(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    with pg.connect() as connection:
        bucket = connection.execute(NOW).fetchone()
        connection.execute(BURN % 1100)
        connection.execute("SAVEPOINT s; INSERT INTO a VALUES (1)")
        connection.commit()
    assert pg.query(BUCKETS) == [bucket]


def test_serializable_transactions_get_no_conflicts(pg: PgDatabase) -> None:
    """Each writes tables of its own, in turn, and reads nothing. Without the journal they never conflict."""
    names = ("a", "b", "c", "d")
    journaled(pg, "; ".join(f"CREATE TABLE {name} (id int)" for name in names), names)
    next_bucket(pg)
    with pg.connect() as one, pg.connect() as two:
        for connection in (one, two):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        for connection, name in ((one, "a"), (two, "b"), (one, "c"), (two, "d")):
            connection.execute(f"INSERT INTO {name} VALUES (1)")
        one.commit()
        two.commit()
    assert recorded(pg) == list(names)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_records_what_it_does_not_see(pg: PgDatabase, level: str) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    with pg.connect(autocommit=True) as old:
        old.execute(f"BEGIN ISOLATION LEVEL {level}")
        old.execute("SELECT 1")
        pg.execute("INSERT INTO a VALUES (1)")
        old.execute("INSERT INTO a VALUES (2)")
        old.execute("COMMIT")
    assert len(pg.query(BUCKETS)) == 2


def test_a_read_only_transaction_is_refused_by_the_server_and_not_by_the_journal(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    with pg.connect(autocommit=True) as connection:
        connection.execute("BEGIN READ ONLY")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="UPDATE"):
            connection.execute("UPDATE a SET id = 1 WHERE false")
        connection.execute("ROLLBACK; BEGIN READ ONLY; SELECT * FROM a; COMMIT")
    assert recorded(pg) == []


def test_a_role_without_any_right_on_the_journal_can_write(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    role = pg.role("app")
    pg.execute("GRANT INSERT ON a TO app")
    with role.connect(autocommit=True) as connection:
        connection.execute("INSERT INTO a VALUES (1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM floodmark.journal")
    assert recorded(pg) == ["a"]


def test_no_name_in_a_callers_search_path_misleads_the_functions(pg: PgDatabase) -> None:
    """Functions, operators, types and tables of the same names, before the catalog's, in a temporary schema too."""
    role = pg.role("app")
    journaled(pg, "CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE SCHEMA evil AUTHORIZATION app", ["a", "b"])
    pg.execute("GRANT INSERT ON a TO app")
    pg.execute("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")  # rows that an operator could take for others
    ((first,),) = pg.query(BUCKETS)
    bucket = next_bucket(pg)
    pg.execute("INSERT INTO b VALUES (1)")
    with role.connect(autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION evil.stolen(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT true';
            CREATE FUNCTION evil.stolen(bigint, bigint) RETURNS bool LANGUAGE sql AS 'SELECT true';
            CREATE FUNCTION evil.never(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
            CREATE FUNCTION evil.shifted(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT 7::bigint';
            CREATE OPERATOR evil.= (FUNCTION = evil.stolen, LEFTARG = oid, RIGHTARG = oid);
            CREATE OPERATOR evil.= (FUNCTION = evil.stolen, LEFTARG = bigint, RIGHTARG = bigint);
            CREATE OPERATOR evil.<> (FUNCTION = evil.never, LEFTARG = text, RIGHTARG = text);
            CREATE OPERATOR evil.>> (FUNCTION = evil.shifted, LEFTARG = bigint, RIGHTARG = int);
            CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS $$ SELECT '1'::xid8 $$;
            CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'serializable' $$;
            CREATE DOMAIN evil.int8 AS text; CREATE DOMAIN evil.text AS pg_catalog.text;
            CREATE TEMP TABLE journal (relation oid, bucket bigint); CREATE TEMP TABLE floodmark (i int);
            SET search_path = evil, pg_temp, pg_catalog""")
        for _ in range(2):
            connection.execute("INSERT INTO public.a VALUES (1)")
        assert connection.execute("SELECT pg_catalog.count(*) FROM journal").fetchone() == (0,)
    assert pg.query(BUCKETS) == [(first,), (bucket,)]


def test_the_index_is_used_whatever_the_statistics_say(pg: PgDatabase) -> None:
    """A session that planned when the journal was small must not scan it when it is large."""
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    pg.execute("INSERT INTO a VALUES (1)")
    pg.execute("VACUUM ANALYZE floodmark.journal")
    rows = "SELECT r, b FROM generate_series(1, 100) r, generate_series(1, 1000) b"
    with pg.connect(autocommit=True) as session:
        for _ in range(10):
            session.execute("INSERT INTO a VALUES (1)")
        pg.execute(f"INSERT INTO floodmark.journal {rows}")
        pg.execute("SELECT pg_stat_force_next_flush()")
        session.execute("SELECT pg_stat_force_next_flush()")
        before = pg.query(SCANS)
        session.execute("INSERT INTO a VALUES (1)")
        session.execute("SELECT pg_stat_force_next_flush()")
    ((scanned, looked),) = pg.query(SCANS)
    assert [(scanned, looked - 1)] == before


# The guard


@pytest.mark.parametrize(
    "lost",
    [
        "DELETE FROM floodmark.journal",
        "UPDATE floodmark.journal SET bucket = 0",
        "TRUNCATE floodmark.journal",
        "TRUNCATE floodmark.journal_floor, floodmark.journal; INSERT INTO floodmark.journal_floor VALUES ('1')",
        "SET session_replication_role = replica; DELETE FROM floodmark.journal; RESET session_replication_role",
    ],
)
def test_lost_rows_raise_the_floor_beyond_everything(pg_any: PgDatabase, lost: str) -> None:
    journaled(pg_any, "CREATE TABLE a (id int)", ["a"])
    next_bucket(pg_any)
    pg_any.execute("INSERT INTO a VALUES (1)")
    pg_any.execute(lost)
    if "floor" not in lost:
        assert pg_any.value(FLOOR) == ENDLESS
    else:  # not the guard's: the floor itself was replaced
        assert pg_any.value(FLOOR) == 1


def test_a_trim_deletes_only_what_ended_below_the_floor(pg_any: PgDatabase) -> None:
    journaled(pg_any, "CREATE TABLE a (id int)", ["a"])
    pg_any.execute("INSERT INTO a VALUES (1)")
    old = next_bucket(pg_any)
    pg_any.execute("INSERT INTO a VALUES (1)")
    with pg_any.connect() as writer:
        writer.execute("INSERT INTO a VALUES (2)")
        next_bucket(pg_any)
        recent = next_bucket(pg_any)
        pg_any.execute("INSERT INTO a VALUES (3)")
        assert pg_any.value("SELECT floodmark.trim_journal('1 hour')") == 0  # no moment is old enough
        first = pg_any.value(FLOOR)
        assert pg_any.value("SELECT floodmark.trim_journal('0')") == 1
        floor = pg_any.value(FLOOR)
        (xid,) = writer.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
        assert first < floor == xid  # never above what runs
        assert pg_any.query(BUCKETS) == [(old,), (recent,)]
        writer.commit()
    assert pg_any.value("SELECT floodmark.trim_journal('0')") == 1
    assert pg_any.query(BUCKETS) == [(recent,)]
    assert pg_any.value(FLOOR) > floor


def test_trim_by_time_uses_the_moments_of_earlier_trims(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    pg.execute("INSERT INTO a VALUES (1)")
    next_bucket(pg)
    pg.execute("SELECT floodmark.trim_journal('30 days')")
    pg.execute("UPDATE floodmark.journal_moment SET at = at - interval '31 days'")
    moment = pg.value("SELECT max(finished::text::bigint) FROM floodmark.journal_moment")
    bucket = next_bucket(pg)
    pg.execute("INSERT INTO a VALUES (1)")
    assert pg.value("SELECT floodmark.trim_journal('30 days')") == 1
    assert pg.value(FLOOR) == moment
    assert pg.query(BUCKETS) == [(bucket,)]


def test_a_trim_makes_proofs_possible_again_after_a_loss(pg: PgDatabase) -> None:
    """Above the new floor, no transaction can have relied on a lost row: its bucket had begun before the trim."""
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    next_bucket(pg)
    pg.execute("INSERT INTO a VALUES (1)")
    with pg.connect(autocommit=True) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert old.execute("SELECT count(*) FROM floodmark.journal").fetchone() == (1,)
        pg.execute("DELETE FROM floodmark.journal")
        assert pg.value(FLOOR) == ENDLESS
        pg.execute("SELECT floodmark.trim_journal('30 days')")
        old.execute("INSERT INTO a VALUES (2)")  # relies on the row that is gone
        (xid,) = old.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
        old.execute("COMMIT")
    floor = pg.value(FLOOR)
    assert pg.query(BUCKETS) == [] and xid < floor == (pg.value(NOW) + 1) << 10
    pg.execute("SELECT floodmark.trim_journal('30 days')")
    assert pg.value(FLOOR) == floor  # a floor never falls, except from beyond everything


def test_trim_wants_read_committed(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    with pg.connect(autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            connection.execute("SELECT floodmark.trim_journal('0')")


def test_a_delete_in_an_old_snapshot_after_a_trim_is_noticed_or_fails(pg: PgDatabase) -> None:
    """The old snapshot sees a floor beyond everything, below which every row could go."""
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    pg.execute("INSERT INTO a VALUES (1)")
    recorded(pg)
    next_bucket(pg)
    pg.execute("INSERT INTO a VALUES (1)")
    with pg.connect(autocommit=True) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        pg.execute("SELECT floodmark.trim_journal('30 days')")
        with pytest.raises(psycopg.errors.SerializationFailure):
            old.execute("DELETE FROM floodmark.journal")


def test_maintenance_of_the_journal_is_no_loss_and_a_publication_refuses_no_trim(pg: PgDatabase) -> None:
    journaled(pg, "CREATE TABLE a (id int)", ["a"])
    pg.execute("INSERT INTO a VALUES (1)")
    floor: Any = pg.value(FLOOR)
    for statement in ("VACUUM FULL floodmark.journal", "ANALYZE floodmark.journal", "REINDEX TABLE floodmark.journal"):
        pg.execute(statement)
    assert pg.value(FLOOR) == floor and recorded(pg) == ["a"]
    pg.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    pg.execute("INSERT INTO a VALUES (1)")
    next_bucket(pg)
    pg.execute("SELECT floodmark.trim_journal('0')")
    assert pg.query(BUCKETS) == []
