"""Identifiers in SQL, as PostgreSQL and SQLite both quote them. DuckDB's are quoted in `reader.duckdb`."""

from __future__ import annotations

from functools import lru_cache

from floodmark.model import TableName


@lru_cache(4096)  # many tables have columns of the same names
def quoted(name: str) -> str:
    """Return an identifier in quotes, always, so that keywords and capitals need no special case."""
    return '"' + name.replace('"', '""') + '"'


def qualified(table: TableName) -> str:
    """Return `"schema"."name"`, which names the same relation under any search_path."""
    return f"{quoted(table.schema)}.{quoted(table.name)}"
