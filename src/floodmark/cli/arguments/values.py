"""Types of option values. A wrong value raises an error that never repeats it."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta

_MIN_MEMORY = 64 * 1024**2


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("a number from 1 on is expected")
    return number


def port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise ArgumentTypeError("a port from 1 to 65535 is expected")
    return number


def memory(text: str) -> str:
    """Parse a memory size as DuckDB does."""
    from floodmark.config.values import parse_size  # noqa: PLC0415 - by need: settings take long to load

    try:
        found = parse_size(text)
    except ValueError as problem:
        raise ArgumentTypeError(str(problem)) from None
    if found < _MIN_MEMORY:
        raise ArgumentTypeError("DuckDB needs 64MiB or more")
    return text if text[-1].isalpha() else f"{text}B"


def moment(text: str) -> datetime:
    """Parse a date or a time, in UTC unless it names an offset."""
    found = datetime.fromisoformat(text)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if found > datetime.now(UTC):
        raise ArgumentTypeError("the date lies in the future")
    return found


def since(text: str) -> datetime:
    """Parse a date or a time as `moment` does, or a time span before now, such as `7d`."""
    from floodmark.config.values import parse_duration  # noqa: PLC0415 - by need: settings take long to load

    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        return moment(text)


def span(text: str) -> int:
    """Parse a time span, such as `30d`, as seconds."""
    from floodmark.config.values import parse_duration  # noqa: PLC0415 - by need: settings take long to load

    return parse_duration(text)


# argparse names the function in its message: "invalid number value".
count.__name__ = port.__name__ = "number"
moment.__name__ = "date, such as 2026-11-01,"
span.__name__ = "time span, such as 30d,"
since.__name__ = "date or time span, such as 2026-11-01 or 7d,"
