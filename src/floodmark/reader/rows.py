"""Conversion of lines to values, by msgspec, as a column's type promises: columns for Arrow, dicts for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from math import inf, nan
from typing import Any, TypedDict

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from floodmark.errors import DoesNotFit
from floodmark.reader.texts import Texts, split_texts
from floodmark.reader.types import ColumnType, Kind

_FLOATS: tuple[Kind, ...] = ("float32", "float64")
_READ_AS: dict[Kind, Any] = {
    **dict.fromkeys(("int16", "int32", "int64"), int | None),
    **dict.fromkeys(_FLOATS, float | str | None),
    "decimal": Decimal | None,
    "bool": bool | None,
    **dict.fromkeys(("json", "any", "digits"), Raw),
}
# Reads floats as raw text. msgspec would read -0 as an integer and lose its sign.
_CAREFULLY: dict[Kind, Any] = {**_READ_AS, **dict.fromkeys(_FLOATS, Raw)}
_ROWS_READ_AS: dict[Kind, Any] = {
    **dict.fromkeys(("decimal", "digits"), Decimal | None),
    **dict.fromkeys(_FLOATS, float | str | None),
}
_decode_float = msgspec.json.Decoder(float | str | None).decode
_AS_IT_IS = "Use `lines()` to get the lines unchanged, or tables.rules.*.columns.exclude to leave the column out."
# Strings in a line for values that JSON numbers can't express.
SPECIAL = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
Columns = Callable[[bytes], tuple[Sequence[Sequence[Any]], int]]
Rows = Callable[[bytes], list[dict[str, Any]]]


class UnreadableValue(ValueError):
    """Error for a value that breaks the promise of its column's type, or that Python can't represent."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


def columns_reader(names: Sequence[str], types: Sequence[ColumnType]) -> Columns:
    """Return a function that converts lines to columns of values and counts the lines."""
    patient = _patient_columns(names, types)
    return patient if any(map(is_odd_name, names)) else _unless_malformed(_quick_columns(names, types), patient)


def _quick_columns(names: Sequence[str], types: Sequence[ColumnType]) -> Columns:
    quick = _struct_columns(names, types, _READ_AS)
    floats = _float_numbers(types)
    if not floats:
        return quick
    careful = _struct_columns(names, types, _CAREFULLY)

    def columns(lines: bytes) -> tuple[Sequence[Sequence[Any]], int]:
        if not _has_minus_zero(lines):
            return quick(lines)
        found, count = careful(lines)
        return [list(map(_float, one)) if number in floats else one for number, one in enumerate(found)], count

    return columns


def rows_reader(names: Sequence[str], types: Sequence[ColumnType]) -> Rows:
    """Return a function that converts lines to dicts.

    The values are JSON's own, but numerics are Decimal, and NaN and infinity are numbers. Any other number is a float
    if the float is exact, and otherwise a Decimal. The function raises Unreadable.
    """
    fields = {name: _ROWS_READ_AS.get(kind.kind, Any) for name, kind in zip(names, types, strict=True)}
    floats = [names[number] for number in sorted(_float_numbers(types))]
    patient = _patient_rows(fields)
    decode = patient if any(map(is_odd_name, names)) else _row_decoder(fields)

    def rows(lines: bytes) -> list[dict[str, Any]]:
        try:
            found = patient(lines) if floats and _has_minus_zero(lines) else decode(lines)
        except (msgspec.DecodeError, ValueError):  # maybe only a number or a string inside json that is too large
            found = patient(lines)
        for name in floats:
            for row in found:
                if type(row[name]) is str:
                    row[name] = SPECIAL.get(row[name], row[name])
        return found

    return rows


def values_of(rows: Sequence[Texts], name: str, kind: ColumnType) -> list[Any]:
    """Return one column's values. Raises msgspec's errors, KeyError, ValueError if they break the type's promise."""
    if kind.kind in _FLOATS:
        return [_float(row[name]) for row in rows]
    wanted = _READ_AS.get(kind.kind, str | None)
    if wanted is Raw:
        return [row[name] for row in rows]
    decode = msgspec.json.Decoder(wanted).decode
    return [decode(row[name]) for row in rows]


def unreadable_value(label: str, column: str) -> DoesNotFit:
    """Return the error for a value that a row can't hold."""
    return DoesNotFit(
        "can't read a value",
        on=f"{label}, column {column}",
        why="Python has no such number, or it does not match the column's type in the manifest",
        hint=_AS_IT_IS,
    )


