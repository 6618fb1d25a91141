"""What a source's types become with consumers: one table for Arrow, DuckDB, Glue, mojap and JSON Schema.

Read from the manifest alone: it names each column's type as the source spells it, and what lies beneath a domain.
Where a target has no type that holds every value exactly, the value travels as text, never as something close to it;
where one value of a column has no exact counterpart (an infinite date in Parquet, a bare numeric with more than 10
decimals), reading it is an error that names the column, and `text` lets that column travel as text. No pyarrow, no
duckdb: see `arrow`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from msgspec import Struct

from floodmark.model import Column

Kind = Literal[
    "int16", "int32", "int64", "decimal", "float32", "float64", "bool", "date", "timestamp", "timestamptz", "time",
    "uuid", "json", "bytes", "text", "any", "digits",
]  # fmt: skip

# A numeric without precision holds what this does, or its reading is an error.
BARE_NUMERIC = (38, 10)
_MOST_DIGITS = 38


class ColumnType(Struct, frozen=True):
    """What a column's values are. `any` is text where a line holds a string, and the JSON text of anything else.

    `digits` is a numeric that has more of them than decimal types hold: the same, but a Decimal in a row.
    """

    kind: Kind
    precision: int = 0
    scale: int = 0

    @property
    def arrow(self) -> str:
        """The Arrow type, as pyarrow prints it."""
        return self._filled(_TARGETS[self.kind].arrow)

    @property
    def duckdb(self) -> str:
        return self._filled(_TARGETS[self.kind].duckdb)

    @property
    def glue(self) -> str:
        """The type in the Glue catalog, as Athena reads it from Parquet."""
        return self._filled(_TARGETS[self.kind].glue)

    @property
    def mojap(self) -> str:
        """The type in a mojap metadata document, schema v1.5.0."""
        return self._filled(_TARGETS[self.kind].mojap)

    def _filled(self, text: str) -> str:
        return text.format(p=self.precision, s=self.scale)


class _Targets(Struct, frozen=True):
    arrow: str
    duckdb: str
    glue: str
    mojap: str


_TEXT = _Targets("string", "VARCHAR", "string", "string")
_TARGETS: dict[Kind, _Targets] = {
    "int16": _Targets("int16", "SMALLINT", "smallint", "int16"),
    "int32": _Targets("int32", "INTEGER", "int", "int32"),
    "int64": _Targets("int64", "BIGINT", "bigint", "int64"),
    "decimal": _Targets("decimal128({p}, {s})", "DECIMAL({p},{s})", "decimal({p},{s})", "decimal128({p},{s})"),
    "float32": _Targets("float", "FLOAT", "float", "float32"),
    "float64": _Targets("double", "DOUBLE", "double", "float64"),
    "bool": _Targets("bool", "BOOLEAN", "boolean", "bool"),
    "date": _Targets("date32[day]", "DATE", "date", "date32"),
    "timestamp": _Targets("timestamp[us]", "TIMESTAMP", "timestamp", "timestamp(us)"),
    "timestamptz": _Targets("timestamp[us, tz=UTC]", "TIMESTAMP WITH TIME ZONE", "timestamp", "timestamp(us)"),
    "time": _Targets("string", "TIME", "string", "string"),
    "uuid": _Targets("string", "UUID", "string", "string"),
    "json": _Targets("string", "JSON", "string", "string"),
    "bytes": _Targets("binary", "BLOB", "binary", "string"),
    "text": _TEXT,
    "any": _TEXT,
    "digits": _TEXT,
}

_POSTGRES: dict[str, Kind] = {
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "real": "float32",
    "double precision": "float64",
    "boolean": "bool",
    "date": "date",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "json",
    "bytea": "bytes",
    **dict.fromkeys(
        ("text", "name", '"char"', "inet", "cidr", "macaddr", "macaddr8", "money", "interval", "xml"), "text"
    ),
}
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_CLOCK = re.compile(r"(timestamp|time)(?:\(\d\))? (with|without) time zone")
_CHARACTERS = re.compile(r"character(?: varying)?(?:\((\d+)\))?|bpchar")
_CLOCKS: dict[tuple[str, str], Kind] = {
    ("timestamp", "with"): "timestamptz",
    ("timestamp", "without"): "timestamp",
    ("time", "without"): "time",
    ("time", "with"): "text",
}


def column_type(column: Column, dialect: str, as_text: bool = False) -> ColumnType:
    """What a manifest's column holds. `as_text`: the user wants its values as they stand in the lines."""
    if as_text:
        return ColumnType("any")
    return _sqlite(column.type) if dialect == "sqlite" else _postgres(column.plain_type)


