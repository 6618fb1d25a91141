"""Retention: from the store's content and a rule to the snapshots that go out of reach and the keys to delete. Pure.

Nothing that anyone needs is deleted, for this reason (docs/reliability.md has the whole argument). Before a deletion,
compare-and-swap raises head's floor to the youngest timestamp that will be deleted. A run can commit only what the
manifest it lands on names, and what is above the floor. So if no manifest in reach names an object, and the object is
not above the floor, no run can ever name it again, however long that run was suspended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from floodmark.layout import timestamp_moment, timestamp_of, timestamp_text
from floodmark.model import TableName


class KeepDays(Struct, frozen=True):
    """Rule: keep every snapshot that was current at some time in the last N days."""

    days: int


class KeepLast(Struct, frozen=True):
    """Rule: keep the N newest snapshots."""

    number: int


class EraseBefore(Struct, frozen=True):
    """Rule: keep no data that was extracted before this timestamp, except what the current snapshot still names."""

    timestamp: str


Rule = KeepDays | KeepLast | EraseBefore
# Why a manifest stays in reach: head names it; the rule asks for it; a reader can still hold it; or an older manifest
# that stays is reached through it.
KeptBy = Literal["current", "keep-days", "keep-last", "erase-before", "grace", "older"]


class ManifestLink(Struct, frozen=True):
    """A manifest: its key, and the facts that matter here. `names` holds the keys of its objects."""

    key: str
    run_id: str
    parent: str | None
    timestamp: str
    finished: datetime
    names: frozenset[str]


class ProgressFacts(Struct, frozen=True):
    """A run's progress: the keys of objects it names, and every timestamp it shows."""

    key: str
    run_id: str
    names: frozenset[str]
    timestamps: frozenset[str]


class StoreSurvey(Struct, frozen=True, kw_only=True):
    """The store's content.

    `reach` holds the manifests in reach, newest first. If older ones can't be read, `lost` says why. `strays` are
    manifests out of reach, `unreadable` are documents that can't be parsed. `alive` holds the timestamps of runs that
    can be in progress, `dead` those of runs that are not. `completions` holds the records of announced commits by key,
    each with its run_id.
    """

    reach: tuple[ManifestLink, ...]
    lost: str | None
    strays: tuple[ManifestLink, ...]
    progress: tuple[ProgressFacts, ...]
    unreadable: tuple[str, ...]
    alive: Mapping[str, str]
    dead: Mapping[str, str]
    oldest: str | None
    floor: str | None
    objects: tuple[str, ...]
    completions: Mapping[str, str] = {}


class RemainingObjects(Struct, frozen=True):
    """A table's current objects that were extracted before the erasure's date. They still hold its rows."""

    schema: str
    name: str
    objects: int

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class PruneDecision(Struct, frozen=True, kw_only=True):
    """The decision: head's new `oldest` and `floor`, then the keys to delete, in this order.

    `kept` are runs whose manifests stay in reach, each for the reason in `kept_by`, and `cut` those that leave it.
    `waiting` counts objects that no manifest in reach names and that are not old enough. For `unknown` objects, the
    owner or the age can't be determined. `in_reach_still` counts the older objects that snapshots kept for their
    readers name, which matters to an erasure.
    """

    oldest: str | None
    floor: str | None
    kept: tuple[str, ...]
    kept_by: tuple[KeptBy, ...]
    cut: tuple[str, ...]
    objects: tuple[str, ...]
    progress: tuple[str, ...]
    manifests: tuple[str, ...]
    waiting: int
    unknown: tuple[str, ...]
    in_reach_still: int
    cutoff: str
    completions: tuple[str, ...] = ()


def decide_prune(survey: StoreSurvey, rule: Rule, now: datetime, grace: timedelta) -> PruneDecision:
    """Apply the rule. Snapshots that were current within the grace time, and younger objects, always stay."""
    kept_by = keep_reasons(survey.reach, rule, now, grace)
    kept, cut = survey.reach[: len(kept_by)], survey.reach[len(kept_by) :]
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
    return PruneDecision(
        oldest=kept[-1].key if kept[-1].parent is not None else None,
        floor=max([*stamps, *([survey.floor] if survey.floor is not None else [])], default=None),
        kept=tuple(link.run_id for link in kept),
        kept_by=kept_by,
        cut=tuple(link.run_id for link in cut),
        objects=tuple(sorted(objects)),
        progress=tuple(sorted(one.key for one in progress)),
        manifests=tuple(sorted(link.key for link in manifests)),
        waiting=waiting,
        unknown=tuple(sorted([*unknown, *survey.unreadable])),
        in_reach_still=len(_older_names(named, rule) - _older_names(survey.reach[0].names, rule)),
        cutoff=cutoff,
        completions=tuple(_completions_without_manifest(survey, {link.key for link in manifests})),
    )


