"""Table descriptions for other tools, from the manifest only: mojap metadata, and JSON Schema.

The mojap documents are for the Ministry of Justice's data-linter and catalogue. These identify a table by parts of its
files' keys, so `database_name` and `name` are written as they appear there. The linter's handling of each type was
found by experiment: see docs/consumers.md and tests/integration/test_data_linter.py.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct

from floodmark.errors import ConfigError
from floodmark.layout import (
    LAYOUTS,
    PLAIN,
    LayoutName,
    data_key,
    database_segment,
    key_names,
    table_segment,
)
from floodmark.model import Column, Encoding, TableEntry
from floodmark.reader.types import column_type, json_schema
from floodmark.state.manifest import Manifest

MOJAP_SCHEMA = (
    "https://moj-analytical-services.github.io/metadata_schema/mojap_metadata/v1.5.0.json"  # a name, never fetched here
)
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


class SchemaReceiver(Struct, frozen=True):
    """The receiver of the files. Its keys are those that the run itself wrote, or those of a delivery in this layout.

    `text` names columns, as schema.table.column, that it takes as text regardless of their source type.
    """

    layout: LayoutName | None = None
    database_name: str | None = None
    text: tuple[str, ...] = ()

    def names(self, manifest: Manifest, entry: TableEntry) -> tuple[str, str]:
        """Return the database and table segments of the keys. A table without rows has no keys yet."""
        written = key_names(entry.objects[0].key) if entry.objects else None
        if written is not None and self.layout is None and self.database_name is None:
            return written
        wanted = self.layout or manifest.layout
        layout = next((one for one in LAYOUTS.values() if one.name == wanted), PLAIN)
        source = manifest.source
        database = database_segment(layout, source.database, self.database_name, entry.table)
        segment = table_segment(entry.table, source.default_schema)
        names = key_names(data_key(database, segment, manifest.timestamp, 0, entry.encoding or Encoding()))
        assert names is not None
        return names


ITSELF = SchemaReceiver()


def mojap(manifest: Manifest, receiver: SchemaReceiver = ITSELF) -> list[dict[str, Any]]:
    """Return a mojap metadata document (schema v1.5.0) for each table with a good snapshot. Raises ConfigError."""
    columns = {f"{entry.table.label}.{column.name}" for entry in described(manifest) for column in entry.columns}
    for label in receiver.text:
        if label not in columns:
            hint = "Write it as schema.table.column."
            raise ConfigError("unknown column", on=label, why="no table of the manifest has this column", hint=hint)
    return [_mojap_table(manifest, entry, receiver) for entry in described(manifest)]


def json_schemas(manifest: Manifest) -> list[dict[str, Any]]:
    """Return a JSON Schema (2020-12) of a row for each table. Every landed line satisfies its table's schema.

    Raises ConfigError for tables in CSV.
    """
    for entry in described(manifest):
        if entry.encoding is not None and entry.encoding.format == "csv":
            raise ConfigError(
                "can't make a JSON Schema of CSV",
                on=entry.table.label,
                why="its lines are text records, not JSON",
                hint="Use --format mojap, which describes CSV too, or land JSON Lines (destination.format: jsonl).",
            )
    return [_row_schema(manifest, entry) for entry in described(manifest)]


def described(manifest: Manifest) -> list[TableEntry]:
    """Return the tables with a good snapshot."""
    return [entry for entry in manifest.tables if entry.checksum is not None and entry.status != "dropped"]


def _mojap_table(manifest: Manifest, entry: TableEntry, receiver: SchemaReceiver) -> dict[str, Any]:
    encoding = entry.encoding
    database, name = receiver.names(manifest, entry)
    return {
        "$schema": MOJAP_SCHEMA,
        "name": name,
        "database_name": database,
        **({} if entry.comment is UNSET else {"description": entry.comment}),
        "file_format": encoding.format if encoding is not None else "jsonl",
        "columns": [
            _mojap_column(column, manifest.source.dialect, f"{entry.table.label}.{column.name}" in receiver.text)
            for column in entry.columns
        ],
        "primary_key": [] if entry.primary_key is UNSET else list(entry.primary_key),
        "partitions": [],
    }


def _mojap_column(column: Column, dialect: str, as_text: bool) -> dict[str, Any]:
    kind = column_type(column, dialect, as_text)
    described: dict[str, Any] = {
        "name": column.name,
        "type": kind.mojap,
        "description": f"{column.type} in the source" if column.comment is UNSET else column.comment,
        # A NOT NULL column of json can hold the json value null. Its line then holds just null.
        "nullable": column.nullable or column.plain_type in ("json", "jsonb"),
    }
    if kind.kind in ("timestamp", "timestamptz"):
        described["datetime_format"] = "ISO8601"
    return described


def _row_schema(manifest: Manifest, entry: TableEntry) -> dict[str, Any]:
    names, dialect = [column.name for column in entry.columns], manifest.source.dialect
    quoted = entry.encoding is not None and entry.encoding.numbers == "quote-large"
    return {
        "$schema": _DRAFT,
        "title": entry.table.label,
        **({} if entry.comment is UNSET else {"description": entry.comment}),
        "type": "object",
        "properties": {column.name: _described_value(column, dialect, quoted) for column in entry.columns},
        "required": names,
        "additionalProperties": False,
        **({} if entry.primary_key is UNSET else {"x-primary-key": entry.primary_key}),
        **({} if entry.unique_keys is UNSET else {"x-unique-keys": entry.unique_keys}),
    }


def _described_value(column: Column, dialect: str, quoted: bool) -> dict[str, Any]:
    found = json_schema(column, dialect, quoted)
    return found if column.comment is UNSET else {"description": column.comment, **found}
