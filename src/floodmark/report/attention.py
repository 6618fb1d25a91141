"""The facts about a state that a reader of the report must know first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from floodmark.pipeline.columns import list_names
from floodmark.report.facts import DROPPED, FAILED, RunFacts, StateHistory, UnreadState
from floodmark.report.places import without_secrets_in_urls
from floodmark.wording import plural

Level = Literal["bad", "warn", "note"]

# A nightly run that is this late needs a look. The alert in ops/prometheus has the same limit.
_LATE = 26 * 3600
_VERY_LATE = 50 * 3600
# A run that takes longer hangs, as for the alert, or it was killed.
_HANGS = 6 * 3600
_ORDER: dict[Level, int] = {"bad": 0, "warn": 1, "note": 2}


class Notice(Struct, frozen=True):
    """One fact that needs attention. `level` is bad (act now), warn (look at it) or note (good to know)."""

    level: Level
    text: str


def notices(state: StateHistory | UnreadState, now: datetime) -> tuple[Notice, ...]:
    """Return the facts that need attention, the worst first."""
    if isinstance(state, UnreadState):
        return (Notice("bad", without_secrets_in_urls(f"Can't be read: {state.error.sentence}")),)
    found = [*_about_last_end(state, now), *_about_age(state, now), *_about_content(state)]
    return tuple(sorted(found, key=lambda one: _ORDER[one.level]))


def severity(state: StateHistory | UnreadState, found: tuple[Notice, ...]) -> int:
    """Return a number that sorts states: the worse, the lower. A state that can't be read comes first."""
    if isinstance(state, UnreadState):
        return -1
    return min((_ORDER[one.level] for one in found), default=len(_ORDER))


def last_ended(runs: Sequence[RunFacts]) -> RunFacts | None:
    """Return the newest run that ended, or the newest one if none has."""
    return next((run for run in runs if run.outcome != "unfinished"), runs[0] if runs else None)


def _about_last_end(state: StateHistory, now: datetime) -> Iterator[Notice]:
    if not state.committed:
        yield Notice("bad", "No run has been committed yet.")
    last = last_ended(state.runs)
    if last is None:
        return
    if last.outcome == "failed":
        why = f": {last.error}" if last.error else ""
        yield Notice("bad", without_secrets_in_urls(f"The last run failed with exit code {last.exit_code}{why}"))
    elif last.outcome == "stopped":
        yield Notice("warn", f"The last run was stopped{_how_far(last)}. The next run continues from there.")
    if state.runs[0].outcome == "unfinished":
        age = _age(state.runs[0].started_at, now)
        text = f"A run began {age_text(age)} ago and has left no end: it is at work, or it was killed."
        yield Notice("warn" if age > _HANGS else "note", text)


def _how_far(run: RunFacts) -> str:
    return f" after {run.chunks_done:,} of {plural(run.chunks, 'chunk')}" if run.chunks and run.chunks_done else ""


def _about_age(state: StateHistory, now: datetime) -> Iterator[Notice]:
    age = 0 if state.as_of is None else _age(state.as_of, now)
    if age > _LATE:
        yield Notice("bad" if age > _VERY_LATE else "warn", f"The data is {age_text(age)} old.")


def _about_content(state: StateHistory) -> Iterator[Notice]:
    if not state.published:
        return
    run = state.published[0]
    if state.audit_mismatches:
        yield Notice("bad", f"The audit of the last run found {plural(state.audit_mismatches, 'chunk')} that differ.")
    renamed = {change.before for change in run.changes if change.kind == "table_renamed"}
    for state_of_table, text in ((FAILED, "failed"), (DROPPED, "dropped from the database")):
        names = [name for name in _tables_in(run, state_of_table) if name not in renamed]
        if names:
            yield Notice("warn", f"{plural(len(names), 'table')} {text}: {list_names(names)}")
    if run.drift:
        yield Notice("warn", f"{plural(run.drift, 'difference')} from the contract.")
    if not run.consistent:
        yield Notice("warn", "The tables do not all show the same moment.")
    changes = [change for change in run.changes if change.kind != "table_dropped"]
    if changes:
        tables = sorted({change.table.label for change in changes})
        yield Notice("note", f"{plural(len(changes), 'change')} of the schema: {list_names(tables)}")


def _tables_in(run: RunFacts, state: str) -> list[str]:
    return [name.label for name, one in zip(run.table_names(), run.table_states(), strict=True) if one == state]


def age_text(seconds: int) -> str:
    """Return an age in its largest unit; hours up to two days, since runs are nightly."""
    for unit, length, least in (("day", 86400, 2), ("hour", 3600, 1), ("minute", 60, 1)):
        if seconds >= least * length:
            return plural(seconds // length, unit)
    return plural(seconds, "second")


def _age(moment: str, now: datetime) -> int:
    return max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
