"""A database's content, for a first configuration: its tables, and columns whose names suggest personal data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from floodmark.backends import open_source
from floodmark.config import Mask, Selection, Settings
from floodmark.doctor.personal_data import suggested_masks
from floodmark.observed import TableInfo
from floodmark.source.selection import exact_pattern
from floodmark.wording import plural


class DatabaseContent(Struct, frozen=True):
    """The content of a database.

    `found` holds sentences; `suggestions` holds masks by column, by a rule's table name.
    """

    found: list[str]
    suggestions: dict[str, dict[str, Mask]]


def inspect_database(settings: Settings) -> DatabaseContent:
    """Inspect all tables of the source. Raises SourceError, ConfigError."""
    snapshot = open_source(settings).snapshot()
    try:
        tables = snapshot.tables(Selection(), "")
    finally:
        snapshot.close()
    masks = {
        exact_pattern(table.table): suggested_masks([column.name for column in table.columns], table.table.name)
        for table in tables
    }
    return DatabaseContent(_table_counts(tables), {name: columns for name, columns in masks.items() if columns})


def _table_counts(tables: Sequence[TableInfo]) -> list[str]:
    schemas = Counter(table.table.schema for table in tables)
    lines = [
        f"The database holds {plural(number, 'table')} in schema {schema}."
        for schema, number in sorted(schemas.items())
    ]
    lines += [f"Of these {table.table.label} can't be read: {table.denied}" for table in tables if table.denied]
    return lines or ["The database holds no table that this role can see."]
