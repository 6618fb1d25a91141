"""The runs of a state → a calendar. Its rows are days of the week, its columns are weeks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from floodmark.report.facts import RunFacts

# The most weeks of a calendar: runs that are far apart must not make a long one.
_MOST_WEEKS = 53
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# The symbol of each outcome, so that colour is not the only signal.
SYMBOLS = {"success": "✓", "partial": "◐", "failed": "✕", "stopped": "■", "unfinished": "…", "none": "·"}


class Day(Struct, frozen=True):
    """One day. `outcome` is that of its last run, or `none`. `label` describes the day in words."""

    day: str
    outcome: str
    symbol: str
    label: str


class Calendar(Struct, frozen=True):
    """A calendar: the first day of each week, and for each weekday its days. Days outside of the period are None."""

    weeks: tuple[str, ...]
    weekdays: tuple[tuple[str, tuple[Day | None, ...]], ...]


def calendar(runs: Sequence[RunFacts], today: date) -> Calendar:
    """Return the calendar from the first run's day to today, or to the last run's day."""
    by_day = runs_by_day(runs)
    last = max([today, *by_day])
    first = max(min([last, *by_day]), last - timedelta(weeks=_MOST_WEEKS - 1))
    start = first - timedelta(days=first.weekday())
    weeks = [start + timedelta(weeks=number) for number in range((last - start).days // 7 + 1)]
    rows = []
    for number, name in enumerate(_WEEKDAYS):
        days = [week + timedelta(days=number) for week in weeks]
        rows.append((name, tuple(_day(day, by_day.get(day, [])) if first <= day <= last else None for day in days)))
    return Calendar(tuple(f"{week:%-d %b}" for week in weeks), tuple(rows))


def recent_days(runs: Sequence[RunFacts], today: date, number: int) -> tuple[Day, ...]:
    """Return the last days up to today, oldest first."""
    by_day = runs_by_day(runs)
    days = [today - timedelta(days=back) for back in reversed(range(number))]
    return tuple(_day(day, by_day.get(day, [])) for day in days)


def runs_by_day(runs: Sequence[RunFacts]) -> dict[date, list[RunFacts]]:
    """Return the runs by the day on which they ended, in UTC, each day's newest run first."""
    found: dict[date, list[RunFacts]] = {}
    for run in runs:
        found.setdefault(datetime.fromisoformat(run.moment).astimezone(UTC).date(), []).append(run)
    return found


def _day(day: date, runs: list[RunFacts]) -> Day:
    outcome = runs[0].outcome if runs else "none"
    words = ", ".join(run.outcome for run in reversed(runs)) or "no run"
    return Day(f"{day:%-d}", outcome, SYMBOLS.get(outcome, "?"), f"{day:%A, %-d %B %Y}: {words}")