def keep_reasons(reach: Sequence[ManifestLink], rule: Rule, now: datetime, grace: timedelta) -> tuple[KeptBy, ...]:
    """Return why each of the newest manifests stays in reach. The manifests beyond these leave it.

    A manifest stops being current when the next one is committed. It counts as read until a grace time later.
    """
    reasons: list[KeptBy] = ["current"]
    for index in range(1, len(reach)):
        superseded = reach[index - 1].finished
        found: KeptBy | None = "grace" if superseded > now - grace else None
        match rule:
            case KeepDays(days):
                found = "keep-days" if superseded >= now - timedelta(days=days) else found
            case KeepLast(least):
                found = "keep-last" if index < least else found
            case EraseBefore():
                wanted = len(reasons) == index and not _older_names(reach[index].names, rule)
                found = "erase-before" if wanted else found
        if found is not None:
            while len(reasons) < index:
                reasons.append("older")
            reasons.append(found)
    return tuple(reasons)


def second_before(timestamp: str) -> str:
    """Return the timestamp a second earlier. An invalid one becomes "", which sorts first and holds all back."""
    try:
        return timestamp_text(timestamp_moment(timestamp) - timedelta(seconds=1))
    except (ValueError, OverflowError):
        return ""


def _cutoff(survey: StoreSurvey, rule: Rule, now: datetime, grace: timedelta) -> str:
    """Return the cutoff: objects with this timestamp or an earlier one can be deleted.

    It lies before all that runs in progress, or runs that died too recently, have written or taken over. Their work is
    found by its timestamps, and the floor would fence it together with the deleted objects.
    """
    oldest = timestamp_text(now.astimezone(UTC) - grace)
    stamps = [oldest, *map(second_before, survey.alive.values())]
    for one in survey.progress:
        if not _is_over(one, survey.alive, oldest):
            stamps += [second_before(stamp) for key in one.names if (stamp := timestamp_of(key)) is not None]
            stamps += map(second_before, one.timestamps)
    if isinstance(rule, EraseBefore):
        stamps.append(second_before(rule.timestamp))
    return min(stamps)


def _is_over(progress: ProgressFacts, alive: Mapping[str, str], cutoff: str) -> bool:
    """Return true if the run is not in progress and nobody will resume it.

    Progress without a timestamp is left untouched.
    """
    return progress.run_id not in alive and "" < max(progress.timestamps, default="") <= cutoff


def _completions_without_manifest(survey: StoreSurvey, deleted: set[str]) -> Iterator[str]:
    """Yield the records of announced commits whose manifest is deleted, or was by an earlier prune."""
    kept = {link.run_id for link in (*survey.reach, *survey.strays) if link.key not in deleted}
    kept |= {key.rpartition("/")[2].partition(".")[0] for key in survey.unreadable}
    for key, run_id in sorted(survey.completions.items()):
        if run_id not in kept and run_id not in survey.alive:
            yield key


def _known_timestamps(survey: StoreSurvey) -> set[str]:
    """Return this state's timestamps. An object with another timestamp can belong to another state."""
    links = (*survey.reach, *survey.strays)
    known = {*survey.alive.values(), *survey.dead.values(), *(link.timestamp for link in links)}
    for names in (*(link.names for link in links), *(one.names for one in survey.progress)):
        known |= {stamp for key in names if (stamp := timestamp_of(key)) is not None}
    for one in survey.progress:
        known |= one.timestamps
    return known


def _older_names(names: Iterable[str], rule: Rule) -> set[str]:
    if not isinstance(rule, EraseBefore):
        return set()
    return {key for key in names if (timestamp_of(key) or "") < rule.timestamp}