def not_as_described(label: str) -> DoesNotFit:
    """Return the error for lines that are not JSON with the manifest's columns."""
    return DoesNotFit("can't read a line", on=label, why="it does not match the columns in the manifest")


def too_deep(label: str) -> DoesNotFit:
    """Return the error for json that is nested too deep for a decoder (some 1,000 levels): a RecursionError."""
    return DoesNotFit(
        "can't read a value",
        on=label,
        why="its JSON is nested too deeply",
        hint=_AS_IT_IS,
    )


def is_odd_name(name: str) -> bool:
    """Return true if msgspec can't find a name in a line, because JSON writes it with escapes."""
    return '"' in name or "\\" in name or min(name, default=" ") < " "


def _float_numbers(types: Sequence[ColumnType]) -> frozenset[int]:
    return frozenset(number for number, one in enumerate(types) if one.kind in _FLOATS)


def _has_minus_zero(lines: bytes) -> bool:
    """Return true if a value can be -0. A text that looks like it does no harm."""
    return b":-0," in lines or b":-0}" in lines


def _float(raw: Raw | bytes) -> float | str | None:
    return -0.0 if bytes(raw) == b"-0" else _decode_float(raw)


def _struct_columns(names: Sequence[str], types: Sequence[ColumnType], read_as: dict[Kind, Any]) -> Columns:
    labels = [f"c{number}" for number in range(len(names))]
    fields = [(label, read_as.get(kind.kind, str | None)) for label, kind in zip(labels, types, strict=True)]
    row = msgspec.defstruct("Row", fields, rename=dict(zip(labels, names, strict=True)), gc=False)
    decode = msgspec.json.Decoder(row).decode_lines

    def columns(lines: bytes) -> tuple[Sequence[Sequence[Any]], int]:
        rows = decode(lines)
        return list(zip(*map(astuple, rows), strict=True)), len(rows)

    return columns


def _patient_columns(names: Sequence[str], types: Sequence[ColumnType]) -> Columns:
    def columns(lines: bytes) -> tuple[Sequence[Sequence[Any]], int]:
        rows = split_texts(lines)
        return [values_of(rows, name, kind) for name, kind in zip(names, types, strict=True)], len(rows)

    return columns


def _unless_malformed(quick: Columns, patient: Columns) -> Columns:
    """Return a reader that uses the quick way, and the patient way for lines that only msgspec calls malformed."""

    def columns(lines: bytes) -> tuple[Sequence[Sequence[Any]], int]:
        try:
            return quick(lines)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return patient(lines)

    return columns


def _row_decoder(fields: dict[str, Any]) -> Rows:
    return msgspec.json.Decoder(TypedDict("Row", fields), float_hook=_real).decode_lines  # type: ignore[operator]


def _patient_rows(fields: dict[str, Any]) -> Rows:
    decoders = {name: _value_decoder(wanted) for name, wanted in fields.items()}

    def rows(lines: bytes) -> list[dict[str, Any]]:
        all_of_them, found, name = split_texts(lines), list[dict[str, Any]](), ""
        try:
            for raws in all_of_them:
                row = {}
                for name, raw in raws.items():
                    row[name] = decoders[name](raw)
                found.append(row)
        except (msgspec.DecodeError, ValueError):
            raise UnreadableValue(name) from None
        return found

    return rows


def _value_decoder(wanted: Any) -> Callable[[Raw | bytes], Any]:
    if wanted is Any:
        return _anything
    return _float if wanted == float | str | None else msgspec.json.Decoder(wanted).decode


def _anything(raw: Raw | bytes) -> Any:
    """Return a JSON value. An int with too many digits becomes a Decimal; half a surrogate pair becomes a character."""
    try:
        return _decode_anything(raw)
    except msgspec.DecodeError:
        return json.loads(bytes(raw), parse_int=_integer, parse_float=_real)


def _integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def _real(text: str) -> float | Decimal:
    """Return the spelled number: a float if it prints as the same number, else a Decimal. Raises ValueError."""
    value = float(text)
    printed = repr(value)
    if printed == text:
        return value
    try:
        exact = Decimal(text)
    except InvalidOperation:  # its exponent has more than 18 digits
        raise ValueError from None
    return value if Decimal(printed) == exact else exact


_decode_anything = msgspec.json.Decoder(float_hook=_real).decode
