"""Names as PostgreSQL's SQL spells them."""

from __future__ import annotations

from floodmark.model import TableName


def quoted(name: str) -> str:
    """An identifier, always quoted, so that keywords and capitals need no thought."""
    return '"' + name.replace('"', '""') + '"'


def qualified(table: TableName) -> str:
    """`"schema"."name"`: the same relation whatever search_path says."""
    return f"{quoted(table.schema)}.{quoted(table.name)}"
