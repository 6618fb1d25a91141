"""Objects in a DuckDB file that depend on a table, so that DuckDB refuses to drop it."""

from __future__ import annotations

from typing import Any

from floodmark.model import TableName
from floodmark.reader import extras

# Foreign keys never come from another schema's tables, but views can. An index (`a`) is dropped with its table.
_DEPENDENTS = """
SELECT DISTINCT coalesce(v.schema_name, u.schema_name), coalesce(v.view_name, u.table_name)
FROM duckdb_dependencies() d JOIN duckdb_tables() t ON t.table_oid = d.objid
LEFT JOIN duckdb_tables() u ON u.table_oid = d.refobjid AND u.database_name = t.database_name
LEFT JOIN duckdb_views() v ON v.view_oid = d.refobjid AND v.database_name = t.database_name
WHERE t.database_name = current_database() AND t.schema_name = ? AND t.table_name = ? AND d.deptype <> 'a'
    AND coalesce(v.view_name, u.table_name) IS NOT NULL
ORDER BY ALL"""


def dependents(connection: Any, qualified: str, table: TableName) -> list[str] | None:
    """Return the names of the objects that keep DuckDB from dropping a table, or None if it would drop it.

    DuckDB does not know all of them by name, so the list can be empty.
    """
    if _is_droppable(connection, qualified):
        return None
    found = connection.execute(_DEPENDENTS, [table.schema, table.name]).fetchall()
    return [".".join(one) for one in found]


def _is_droppable(connection: Any, qualified: str) -> bool:
    """Return true if DuckDB would drop a table. It tries the drop, because a refusal later would fail all tables."""
    duckdb = extras.duckdb()
    connection.execute("BEGIN")
    try:
        connection.execute(f"DROP TABLE {qualified}")
    except (duckdb.CatalogException, duckdb.DependencyException):
        return False
    finally:
        connection.execute("ROLLBACK")
    return True
