"""Mapping of source types to consumer types: one table for Arrow, DuckDB, Glue, mojap and JSON Schema.

It is read from only the manifest, which names each column's type as the source spells it, and a domain's base type. If
a target has no type that holds every value exactly, the value is passed as text, never as an approximation. If one
value of a column has no exact counterpart, reading it raises an error that names the column. Examples are an infinite
date in Parquet and a bare numeric with more than 10 decimals. `text` then passes that column as text. This module needs
neither pyarrow nor duckdb: see `arrow`.
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

# A numeric without precision must fit in this, or reading it raises an error.
BARE_NUMERIC = (38, 10)
_MOST_DIGITS = 38


class ColumnType(Struct, frozen=True):
    """A column's type. `any` is text if a line holds a string, and the JSON text of any other value.

    `digits` is a numeric with more digits than decimal types hold. It is treated like `any`, but is a Decimal in a row.
    """

    kind: Kind
    precision: int = 0
    scale: int = 0

    @property
    def arrow(self) -> str:
        """Return the Arrow type, as pyarrow prints it."""
        return self._filled(_TARGETS[self.kind].arrow)

    @property
    def duckdb(self) -> str:
        return self._filled(_TARGETS[self.kind].duckdb)

    @property
    def glue(self) -> str:
        """Return the type in the Glue catalog, as Athena reads it from Parquet."""
        return self._filled(_TARGETS[self.kind].glue)

    @property
    def mojap(self) -> str:
        """Return the type in a mojap metadata document, schema v1.5.0."""
        return self._filled(_TARGETS[self.kind].mojap)

    def _filled(self, text: str) -> str:
        return text.format(p=self.precision, s=self.scale)


class _TypeNames(Struct, frozen=True):
    arrow: str
    duckdb: str
    glue: str
    mojap: str


_TEXT = _TypeNames("string", "VARCHAR", "string", "string")
_TARGETS: dict[Kind, _TypeNames] = {
    "int16": _TypeNames("int16", "SMALLINT", "smallint", "int16"),
    "int32": _TypeNames("int32", "INTEGER", "int", "int32"),
    "int64": _TypeNames("int64", "BIGINT", "bigint", "int64"),
    "decimal": _TypeNames("decimal128({p}, {s})", "DECIMAL({p},{s})", "decimal({p},{s})", "decimal128({p},{s})"),
    "float32": _TypeNames("float", "FLOAT", "float", "float32"),
    "float64": _TypeNames("double", "DOUBLE", "double", "float64"),
    "bool": _TypeNames("bool", "BOOLEAN", "boolean", "bool"),
    "date": _TypeNames("date32[day]", "DATE", "date", "date32"),
    "timestamp": _TypeNames("timestamp[us]", "TIMESTAMP", "timestamp", "timestamp(us)"),
    "timestamptz": _TypeNames("timestamp[us, tz=UTC]", "TIMESTAMP WITH TIME ZONE", "timestamp", "timestamp(us)"),
    "time": _TypeNames("string", "TIME", "string", "string"),
    "uuid": _TypeNames("string", "UUID", "string", "string"),
    "json": _TypeNames("string", "JSON", "string", "string"),
    "bytes": _TypeNames("binary", "BLOB", "binary", "string"),
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
_DUCKDB: dict[str, Kind] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "UTINYINT"), "int16"),
    **dict.fromkeys(("INTEGER", "USMALLINT"), "int32"),
    **dict.fromkeys(("BIGINT", "UINTEGER"), "int64"),
    **dict.fromkeys(("HUGEINT", "UHUGEINT", "BIGNUM"), "digits"),
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BOOLEAN": "bool",
    "DATE": "date",
    "TIME": "time",
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS"), "timestamp"),
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "UUID": "uuid",
    "JSON": "json",
    "BLOB": "bytes",
    **dict.fromkeys(("VARCHAR", "TEXT", "BIT", "INTERVAL", "TIMESTAMP_NS", "TIME WITH TIME ZONE"), "text"),
}
_MYSQL: dict[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "year"), "int16"),
    **dict.fromkeys(("mediumint", "int"), "int32"),
    "bigint": "int64",
    "float": "float32",
    "double": "float64",
    "date": "date",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
    "uuid": "uuid",
    "json": "json",
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "bytes"),
    **dict.fromkeys(("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring"), "bytes"),
    **dict.fromkeys(("multipolygon", "geometrycollection", "geomcollection"), "bytes"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"), "text"),
    **dict.fromkeys(("time", "bit", "inet4", "inet6"), "text"),  # a time can be longer than a day
}
_WIDER: dict[str, Kind] = {"smallint": "int32", "int": "int64"}  # unsigned
_MYSQL_NAME = re.compile(
    r"([a-z0-9]+)(?:\((\d+)(?:,(\d+))?\))?( unsigned)?( zerofill)?|((?:enum|set)\(.*\))", re.DOTALL
)
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
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
    """Return the type of a manifest's column. `as_text`: the user wants its values as they are in the lines."""
    if as_text:
        return ColumnType("any")
    if dialect == "duckdb":
        return _duckdb(column.type)
    if dialect in ("mariadb", "mysql"):
        return _mysql(column.type)
    return _sqlite(column.type) if dialect == "sqlite" else _postgres(column.plain_type)


def length_limit(column: Column) -> int | None:
    """Return the maximum number of characters in a value, if the type declares one."""
    found = _CHARACTERS.fullmatch(column.plain_type)
    return int(found[1]) if found and found[1] else None


def _postgres(name: str) -> ColumnType:
    """Parse the name that PostgreSQL's format_type returns.

    An array's dimensions are not part of its type: it is JSON.
    """
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
    """Return a decimal type. PostgreSQL's scale can be negative, or larger than the precision."""
    digits = precision - min(scale, 0) if scale <= precision else scale
    return ColumnType("decimal", digits, max(scale, 0)) if digits <= _MOST_DIGITS else ColumnType("digits")


def _mysql(declared: str) -> ColumnType:
    """Parse a type as information_schema spells it, such as `decimal(10,2) unsigned`."""
    found = _MYSQL_NAME.fullmatch(declared.lower())
    if found is None:
        return ColumnType("any")
    if found[6]:
        return ColumnType("text")
    name, digits, scale, unsigned = found[1], found[2], found[3], found[4]
    if name == "decimal":
        return _decimal(int(digits or 10), int(scale or 0))
    if name == "bigint" and unsigned:
        return ColumnType("decimal", 20)
    return ColumnType(_WIDER.get(name, _MYSQL.get(name, "any")) if unsigned else _MYSQL.get(name, "any"))


def _duckdb(name: str) -> ColumnType:
    """Parse the name of a type in DuckDB's catalog. Names of types that it does not know mean any value."""
    if name.endswith("]") or name.startswith(("STRUCT(", "MAP(", "UNION(")):
        return ColumnType("json")
    if found := _DECIMAL.fullmatch(name):
        return _decimal(int(found[1]), int(found[2]))
    return ColumnType("decimal", 20) if name == "UBIGINT" else ColumnType(_DUCKDB.get(name, "any"))


def _sqlite(declared: str) -> ColumnType:
    """Parse a declared type by its SQLite affinity. Only integer and real promise anything about the values."""
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
    """Return the JSON Schema of a column's values as they are in the lines. {} means that any value is possible.

    If `quoted` is true, numbers beyond 64 bits are strings there.
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
