"""Decide what to keep: what lies there + a rule → what goes out of reach, and what is deleted then. Pure.

Why nothing is deleted that anyone needs (the whole argument stands in docs/reliability.md): head's floor is raised,
by compare-and-swap, to the youngest timestamp that is about to be deleted, before it is. A run can commit only
what the manifest it lands on names, and what is above the floor. So what is neither named by a manifest in reach
nor above the floor can never be named again, however long anyone slept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from floodmark.layout import timestamp_moment, timestamp_of, timestamp_text
from floodmark.model import TableName


class KeepDays(Struct, frozen=True):
    """Keep every snapshot that was the current one at some time in the last so many days."""

    days: int


class KeepLast(Struct, frozen=True):
    """Keep the newest so many snapshots."""

    number: int


class EraseBefore(Struct, frozen=True):
    """Keep no data that was extracted before this timestamp, but what the current snapshot still names."""

    timestamp: str


Rule = KeepDays | KeepLast | EraseBefore


class Link(Struct, frozen=True):
    """A manifest: its key, and what of it matters here. `names` are the keys of its objects."""

    key: str
    run_id: str
    parent: str | None
    timestamp: str
    finished: datetime
    names: frozenset[str]


class Progress(Struct, frozen=True):
    """What a run left of its work: the keys of objects it names, and every timestamp it shows."""

    key: str
    run_id: str
    names: frozenset[str]
    timestamps: frozenset[str]


class Survey(Struct, frozen=True, kw_only=True):
    """What lies there. `reach` are the manifests in reach, newest first; where `lost` says why, older ones can't be
    read. `strays` are manifests out of reach, `unreadable` documents of which nothing can be told. `alive` are the
    timestamps of runs that may be at work, `dead` those of runs that are not."""

    reach: tuple[Link, ...]
    lost: str | None
    strays: tuple[Link, ...]
    progress: tuple[Progress, ...]
    unreadable: tuple[str, ...]
    alive: Mapping[str, str]
    dead: Mapping[str, str]
    oldest: str | None
    floor: str | None
    objects: tuple[str, ...]


class Remainder(Struct, frozen=True):
    """A table's current objects that were extracted before the erasure's date: still its rows."""

    schema: str
    name: str
    objects: int

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class Decision(Struct, frozen=True, kw_only=True):
    """What to do: head's new `oldest` and `floor`, then the keys to delete, in this order.

    `kept` and `cut` are runs whose manifests stay in reach, and go out of it. `waiting` objects are named by nothing
    in reach, and not old enough; `unknown` ones can't be told to be ours, or how old they are. `in_reach_still`
    are the older objects that snapshots kept for their readers name, which matters to an erasure.
    """

    oldest: str | None
    floor: str | None
    kept: tuple[str, ...]
    cut: tuple[str, ...]
    objects: tuple[str, ...]
    progress: tuple[str, ...]
    manifests: tuple[str, ...]
    waiting: int
    unknown: tuple[str, ...]
    in_reach_still: int
    cutoff: str


def decide(survey: Survey, rule: Rule, now: datetime, grace: timedelta) -> Decision:
    """What the rule comes to. What was current within the grace time, and what is younger, always stays."""
    number = kept_number(survey.reach, rule, now, grace)
    kept, cut = survey.reach[:number], survey.reach[number:]
    cutoff = _cutoff(survey, rule, now, grace)
    named = {key for link in kept for key in link.names}
    known = _known_timestamps(survey)
    objects: list[str] = []
    unknown: list[str] = []
    waiting = 0
    for key in survey.objects:
        stamp = timestamp_of(key)
        if key in named:
            continue
        if stamp is None or not (stamp in known or isinstance(rule, EraseBefore)):
            unknown.append(key)
        elif stamp > cutoff:
            waiting += not isinstance(rule, EraseBefore) or stamp < rule.timestamp
        else:
            objects.append(key)
    manifests = [link for link in (*cut, *survey.strays) if link.timestamp <= cutoff]
    progress = [one for one in survey.progress if _is_over(one, survey.alive, cutoff)]
    stamps = [stamp for key in objects if (stamp := timestamp_of(key)) is not None]
    stamps += [link.timestamp for link in manifests]
    return Decision(
        oldest=kept[-1].key if kept[-1].parent is not None else None,
        floor=max([*stamps, *([survey.floor] if survey.floor is not None else [])], default=None),
        kept=tuple(link.run_id for link in kept),
        cut=tuple(link.run_id for link in cut),
        objects=tuple(sorted(objects)),
        progress=tuple(sorted(one.key for one in progress)),
        manifests=tuple(sorted(link.key for link in manifests)),
        waiting=waiting,
        unknown=tuple(sorted([*unknown, *survey.unreadable])),
        in_reach_still=len(_older(named, rule) - _older(survey.reach[0].names, rule)),
        cutoff=cutoff,
    )


def kept_number(reach: Sequence[Link], rule: Rule, now: datetime, grace: timedelta) -> int:
    """How many of the newest manifests stay in reach. The current one always does, and whatever a reader may hold:
    a manifest stopped being current when the next one was committed, and counts as read until a grace time later.
    """
    number = 1
    for index in range(1, len(reach)):
        superseded = reach[index - 1].finished
        match rule:
            case KeepDays(days):
                wanted = superseded >= now - timedelta(days=days)
            case KeepLast(least):
                wanted = index < least
            case EraseBefore():
                wanted = number == index and not _older(reach[index].names, rule)
        if wanted or superseded > now - grace:
            number = index + 1
    return number


def before(timestamp: str) -> str:
    """The timestamp a second earlier; what is none lies before all others, so that it holds everything back."""
    try:
        return timestamp_text(timestamp_moment(timestamp) - timedelta(seconds=1))
    except (ValueError, OverflowError):
        return ""


def _cutoff(survey: Survey, rule: Rule, now: datetime, grace: timedelta) -> str:
    """What bears this timestamp or an earlier one may go. It lies before all that runs at work, or dead not long
    enough, have written or took over: their work is found by its timestamps, and would be fenced with what goes."""
    oldest = timestamp_text(now.astimezone(UTC) - grace)
    stamps = [oldest, *map(before, survey.alive.values())]
    for one in survey.progress:
        if not _is_over(one, survey.alive, oldest):
            stamps += [before(stamp) for key in one.names if (stamp := timestamp_of(key)) is not None]
            stamps += map(before, one.timestamps)
    if isinstance(rule, EraseBefore):
        stamps.append(before(rule.timestamp))
    return min(stamps)


def _is_over(progress: Progress, alive: Mapping[str, str], cutoff: str) -> bool:
    """Whether the run is not at work, and no one will take its progress up. One without a time is left alone."""
    return progress.run_id not in alive and "" < max(progress.timestamps, default="") <= cutoff


def _known_timestamps(survey: Survey) -> set[str]:
    """The timestamps that are this state's: what bears another may be another state's object."""
    links = (*survey.reach, *survey.strays)
    known = {*survey.alive.values(), *survey.dead.values(), *(link.timestamp for link in links)}
    for names in (*(link.names for link in links), *(one.names for one in survey.progress)):
        known |= {stamp for key in names if (stamp := timestamp_of(key)) is not None}
    for one in survey.progress:
        known |= one.timestamps
    return known


def _older(names: Iterable[str], rule: Rule) -> set[str]:
    if not isinstance(rule, EraseBefore):
        return set()
    return {key for key in names if (timestamp_of(key) or "") < rule.timestamp}
