"""The JSON Schema of floodmark.yaml, for editors and other tools.

msgspec makes it from the structs that parse the file.
"""

from __future__ import annotations

from typing import Any

import msgspec

from floodmark.config.key_types import DEFAULT
from floodmark.config.schema import ConfigFile

FILE_NAME = "floodmark.schema.json"
# The draft that editors support best. The documents that msgspec makes of these structs mean the same in later drafts.
_DRAFT = "http://json-schema.org/draft-07/schema#"
_NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """Return the schema. It accepts every file that the parser accepts, and refuses every key that the parser refuses.

    Only the parser checks contradictions between settings, and the content of URLs, patterns and filters.
    """
    (root,), parts = msgspec.json.schema_components([ConfigFile])
    for part in parts.values():
        part["properties"] = {name: _settable(inner) for name, inner in part["properties"].items()}
        del part["required"]  # no key is required
    return {"$schema": _DRAFT, "title": "floodmark.yaml", **_or_null(root), "$defs": parts}


def _settable(inner: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key's value as the parser reads it: null leaves a key unset, or a named rule empty."""
    default = inner.pop(DEFAULT, None)
    documentation: dict[str, Any] = {name: inner.pop(name) for name in ("description", "examples") if name in inner}
    inner.pop("default", None)  # None or an empty section: not set
    if default is not None:
        documentation["default"] = default
    for option in inner.get("anyOf", [inner]):
        if isinstance(option.get("additionalProperties"), dict):
            option["additionalProperties"] = _or_null(option["additionalProperties"])
    return {**documentation, **_or_null(inner)}


def _or_null(inner: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that accepts null as well."""
    options = inner.get("anyOf", [inner])
    return {"anyOf": options if _NULL in options else [*options, _NULL]}
