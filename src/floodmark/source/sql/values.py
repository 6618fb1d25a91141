r"""Values as JSON holds them, in the form of PostgreSQL's row_to_json: the one place for every SQL source.

docs/format.md has the table. A value is judged by its Python type, so the same rule holds for each driver. A dialect
whose driver gives values in a form of its own has a maker for the column.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite, isinf, isnan
from typing import Any
from uuid import UUID

import msgspec

_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
# Types that the encoder writes as they are. A float is one of them only if it is finite.
SIMPLE = frozenset({int, str, bool, type(None)})
_FLOAT32 = struct.Struct("f")
_SPACES = re.compile(r"[\r\n]")


class NoJsonForm(ValueError):
    """A value that no rule covers. It holds the name of the value's type only."""


class TooDeep(NoJsonForm):
    """A JSON text whose nesting is too deep to check it."""


def plain_value(value: Any) -> Any:
    """Return the value in a form that the encoder writes exactly. Raises NoJsonForm."""
    kind = type(value)
    if kind in SIMPLE:
        return value
    rule = _RULES.get(kind)
    if rule is None:
        rule = next((_RULES[base] for base in kind.__mro__ if base in _RULES), None)
    if rule is None:
        raise NoJsonForm(kind.__name__)
    return rule(value)


def float_value(value: float) -> float | str:
    """Return a finite float as it is. JSON has no other: they are strings, as PostgreSQL writes them."""
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def float32_value(value: float) -> float | str:
    """Return the shortest number that reads back as the same float of 32 bits."""
    if not isfinite(value):
        return float_value(value)
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if _FLOAT32.unpack(_FLOAT32.pack(short)) == _FLOAT32.unpack(_FLOAT32.pack(value)):
            return short
    return float(f"{value:.9g}")


def decimal_value(value: Decimal) -> msgspec.Raw | str:
    """Return all digits of an exact number, without an exponent."""
    if not value.is_finite():
        return "NaN" if value.is_nan() else "Infinity" if value > 0 else "-Infinity"
    return msgspec.Raw(format(value, "f").encode("ascii"))


def hex_value(value: bytes | bytearray | memoryview) -> str:
    return f"\\x{bytes(value).hex()}"


def date_value(value: date) -> str:
    return f"{value.year:04}-{value.month:02}-{value.day:02}"


def time_value(value: time) -> str:
    return f"{_clock(value)}{_offset(value.utcoffset())}"


def datetime_value(value: datetime) -> str:
    """Return `2024-01-31T12:00:00.5`. A time with a zone is given in UTC, as `…+00:00`."""
    if value.tzinfo is not None:
        value = _in_utc(value)
    return f"{date_value(value)}T{_clock(value)}{_offset(value.utcoffset())}"


def interval_value(value: timedelta) -> str:
    """Return the interval in ISO 8601, as PostgreSQL's lines hold one: `P3DT4H5M6.7S`."""
    sign = -1 if value < timedelta(0) else 1
    size = abs(value)
    minutes, seconds = divmod(size.seconds, 60)
    told = f"{sign * seconds}" if seconds or sign > 0 or not size.microseconds else "-0"
    told += _fraction(size.microseconds)
    return iso_interval(0, 0, sign * size.days, sign * (minutes // 60), sign * (minutes % 60), told)


def iso_interval(years: int, months: int, days: int, hours: int, minutes: int, seconds: str) -> str:
    """Return an interval in ISO 8601, without the parts that are 0. `seconds` can have a sign and a fraction."""
    day = "".join(f"{number}{unit}" for number, unit in ((years, "Y"), (months, "M"), (days, "D")) if number)
    clock = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    clock += f"{seconds}S" if seconds.strip("-0.") else ""
    if not day and not clock:
        return "PT0S"
    return f"P{day}{f'T{clock}' if clock else ''}"


def json_value(text: str) -> msgspec.Raw | str:
    """Return a JSON text to be embedded, on one line. A text that is not JSON is a string. Raises TooDeep."""
    try:
        _decode_raw(text)
    except RecursionError:
        raise TooDeep from None
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
    return msgspec.Raw(_SPACES.sub(" ", text).encode("utf-8"))


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:  # within a day of year 1 or 9999
        return value


def _clock(value: time | datetime) -> str:
    return f"{value.hour:02}:{value.minute:02}:{value.second:02}{_fraction(value.microsecond)}"


def _fraction(microseconds: int) -> str:
    return f".{microseconds:06}".rstrip("0") if microseconds else ""


def _offset(offset: timedelta | None) -> str:
    if offset is None:
        return ""
    sign = "-" if offset < timedelta(0) else "+"
    minutes, seconds = divmod(abs(offset).seconds, 60)
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}{f':{seconds:02}' if seconds else ''}"


def _list_value(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [plain_value(one) for one in value]


def _map_value(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {_key_text(key): plain_value(one) for key, one in value.items()}


def _key_text(key: Any) -> str:
    text = plain_value(key)
    return text if isinstance(text, str) else msgspec.json.encode(text).decode("utf-8")


def _enum_value(value: Enum) -> Any:
    return plain_value(value.value)


_RULES: dict[type, Callable[[Any], Any]] = {
    bool: bool,
    int: int,
    str: str,
    float: float_value,
    Decimal: decimal_value,
    bytes: hex_value,
    bytearray: hex_value,
    memoryview: hex_value,
    datetime: datetime_value,
    date: date_value,
    time: time_value,
    timedelta: interval_value,
    UUID: str,
    list: _list_value,
    tuple: _list_value,
    dict: _map_value,
    Enum: _enum_value,
}
