"""Histories → the values that the template shows: the front page's totals, and a view of each state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from msgspec import Struct

from floodmark.report.attention import Notice, last_ended, notices, severity
from floodmark.report.days import SYMBOLS, Calendar, Day, calendar, recent_days, runs_by_day
from floodmark.report.facts import ReadDay, RunFacts, SchemaChange, StateHistory, UnreadState
from floodmark.report.payload import payload
from floodmark.report.places import without_secrets_in_urls

_RECENT_DAYS = 14
_MUCH_OLDER = 3600
# The most lines of a list in the page. Tables have their own, complete lists.
_MOST_RUNS = 100
_MOST_CHANGES = 200
_AGES = ((1, "in the last day"), (7, "in the last week"), (30, "in the last month"), (10**6, "longer ago"))
_KINDS = {
    "table_new": "new table",
    "table_dropped": "table dropped",
    "table_renamed": "table renamed",
    "column_added": "column added",
    "column_removed": "column removed",
    "column_type": "type changed",
    "column_null": "nullability changed",
    "key": "primary key changed",
}
_MARKS = {"table_new": "+", "column_added": "+", "table_dropped": "−", "column_removed": "−"}


class ChangeView(Struct, frozen=True):
    """One line of the schema's timeline. `schema` and `name` are the table's."""

    mark: str
    kind: str
    schema: str
    name: str
    column: str
    before: str
    after: str


class ChangesOfRun(Struct, frozen=True):
    """The changes of the schema that one run found, and the number of those that are not listed."""

    run_id: str
    moment: str
    changes: tuple[ChangeView, ...]
    more: int


class AuditShare(Struct, frozen=True):
    """The share of the provable bytes whose lines were last read within a time. `percent` is of the chunks."""

    label: str
    chunks: int
    stored_bytes: int
    percent: float


class NightTotal(Struct, frozen=True):
    """The sums of one day over all states: bytes that were put, and bytes that were there already."""

    day: str
    moved_bytes: int
    saved_bytes: int


class StateView(Struct, frozen=True, kw_only=True):
    """The values of one state. `level` is that of its worst notice, or `good`. `last` is its newest run that ended.

    `oldest_seconds` is the age of the oldest table, if that is much older than the data as a whole.
    """

    slug: str
    title: str
    place: str
    level: str
    severity: int
    notices: tuple[Notice, ...]
    state: StateHistory | None = None
    last: RunFacts | None = None
    newest: RunFacts | None = None
    age_seconds: int | None = None
    oldest_seconds: int | None = None
    moved_bytes: int = 0
    saved_bytes: int = 0
    recent: tuple[Day, ...] = ()
    calendar: Calendar | None = None
    runs: tuple[RunFacts, ...] = ()
    changes: tuple[ChangesOfRun, ...] = ()
    audit: tuple[AuditShare, ...] = ()
    data: str = ""
    left_out: bool = False
    nights: tuple[NightTotal, ...] = ()

    @property
    def saved_percent(self) -> float | None:
        """Return the share of a full copy every night that was not moved."""
        whole = self.moved_bytes + self.saved_bytes
        return 100 * self.saved_bytes / whole if whole else None


class Overview(Struct, frozen=True, kw_only=True):
    """The totals of the front page. `nights` are sums by day, oldest first."""

    states: int
    good: int
    tables: int
    rows: int
    stored_bytes: int
    moved_bytes: int
    saved_bytes: int
    nights: tuple[NightTotal, ...]

    @property
    def saved_percent(self) -> float | None:
        whole = self.moved_bytes + self.saved_bytes
        return 100 * self.saved_bytes / whole if whole else None


def symbol_of(run: RunFacts) -> str:
    return SYMBOLS.get(run.outcome, "?")


def state_view(state: StateHistory | UnreadState, slug: str, now: datetime, *, tables: bool = True) -> StateView:
    """Return the view of a state, with or without its tables."""
    found = notices(state, now)
    place = without_secrets_in_urls(state.url)
    level = found[0].level if found else "good"
    rank = severity(state, found)
    if isinstance(state, UnreadState):
        return StateView(slug=slug, title=place, place=place, level=level, severity=rank, notices=found)
    published = state.published
    moved = sum(run.moved_bytes for run in state.runs)
    today = now.astimezone(UTC).date()
    return StateView(
        slug=slug,
        title=state.database or place,
        place=place,
        level=level,
        severity=rank,
        notices=found,
        state=state,
        last=last_ended(state.runs),
        newest=published[0] if published else None,
        age_seconds=_age(state.as_of, now),
        oldest_seconds=_oldest(state, now),
        moved_bytes=moved,
        saved_bytes=sum(map(_stayed, state.runs)),
        recent=recent_days(state.runs, today, _RECENT_DAYS),
        calendar=calendar(state.runs, today),
        runs=tuple(islice(state.runs, _MOST_RUNS)),
        changes=_timeline(published),
        audit=_audit_shares(state.read_days, today),
        data=payload(state, tables=tables) if state.runs else "",
        left_out=not tables,
        nights=tuple(_nights(state.runs)),
    )


def overview(views: Sequence[StateView]) -> Overview:
    """Return the totals over all states."""
    newest = [view.newest for view in views if view.newest is not None]
    return Overview(
        states=len(views),
        good=sum(view.level in ("good", "note") for view in views),
        tables=sum(view.state.table_count for view in views if view.state is not None),
        rows=sum(run.rows for run in newest),
        stored_bytes=sum(run.stored_bytes for run in newest),
        moved_bytes=sum(view.moved_bytes for view in views),
        saved_bytes=sum(view.saved_bytes for view in views),
        nights=_summed(one for view in views for one in view.nights),
    )


def _age(moment: str | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))


def _oldest(state: StateHistory, now: datetime) -> int | None:
    age, oldest = _age(state.as_of, now), _age(state.oldest_as_of, now)
    return oldest if age is not None and oldest is not None and oldest > age + _MUCH_OLDER else None


def _stayed(run: RunFacts) -> int:
    """Return the bytes of a run's full copy that it did not put. A run that committed nothing has no copy."""
    return max(0, run.stored_bytes - run.moved_bytes)


