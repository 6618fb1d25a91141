"""Dates and timestamps as numbers, in PostgreSQL's whole range: years before Christ, and after 9999.

MariaDB and MySQL can hold a date that is in no calendar, such as 0000-00-00: it has no number and is null.

The calendar is proleptic Gregorian, like that of PostgreSQL, Arrow and DuckDB. 1 BC is the year before 1.
"""

from __future__ import annotations

import re
from datetime import date

_MOMENT = re.compile(r"(\d{4,7})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(?:\+00:00)?( BC)?", re.ASCII)
_DAY = 86_400_000_000
_CYCLE_DAYS = 146_097  # in 400 years
_EPOCH = date(1970, 1, 1).toordinal()
# DuckDB's numbers for infinity. No finite value may become one of them.
_DATE_INFINITY, _TIMESTAMP_INFINITY = 2**31 - 1, 2**63 - 1


class NoCounterpart(Exception):
    """Error for a value without a matching number."""


def parse_days(text: str, infinite: bool) -> int | None:
    """Return days since 1970-01-01, None for a date in no calendar. Raises NoCounterpart.

    If `infinite`, infinity becomes DuckDB's number for it.
    """
    return _number(text, infinite, _DATE_INFINITY, _DAY)


def parse_microseconds(text: str, infinite: bool) -> int | None:
    """Return microseconds since 1970-01-01T00:00:00, None for a date in no calendar. Raises NoCounterpart."""
    return _number(text, infinite, _TIMESTAMP_INFINITY, 1)


def _number(text: str, infinite: bool, infinity: int, unit: int) -> int | None:
    if infinite and text in ("infinity", "-infinity"):
        return infinity if text == "infinity" else -infinity
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise NoCounterpart
    try:
        number = _moment(found) // unit
    except ValueError:  # no such month, or no such day in it
        return None
    if abs(number) >= infinity:
        raise NoCounterpart
    return number


def _moment(found: re.Match[str]) -> int:
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    cycles, within = divmod((1 - year if found[8] else year) - 1, 400)
    whole = cycles * _CYCLE_DAYS + date(within + 1, month, day).toordinal() - _EPOCH
    fraction = int((found[7] or "").ljust(6, "0"))
    return whole * _DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
