"""What tables look like, for others' tools, from the manifest alone: mojap metadata, and JSON Schema."""

from __future__ import annotations

from typing import Any

from floodmark.consume.types import column_type, json_schema
from floodmark.model import Column, TableEntry
from floodmark.state.manifest import Manifest

MOJAP_SCHEMA = (
    "https://moj-analytical-services.github.io/metadata_schema/mojap_metadata/v1.5.0.json"  # a name, never fetched here
)
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def mojap(manifest: Manifest) -> list[dict[str, Any]]:
    """A mojap metadata document (schema v1.5.0) for each table that has rows to read, or had some."""
    return [_mojap_table(manifest, entry) for entry in described(manifest)]


def json_schemas(manifest: Manifest) -> list[dict[str, Any]]:
    """A JSON Schema (2020-12) of a row for each table: every line that was landed satisfies its table's."""
    return [_row_schema(manifest, entry) for entry in described(manifest)]


def described(manifest: Manifest) -> list[TableEntry]:
    """The tables with a good snapshot."""
    return [entry for entry in manifest.tables if entry.checksum is not None and entry.status != "dropped"]


def _mojap_table(manifest: Manifest, entry: TableEntry) -> dict[str, Any]:
    encoding = entry.encoding
    return {
        "$schema": MOJAP_SCHEMA,
        "name": entry.name,
        "database_name": manifest.source.database,
        "file_format": encoding.format if encoding is not None else "jsonl",
        "columns": [_mojap_column(column, manifest.source.dialect) for column in entry.columns],
        "primary_key": [],
        "partitions": [],
    }


def _mojap_column(column: Column, dialect: str) -> dict[str, Any]:
    kind = column_type(column, dialect)
    described: dict[str, Any] = {
        "name": column.name,
        "type": kind.mojap,
        "description": f"{column.type} in the source",
        "nullable": column.nullable,
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
        "type": "object",
        "properties": {column.name: json_schema(column, dialect, quoted) for column in entry.columns},
        "required": names,
        "additionalProperties": False,
    }
