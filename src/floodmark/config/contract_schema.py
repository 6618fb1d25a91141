"""The JSON Schema of a contract file, for editors. `contract_file` reads the same form."""

from __future__ import annotations

from typing import Any

from floodmark.config.contract_file import FORMAT, VERSION

_TEXT = {"type": "string", "minLength": 1}
_NOTE = {**_TEXT, "description": "A reviewer's own text. Floodmark keeps it."}
_KEY = {"type": "array", "items": _TEXT}


def contract_schema() -> dict[str, Any]:
    """Return the schema. It accepts every file that the parser accepts, and refuses every key that the parser refuses.

    Only the parser checks that the columns of a key are among the table's columns.
    """
    schemas = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _table()}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "floodmark.contract.yaml",
        **_object(
            "The tables and columns that are approved to leave the database.",
            required=("format", "version"),
            format={"const": FORMAT},
            version={"const": VERSION},
            database={**_TEXT, "description": "The contract is for the database of this name only."},
            schemas={**schemas, "description": "The approved tables, by schema and name."},
        ),
    }


def _table() -> dict[str, Any]:
    columns = {"type": "object", "additionalProperties": {"anyOf": [_TEXT, _column()]}}
    return _object(
        "An approved table.",
        required=("columns",),
        note=_NOTE,
        primary_key={**_KEY, "description": "The columns of the primary key."},
        unique_keys={"type": "array", "items": _KEY, "description": "The columns of each other key."},
        columns={**columns, "description": "The approved columns, each with its type."},
    )


def _column() -> dict[str, Any]:
    return _object(
        "An approved column.",
        required=("type",),
        type=_TEXT,
        attributes={**_KEY, "description": "The approved attributes of a composite type."},
        masked={"type": "boolean", "description": "true: approved behind a mask only."},
        note=_NOTE,
    )


def _object(description: str, *, required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
