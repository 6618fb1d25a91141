r"""Columns: what is selected for each type, how a value becomes JSON, and its part of a digest.

Every value is what the mariadb client prints in a session with the pinned settings (`connect`), in the form that
PostgreSQL's row_to_json would give it; docs/format.md has the table. There are three exceptions. A `float` is printed
with 6 digits, which loses some: here it has the shortest text that reads back as the same number. Binary data, which is
printed as it is, is `\x` and hex digits. A `bit` is a text of its binary digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from floodmark.source.sql.facts import Maker, SqlColumn
from floodmark.source.sql.values import float32_value, hex_value, json_value

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_TEXTS = frozenset({"char", "varchar", "enum", "set"})
_BINARIES = frozenset({"binary", "varbinary"})
_LONG_BINARIES = frozenset({"tinyblob", "blob", "mediumblob", "longblob"})
GEOMETRIES = frozenset(
    {
        "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
        "geometrycollection", "geomcollection",
    }
)  # fmt: skip
# Types whose values compare in the database as Floodmark gets them and sends them back: only these cut a table.
CUTTING = INTEGERS | _BINARIES | {"char", "varchar", "uuid", "date", "datetime", "timestamp", "decimal"}
# Texts of these never hold a comma, and are never the letter N.
_PLAIN = INTEGERS | {
    "decimal", "double", "date", "datetime", "timestamp", "time", "year", "uuid", "inet4", "inet6",
}  # fmt: skip


class MyColumn(Struct, frozen=True):
    """The catalog's facts about a column: information_schema.COLUMNS.DATA_TYPE, and what shapes its values.

    `is_json` is set for MySQL's json, and for MariaDB's: a longtext with the check json_valid.
    """

    data_type: str
    column_type: str
    charset: str | None
    collation: str | None
    is_json: bool
    generated: str


def quoted(name: str) -> str:
    """Return an identifier in backticks, which every sql_mode understands."""
    return "`" + name.replace("`", "``") + "`"


def selected(column: SqlColumn) -> str:
    """Return the expression that is selected for a column."""
    name, kind = quoted(column.name), column.note.data_type
    return f"{name} + 0e0" if kind == "float" else name


def maker_of(column: SqlColumn) -> Maker | None:
    """Return what turns a column's texts into JSON values. None: they are JSON values already."""
    note: MyColumn = column.note
    if note.is_json:
        return _json
    if note.data_type == "bit":
        return _Bits(_bits(note.column_type))
    return _MAKERS.get(note.data_type)


def digest_part(column: SqlColumn) -> str:
    """Return an expression for a value's part in a row's digest.

    Parts of different values differ, and no part begins another one: so the parts in a row can be told apart. A long
    value is its own SHA-256, so that the whole fits in a packet.
    """
    name, kind = quoted(column.name), column.note.data_type
    if kind in _PLAIN or kind == "float":
        text = f"CONCAT({name} + 0e0, ',')" if kind == "float" else f"CONCAT({name}, ',')"
        return _or_null(column, text)
    if kind == "bit":
        return _or_null(column, f"CONCAT(BIN({name} + 0), ',')")
    if kind in _TEXTS or kind in _BINARIES:  # as bytes: not every collation mixes with those of other parts
        return _or_null(column, f"CONCAT(LENGTH({name}), ':', CAST({name} AS BINARY))")
    value = f"CAST({name} AS CHAR)" if kind == "json" else name
    return _or_null(column, f"SHA2({value}, 256)")


def _or_null(column: SqlColumn, part: str) -> str:
    """Return a part that tells NULL apart. It asks the column: the part is NULL too if it is too long for a packet."""
    return f"IF({quoted(column.name)} IS NULL, 'N,', {part})" if column.nullable else part


class _Bits:
    """The maker of `bit(n)`: all n binary digits, as PostgreSQL writes them."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, value: Any) -> str:
        return format(int.from_bytes(_bytes(value)), f"0{self._width}b")


def _bits(column_type: str) -> int:
    _, _, width = column_type.partition("(")
    return int(width.rstrip(")") or 1)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


def _hex(value: Any) -> str:
    return hex_value(_bytes(value))


def _json(value: Any) -> Any:
    return json_value(_text(value))


def _exact(value: Any) -> msgspec.Raw:
    """Return a decimal with all its digits. ZEROFILL's zeros are no part of a number."""
    text = _text(value)
    if text[:1] == "0" and text[1:2].isdigit():
        text = text.lstrip("0")
        text = text if text[:1].isdigit() else f"0{text}"
    return msgspec.Raw(text.encode("ascii"))


def _double(value: Any) -> float:
    return float(value)


def _single(value: Any) -> float | str:
    return float32_value(float(value))


def _moment(value: Any) -> str:
    return _text(value).replace(" ", "T", 1)


def _moment_in_utc(value: Any) -> str:
    return f"{_moment(value)}+00:00"


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "decimal": _exact,
    "double": _double,
    "float": _single,
    "datetime": _moment,
    "timestamp": _moment_in_utc,
    "date": _text,
    "time": _text,
    **dict.fromkeys(_BINARIES | _LONG_BINARIES | GEOMETRIES, _hex),
}