def length_limit(column: Column) -> int | None:
    """How many characters a value has at most, where the type says so."""
    found = _CHARACTERS.fullmatch(column.plain_type)
    return int(found[1]) if found and found[1] else None


def _postgres(name: str) -> ColumnType:
    """By the name that PostgreSQL's format_type gives. An array's dimensions are no part of its type: JSON."""
    if name.endswith("[]"):
        return ColumnType("json")
    if name == "numeric":
        return ColumnType("decimal", *BARE_NUMERIC)
    if found := _NUMERIC.fullmatch(name):
        return _decimal(int(found[1]), int(found[2]))
    if found := _CLOCK.fullmatch(name):
        return ColumnType(_CLOCKS[found[1], found[2]])
    if _CHARACTERS.fullmatch(name):
        return ColumnType("text")
    return ColumnType(_POSTGRES.get(name, "any"))


def _decimal(precision: int, scale: int) -> ColumnType:
    """PostgreSQL's scale may be negative, or larger than the precision."""
    digits = precision - min(scale, 0) if scale <= precision else scale
    return ColumnType("decimal", digits, max(scale, 0)) if digits <= _MOST_DIGITS else ColumnType("digits")


def _sqlite(declared: str) -> ColumnType:
    """By the affinity that SQLite gives a declared type. Only integer and real promise anything of the values."""
    name = declared.upper()
    if "INT" in name:
        return ColumnType("int64")
    if any(part in name for part in ("CHAR", "CLOB", "TEXT", "BLOB")) or not name:
        return ColumnType("any")
    return ColumnType("float64" if any(part in name for part in ("REAL", "FLOA", "DOUB")) else "any")


_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_DATE = r"[0-9]{4,7}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
_LARGE = {"type": "string", "pattern": r"^-?[0-9]{19,}(\.[0-9]+)?$"}
_JSON_SCHEMAS: dict[Kind, dict[str, Any]] = {
    "int16": {"type": "integer", "minimum": -(2**15), "maximum": 2**15 - 1},
    "int32": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "decimal": _NUMBER,
    "digits": _NUMBER,
    "float32": _NUMBER,
    "float64": _NUMBER,
    "bool": {"type": "boolean"},
    "date": {"type": "string", "pattern": rf"^({_DATE}( BC)?|-?infinity)$"},
    "timestamp": {"type": "string", "pattern": rf"^({_DATE}T{_TIME}( BC)?|-?infinity)$"},
    "timestamptz": {"type": "string", "pattern": rf"^({_DATE}T{_TIME}\+00:00( BC)?|-?infinity)$"},
    "time": {"type": "string", "pattern": f"^{_TIME}$"},
    "uuid": {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    "bytes": {"type": "string", "pattern": r"^\\x([0-9a-f]{2})*$"},
    "text": {"type": "string"},
}


def json_schema(column: Column, dialect: str, quoted: bool = False) -> dict[str, Any]:
    """The JSON Schema of a column's values as they stand in the lines. {} where a value may be anything.

    `quoted`: numbers beyond 64 bits are strings there.
    """
    kind = column_type(column, dialect).kind
    found = _JSON_SCHEMAS.get(kind)
    if found is None:
        return {}
    if quoted and kind in ("decimal", "digits"):
        found = {"anyOf": [*found["anyOf"], _LARGE]}
    limit = length_limit(column)
    rule = {**found, "maxLength": limit} if limit is not None else found
    return {"anyOf": [rule, {"type": "null"}]} if column.nullable else rule
