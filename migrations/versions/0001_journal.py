"""Create the journal: its tables, the function that records a write, and the guard that notices lost rows.

Every name in a function is qualified, operators too, because a caller's search_path can hold other objects of the same
name. A bucket is 1024 transaction ids: see docs/journal.md.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The floor beyond every transaction. It fits into a bigint, so that it can be cast.
_ENDLESS = "9223372036854775807"

_TABLES = (
    """
CREATE TABLE floodmark.journal (
    relation oid NOT NULL,
    bucket bigint NOT NULL
) WITH (vacuum_truncate = off)""",
    "CREATE INDEX journal_relation_bucket ON floodmark.journal (relation, bucket)",
    # A publication FOR ALL TABLES would otherwise refuse a DELETE.
    "ALTER TABLE floodmark.journal REPLICA IDENTITY FULL",
    """
COMMENT ON TABLE floodmark.journal IS
    'A transaction whose 64-bit id lies in [bucket * 1024, (bucket + 1) * 1024) wrote to relation.'""",
    "CREATE TABLE floodmark.journal_floor (floor xid8 NOT NULL)",
    "CREATE UNIQUE INDEX journal_floor_one_row ON floodmark.journal_floor ((true))",
    "ALTER TABLE floodmark.journal_floor REPLICA IDENTITY FULL",
    "COMMENT ON TABLE floodmark.journal_floor IS 'Writes of transactions below the floor can be missing.'",
    "INSERT INTO floodmark.journal_floor VALUES (pg_current_xact_id())",
    "CREATE TABLE floodmark.journal_moment (at timestamptz NOT NULL, finished xid8 NOT NULL)",
    "ALTER TABLE floodmark.journal_moment REPLICA IDENTITY FULL",
    """
COMMENT ON TABLE floodmark.journal_moment IS
    'At that time, all transactions below finished had ended. trim_journal keeps rows by time with it.'""",
    """
INSERT INTO floodmark.journal_moment VALUES (now(), pg_snapshot_xmin(pg_current_snapshot()))""",
)

# A SERIALIZABLE transaction does not look for a row, because a look would conflict with the writes of others. A session
# keeps its plan: without the setting it would read the whole table for ever if the table was small at first.
_RECORD = """
CREATE FUNCTION floodmark.record_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $function$
DECLARE
    this_bucket CONSTANT pg_catalog.int8 :=
        pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8 OPERATOR(pg_catalog.>>) 10;
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'serializable' THEN
        PERFORM FROM floodmark.journal AS j
            WHERE j.relation OPERATOR(pg_catalog.=) TG_RELID AND j.bucket OPERATOR(pg_catalog.=) this_bucket LIMIT 1;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO floodmark.journal (relation, bucket) VALUES (TG_RELID, this_bucket);
    RETURN NULL;
END
$function$"""

# Rows that ended below the floor can go. If any other row goes, nothing is proven until the next trim. FOR UPDATE waits
# for a trim at work, and then the next statement sees its floor.
_GUARD = f"""
CREATE FUNCTION floodmark.guard_journal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    lowest bigint;
BEGIN
    SELECT floor::text::bigint INTO lowest FROM floodmark.journal_floor FOR UPDATE;
    IF TG_OP <> 'DELETE' THEN
        UPDATE floodmark.journal_floor SET floor = '{_ENDLESS}';
    ELSIF EXISTS (SELECT FROM gone WHERE bucket >= lowest >> 10) THEN
        UPDATE floodmark.journal_floor SET floor = '{_ENDLESS}';
    END IF;
    RETURN NULL;
END
$function$"""

# The floor is locked first, so that each later statement sees all that was deleted before. A floor beyond everything
# comes down to the end of the bucket that is open now: no transaction from there on can have relied on a lost row.
_TRIM = f"""
CREATE FUNCTION floodmark.trim_journal(keep interval) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    old_floor bigint;
    oldest_running bigint;
    new_floor bigint;
    deleted bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'trim_journal must run in a READ COMMITTED transaction' USING ERRCODE = '25001';
    END IF;
    SELECT floor::text::bigint INTO STRICT old_floor FROM floodmark.journal_floor FOR UPDATE;
    oldest_running := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    INSERT INTO floodmark.journal_moment VALUES (clock_timestamp(), oldest_running::text::xid8);
    IF old_floor = {_ENDLESS} THEN
        new_floor := ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint >> 10) + 1) << 10;
    ELSE
        SELECT greatest(old_floor, max(finished::text::bigint)) INTO new_floor
            FROM floodmark.journal_moment WHERE at <= clock_timestamp() - keep;
    END IF;
    UPDATE floodmark.journal_floor SET floor = new_floor::text::xid8;
    DELETE FROM floodmark.journal WHERE bucket < new_floor >> 10;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM floodmark.journal_moment WHERE finished::text::bigint < new_floor;
    RETURN deleted;
END
$function$"""

_TRIGGERS = (
    """
CREATE TRIGGER guard_delete AFTER DELETE ON floodmark.journal REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION floodmark.guard_journal()""",
    """
CREATE TRIGGER guard_update AFTER UPDATE OR TRUNCATE ON floodmark.journal
    FOR EACH STATEMENT EXECUTE FUNCTION floodmark.guard_journal()""",
    "ALTER TABLE floodmark.journal ENABLE ALWAYS TRIGGER guard_delete",
    "ALTER TABLE floodmark.journal ENABLE ALWAYS TRIGGER guard_update",
)
_RIGHTS = (
    "REVOKE ALL ON FUNCTION floodmark.record_write() FROM PUBLIC",
    "REVOKE ALL ON FUNCTION floodmark.guard_journal() FROM PUBLIC",
    "REVOKE ALL ON FUNCTION floodmark.trim_journal(interval) FROM PUBLIC",
)


def upgrade() -> None:
    for statement in (*_TABLES, _RECORD, _GUARD, _TRIM, *_TRIGGERS, *_RIGHTS):
        op.execute(statement.strip())


def downgrade() -> None:
    # A journal that lost an object must be removable too: without its table, no watched table can be written to.
    op.execute("DROP FUNCTION IF EXISTS floodmark.trim_journal(interval)")
    op.execute("DROP TABLE IF EXISTS floodmark.journal, floodmark.journal_floor, floodmark.journal_moment")
    op.execute("DROP FUNCTION IF EXISTS floodmark.guard_journal()")
    op.execute("DROP FUNCTION IF EXISTS floodmark.record_write()")
