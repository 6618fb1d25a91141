"""Times, counts, hints and JSON documents as texts, in one form for documents, messages and output. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
Precision = Literal["seconds", "milliseconds", "microseconds"]


def iso_time(moment: datetime, precision: Precision = "milliseconds") -> str:
    """Return an ISO 8601 time in UTC, which ends with Z."""
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: `1 table`, `2 tables`, `1,000 tables`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration_text(seconds: int) -> str:
    """Return a time span by its two largest units, such as `2 h 5 min`."""
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length or (unit == "s" and not parts):
            parts.append(f"{seconds // length} {unit}")
            seconds %= length
    return " ".join(parts[:2])


def clock_text(seconds: float) -> str:
    """Return a time span as a clock shows it, such as `0:07` or `12:05:30`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_text(number: int) -> str:
    """Return bytes for people: three significant digits, units of a thousand."""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1
    return f"{value:.{digits}f} {_UNITS[unit]}"


def install_hint(extra: str) -> str:
    """Return how to install an extra. No index holds the package, so it comes from a checkout."""
    return f"In a checkout of Floodmark: pip install '.[{extra}]'"


def pretty_json(document: object) -> bytes:
    """Return an indented JSON document that ends with a line break."""
    return indented_json(msgspec.json.encode(document))


def indented_json(data: bytes) -> bytes:
    """Return a JSON text in the same form as `pretty_json`."""
    return msgspec.json.format(data, indent=1) + b"\n"