def _nights(runs: Sequence[RunFacts]) -> Iterable[NightTotal]:
    for day, ended in sorted(runs_by_day(runs).items()):
        total = NightTotal(f"{day:%Y-%m-%d}", sum(run.moved_bytes for run in ended), sum(map(_stayed, ended)))
        if total.moved_bytes or total.saved_bytes:
            yield total


def _summed(nights: Iterable[NightTotal]) -> tuple[NightTotal, ...]:
    found: dict[str, NightTotal] = {}
    for one in nights:
        known = found.get(one.day, NightTotal(one.day, 0, 0))
        found[one.day] = NightTotal(one.day, known.moved_bytes + one.moved_bytes, known.saved_bytes + one.saved_bytes)
    return tuple(found[day] for day in sorted(found))


def _timeline(published: Sequence[RunFacts]) -> tuple[ChangesOfRun, ...]:
    """Return the runs that found changes of the schema, newest first, up to a number of changes."""
    left, found = _MOST_CHANGES, []
    for run in published:
        if run.changes:
            shown = tuple(map(_change_view, run.changes[:left]))
            left -= len(shown)
            found.append(ChangesOfRun(run.run_id, run.moment, shown, len(run.changes) - len(shown)))
    return tuple(found)


def _change_view(change: SchemaChange) -> ChangeView:
    return ChangeView(
        _MARKS.get(change.kind, "~"),
        _KINDS[change.kind],
        change.table.schema,
        change.table.name,
        change.column,
        change.before,
        change.after,
    )


def _audit_shares(days: Sequence[ReadDay], today: date) -> tuple[AuditShare, ...]:
    """Return how long ago the lines of provable chunks were last read, the most recent first."""
    whole = sum(one.chunks for one in days)
    shares, since = [], -(10**6)
    for limit, label in _AGES:
        these = [one for one in days if one.day and since < _days_ago(one.day, today) <= limit]
        shares.append(_share(label, these, whole))
        since = limit
    shares.append(_share("never", [one for one in days if not one.day], whole))
    return tuple(one for one in shares if one.chunks)


def _share(label: str, days: Sequence[ReadDay], whole: int) -> AuditShare:
    chunks = sum(one.chunks for one in days)
    return AuditShare(label, chunks, sum(one.stored_bytes for one in days), 100 * chunks / whole if whole else 0.0)


def _days_ago(day: str, today: date) -> int:
    return (today - datetime.strptime(day, "%Y%m%d").date()) // timedelta(days=1)
