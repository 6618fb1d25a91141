"""Reading a test database's catalog as a run does: in a read-only snapshot, with the settings pinned."""

from __future__ import annotations

from typing import Any

import psycopg

from fix_postgres import PgDatabase
from floodmark.config import Limits, Selection
from floodmark.source.postgres.catalog import read_tables
from floodmark.source.postgres.connect import pinned_settings
from floodmark.source.postgres.statements import PgTable

MODS = "SET allow_system_table_mods = on;"


def read_catalog(
    database: PgDatabase,
    selection: Selection | None = None,
    *,
    digest: str = "jsonl/gzip",
    dsn: str | None = None,
    limits: Limits | None = None,
) -> dict[str, PgTable]:
    """The tables by label. `dsn`: as another role than the superuser."""
    with psycopg.connect(dsn or database.dsn, autocommit=True) as connection:
        begin(connection, limits or Limits())
        _, tables = read_tables(connection, selection or Selection(), digest)
        connection.execute("ROLLBACK")
    return {table.info.table.label: table for table in tables}


def begin(connection: psycopg.Connection[Any], limits: Limits) -> None:
    """Begin the transaction that a coordinator begins, without exporting its snapshot."""
    pinned = pinned_settings(limits, connection.info.server_version)
    connection.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {pinned}")


def doubt(table: PgTable) -> str | None:
    """Why change can't be proven, of a table whose parts all say the same."""
    (reason,) = {part.no_proof for part in table.info.parts}
    return reason
