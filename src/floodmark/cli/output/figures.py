"""Numbers, sizes and times as the tables for people show them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from floodmark.wording import duration_text, size_text


def count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def size(number: int | None) -> str:
    """Format bytes for people: three significant digits, units of a thousand."""
    return "-" if number is None else size_text(number)


def seconds(number: float) -> str:
    return f"{number:.1f} s" if number < 100 else duration_text(int(number))


def local_zone(moment: str) -> str | None:
    """Return the name of the local time zone at an ISO 8601 time, or None if it is the same as UTC then."""
    local = datetime.fromisoformat(moment).astimezone()
    return local.tzname() if local.utcoffset() else None


def local_minute(moment: str | None) -> str:
    return "-" if moment is None else _minute(datetime.fromisoformat(moment).astimezone())


def utc_minute(moment: str | None) -> str:
    return "-" if moment is None else _minute(datetime.fromisoformat(moment).astimezone(UTC))


def both_times(moment: str) -> str:
    """Return a time in the local zone and in UTC, such as `2026-11-24 02:03:04 CET (01:03:04 UTC)`."""
    utc = datetime.fromisoformat(moment).astimezone(UTC)
    zone = local_zone(moment)
    if zone is None:
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    local = utc.astimezone()
    day = "" if local.date() == utc.date() else f"{utc:%Y-%m-%d} "
    return f"{local:%Y-%m-%d %H:%M:%S} {zone} ({day}{utc:%H:%M:%S} UTC)"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
