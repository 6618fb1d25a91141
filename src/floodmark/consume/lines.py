"""Lines → values, by msgspec, as a column's type promises them: columns for Arrow, dicts for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from math import inf, isfinite, nan
from typing import Any, TypedDict

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from floodmark.consume.types import ColumnType, Kind
from floodmark.errors import DoesNotFit

_READ_AS: dict[Kind, Any] = {
    **dict.fromkeys(("int16", "int32", "int64"), int | None),
    **dict.fromkeys(("float32", "float64"), float | str | None),
    "decimal": Decimal | None,
    "bool": bool | None,
    **dict.fromkeys(("json", "any"), Raw),
}
# What stands in a line where JSON has no number for it.
SPECIAL = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
Columns = Callable[[bytes], tuple[Sequence[Sequence[Any]], int]]
Rows = Callable[[bytes], list[dict[str, Any]]]


def columns_reader(names: Sequence[str], types: Sequence[ColumnType]) -> Columns:
    """What turns lines into columns of values, and says how many lines there were."""
    if any(map(_odd, names)):
        return lambda lines: _odd_columns(lines, names, types)
    labels = [f"c{number}" for number in range(len(names))]
    fields = [(label, _READ_AS.get(kind.kind, str | None)) for label, kind in zip(labels, types, strict=True)]
    row = msgspec.defstruct("Row", fields, rename=dict(zip(labels, names, strict=True)), gc=False)
    decode = msgspec.json.Decoder(row).decode_lines

    def columns(lines: bytes) -> tuple[Sequence[Sequence[Any]], int]:
        rows = decode(lines)
        return list(zip(*map(astuple, rows), strict=True)), len(rows)

    return columns


def rows_reader(names: Sequence[str], types: Sequence[ColumnType]) -> Rows:
    """What turns lines into dicts: JSON's own values, but numerics as Decimal, and NaN and infinity as numbers."""
    read_as = {"decimal": Decimal | None, "float32": float | str | None, "float64": float | str | None}
    fields = {name: read_as.get(kind.kind, Any) for name, kind in zip(names, types, strict=True)}
    floats = [name for name, kind in zip(names, types, strict=True) if kind.kind in ("float32", "float64")]
    patient = _odd_rows(fields)
    decode = patient if any(map(_odd, names)) else _row_decoder(fields)

    def rows(lines: bytes) -> list[dict[str, Any]]:
        try:
            found = decode(lines)
        except msgspec.ValidationError:  # perhaps only a number inside json that is too large for it
            found = patient(lines)
        for name in floats:
            for row in found:
                if type(row[name]) is str:
                    row[name] = SPECIAL.get(row[name], row[name])
        return found

    return rows


def values_of(rows: Sequence[dict[str, Raw]], name: str, kind: ColumnType) -> list[Any]:
    """One column's values. Raises msgspec's errors, KeyError, ValueError where they are not what the type promises."""
    wanted = _READ_AS.get(kind.kind, str | None)
    if wanted is Raw:
        return [row[name] for row in rows]
    decode = msgspec.json.Decoder(wanted).decode
    return [decode(row[name]) for row in rows]


def too_deep(label: str) -> DoesNotFit:
    """The error for json that is nested deeper than a decoder follows (some 1,000 levels), which it says by a
    RecursionError."""
    return DoesNotFit(
        "a value can't be read",
        on=label,
        why="it is json that is nested too deep",
        hint="`lines()` gives the lines as they are; tables.rules.*.columns.exclude leaves the column out.",
    )


def _odd(name: str) -> bool:
    """Whether msgspec can't look for a name in a line: JSON writes it with escapes."""
    return '"' in name or "\\" in name or min(name, default=" ") < " "


def _odd_columns(
    lines: bytes, names: Sequence[str], types: Sequence[ColumnType]
) -> tuple[Sequence[Sequence[Any]], int]:
    rows = msgspec.json.Decoder(dict[str, Raw]).decode_lines(lines)
    return [values_of(rows, name, kind) for name, kind in zip(names, types, strict=True)], len(rows)


def _row_decoder(fields: dict[str, Any]) -> Rows:
    return msgspec.json.Decoder(TypedDict("Row", fields)).decode_lines  # type: ignore[operator]


def _odd_rows(fields: dict[str, Any]) -> Rows:
    decode = msgspec.json.Decoder(dict[str, Raw]).decode_lines
    decoders: dict[str, Callable[[Raw], Any]] = {
        name: _anything if wanted is Any else msgspec.json.Decoder(wanted).decode for name, wanted in fields.items()
    }
    return lambda lines: [{name: decoders[name](raw) for name, raw in row.items()} for row in decode(lines)]


def _anything(raw: Raw) -> Any:
    """A JSON value, where a number that no float holds, or whose digits are too many for an int, is a Decimal."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return json.loads(bytes(raw), parse_int=_integer, parse_float=_real)


def _integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def _real(text: str) -> float | Decimal:
    return value if isfinite(value := float(text)) else Decimal(text)
