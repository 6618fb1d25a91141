"""REPACK (CONCURRENTLY) of PostgreSQL 19: the command where the server has it, and else its change, played by hand.

The command copies the visible rows into a transient table, under the id of its own transaction. It then locks the
table exclusively and swaps the files and the TOAST tables of the two, which are columns of pg_class. It drops the
transient table, all in that one transaction. The play does the same by statements: the superuser writes pg_class.
"""

from __future__ import annotations

from fix_postgres import PgDatabase

_SWAPPED = ("relfilenode", "reltoastrelid", "relfrozenxid", "relminmxid", "relpages", "reltuples", "relallvisible")


def repack_concurrently(database: PgDatabase, table: str) -> None:
    """Repack a table with a primary key while others read it. The table's oid stays, its file does not."""
    if database.version >= 19:
        database.execute(f"REPACK (CONCURRENTLY) {table}")
        return
    oid = database.value("SELECT %s::regclass::oid::bigint", [table])
    transient = f"pg_temp_{oid}"
    with database.connect() as session:
        session.execute("SET LOCAL allow_system_table_mods = on")
        session.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
        session.execute(f"CREATE TABLE {transient} (LIKE {table} INCLUDING STORAGE)")
        session.execute(f"INSERT INTO {transient} SELECT * FROM {table}")
        session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        assignments = ", ".join(f"{column} = other.{column}" for column in _SWAPPED)
        pair = f"('{table}'::regclass, '{transient}'::regclass)"
        session.execute(
            f"UPDATE pg_class one SET {assignments} FROM pg_class other "
            f"WHERE one.oid IN {pair} AND other.oid IN {pair} AND one.oid <> other.oid"
        )
        session.execute(
            "UPDATE pg_depend d SET refobjid = c.oid FROM pg_class c WHERE d.classid = 'pg_class'::regclass "
            f"AND d.objid = c.reltoastrelid AND c.oid IN {pair} AND d.deptype = 'i'"
        )
        session.execute(f"REINDEX TABLE {table}")
        session.execute(f"DROP TABLE {transient}")
