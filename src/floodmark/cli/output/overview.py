"""Many states at a glance: a summary of each, and what in it needs attention. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from floodmark.cli.output.views import RunSummary, StatusDocument, TableStatus, age
from floodmark.errors import FloodmarkError
from floodmark.model import TableName
from floodmark.wording import duration_text, plural

# As in ops/prometheus/alerts.yml: a nightly run should have committed, and a run should have ended.
_STALE = 26 * 3600
_HANGS = 6 * 3600
_NAMES = 3  # tables that a sentence names


class StateSummary(Struct, frozen=True, kw_only=True):
    """A state in `status` of several: its database, its last run that ended, and its tables that are not dropped.

    `error` says why the state can't be read; then the rest is null or 0. `as_of` is the newest moment of the source
    that a table shows, and `oldest_as_of` the oldest one, null if a table was never read. `attention` are sentences,
    empty if all is well. `details` is what `status` gives for this state only, or null without --verbose.
    """

    state: str
    database: str | None = None
    error: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    ended_at: str | None = None
    committed_at: str | None = None
    as_of: str | None = None
    age_seconds: int | None = None
    oldest_as_of: str | None = None
    oldest_age_seconds: int | None = None
    tables: int = 0
    rows: int = 0
    stored_bytes: int = 0
    failed: int = 0
    dropped: int = 0
    attention: tuple[str, ...] = ()
    details: StatusDocument | None = None


class OverviewDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark status` with several states: those that need attention most come first."""

    states: tuple[StateSummary, ...]


def summary(url: str, found: StatusDocument | FloodmarkError, now: datetime) -> StateSummary:
    """Return the summary of a state, or of the reason why it can't be read."""
    if isinstance(found, FloodmarkError):
        return StateSummary(state=url, error=found.sentence, attention=(found.sentence,))
    kept = [one for one in found.tables if one.status != "dropped"]
    moments = [one.as_of for one in kept if one.as_of is not None]
    newest = max(moments, key=datetime.fromisoformat, default=None)
    oldest = min(moments, key=datetime.fromisoformat, default=None)
    oldest = oldest if len(moments) == len(kept) else None
    last = _last_run(found.runs)
    return StateSummary(
        state=url,
        database=None if found.head is None else found.head.database,
        outcome=None if last is None else last.outcome,
        exit_code=None if last is None else last.exit_code,
        ended_at=None if last is None else last.finished_at,
        committed_at=None if found.head is None else found.head.committed_at,
        as_of=newest,
        age_seconds=None if newest is None else age(newest, now),
        oldest_as_of=oldest,
        oldest_age_seconds=None if oldest is None else age(oldest, now),
        tables=len(kept),
        rows=sum(one.rows or 0 for one in kept),
        stored_bytes=sum(one.stored_bytes or 0 for one in kept),
        failed=sum(one.status == "failed" for one in kept),
        dropped=len(found.tables) - len(kept),
        attention=tuple(_attention(found, last, now)),
    )


def worst_first(summaries: Sequence[StateSummary]) -> list[StateSummary]:
    """Return the summaries, those first that need attention most, and of these the oldest first."""
    return sorted(summaries, key=lambda one: (_rank(one), -_oldest(one), one.database or "", one.state))


def _last_run(runs: Sequence[RunSummary]) -> RunSummary | None:
    """Return the newest run that ended, or the newest one if none has."""
    return next((one for one in runs if one.outcome != "unfinished"), runs[0] if runs else None)


def _attention(found: StatusDocument, last: RunSummary | None, now: datetime) -> Iterator[str]:
    """Yield a sentence about each thing that an operator should look at, gravest first."""
    if last is not None and last.outcome in ("failed", "stopped"):
        end = "was stopped" if last.outcome == "stopped" else "failed"
        why = "" if last.error is None else f": {last.error}"
        yield f"the last run {end} with exit code {last.exit_code}{why}"
    if found.head is None:
        yield "no run has been committed yet"
    elif age(found.head.committed_at, now) > _STALE:
        yield f"the last commit is {duration_text(age(found.head.committed_at, now))} old"
    yield from _about_tables(found.tables)
    if found.drift:
        yield f"{plural(len(found.drift), 'difference')} from the contract"
    for run in found.runs:
        if run.outcome == "unfinished" and age(run.started_at, now) > _HANGS:
            yield f"run {run.run_id} began {duration_text(age(run.started_at, now))} ago and has not ended"


def _about_tables(tables: Sequence[TableStatus]) -> Iterator[str]:
    failed = [one for one in tables if one.status == "failed"]
    dropped = [one for one in tables if one.status == "dropped"]
    if failed:
        yield f"{plural(len(failed), 'table')} failed: {_names(failed)}"
    if dropped:
        yield f"{plural(len(dropped), 'table')} gone from the source: {_names(dropped)}"


def _names(tables: Sequence[TableStatus]) -> str:
    names = [TableName(one.schema, one.name).label for one in tables[:_NAMES]]
    return ", ".join([*names, "…"] if len(tables) > _NAMES else names)


def _rank(one: StateSummary) -> int:
    """Return how soon a state needs attention: 0 at once, 4 not at all."""
    if one.error is not None:
        return 0
    if one.committed_at is None or one.outcome in ("failed", "stopped"):
        return 1
    return 2 if one.failed else 3 if one.attention else 4


def _oldest(one: StateSummary) -> float:
    """Return the age of the oldest table. A table that was never read is older than all others."""
    if one.oldest_age_seconds is not None:
        return one.oldest_age_seconds
    return float("inf") if one.tables else 0.0
