"""Prune: move old snapshots out of reach, and delete objects that no snapshot in reach names.

Prune first writes the new end of history into head, by compare-and-swap. Only after that it deletes: objects, then
progress, then the records of announced commits, then manifests. So if a prune dies, its manifests still name what it
left behind. `survey` lists the store's content. `decide` (pure) chooses what to delete and proves why that is safe.
Runs, readers and other prunes can run at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from floodmark.backends import open_destination, open_ledger
from floodmark.config import Settings
from floodmark.errors import ConfigError, Conflict, StateUnreadable
from floodmark.events import Observer, StepStarted, ignore_event
from floodmark.layout import LAYOUTS, timestamp_of
from floodmark.prune.deletion import Deletion
from floodmark.prune.retention import (
    EraseBefore,
    KeepDays,
    KeepLast,
    KeptBy,
    PruneDecision,
    RemainingObjects,
    Rule,
    StoreSurvey,
    decide_prune,
)
from floodmark.prune.survey import take_survey
from floodmark.state.ledger import Current, Ledger
from floodmark.stop import NEVER, Stop, stopped_leaving
from floodmark.storage.base import Storage
from floodmark.wording import iso_time

__all__ = ["EraseBefore", "KeepDays", "KeepLast", "PruneResult", "RemainingObjects", "Rule", "prune", "prune_stores"]

MAX_TRIES = 5
# The minimum grace time for puts, however short the configured one is. It protects a put that is in progress.
SHORTEST_PUT_GRACE = timedelta(hours=1)


class PruneResult(Struct, frozen=True, kw_only=True):
    """The result of a prune or, with `dry_run`, of what it would do. Keys are relative to destination and state.

    `kept` and `cut` are run_ids, newest first. `kept_by` says why each of `kept` stays. `waiting` counts objects
    that no snapshot in reach names and that are too young to delete. `unknown` keys stay, because nothing tells
    their owner. `history_lost` is the reason why older manifests could not be read. `remains` and `in_reach_still`
    concern an erasure. `remains` holds the current snapshot's objects from before its date, by table.
    `in_reach_still` counts those that only snapshots within the grace time name. `unfinished` lists temporary files
    in folders, by their whole paths, from puts that were killed.
    """

    dry_run: bool
    run_id: str
    kept: tuple[str, ...]
    kept_by: tuple[KeptBy, ...]
    cut: tuple[str, ...]
    objects: tuple[str, ...]
    progress: tuple[str, ...]
    manifests: tuple[str, ...]
    waiting: int
    unknown: tuple[str, ...]
    grace_until: str
    history_lost: str | None = None
    in_reach_still: int = 0
    remains: tuple[RemainingObjects, ...] = ()
    data_left_to_receiver: bool = False
    unfinished: tuple[str, ...] = ()
    completions: tuple[str, ...] = ()


def prune(
    settings: Settings, rule: Rule, observer: Observer, stop: Stop = NEVER, *, dry_run: bool = False
) -> PruneResult | None:
    """Prune, or report what a prune would do. Returns None before the first commit.

    Raises NoState if no run has ever begun, FloodmarkError.
    """
    observer(StepStarted("reading the state"))
    ledger = open_ledger(settings, observer)
    if ledger is None:
        raise ConfigError("can't prune", why="runs to this landing zone keep no state")
    current = ledger.current()
    if current is None:
        ledger.require_begun()
        return None
    destination = _open_data(settings, current, observer)
    del current  # it is read again for the survey: a large manifest takes much memory
    grace = timedelta(seconds=settings.prune_grace)
    return prune_stores(ledger, destination, rule, datetime.now(UTC), grace, stop, observer, dry_run=dry_run)


def prune_stores(
    ledger: Ledger,
    destination: Storage | None,
    rule: Rule,
    now: datetime,
    grace: timedelta,
    stop: Stop = NEVER,
    observer: Observer = ignore_event,
    *,
    dry_run: bool = False,
) -> PruneResult | None:
    """Prune open stores; see `prune`. `destination` is None if its receiver moves the objects away."""
    deletion = Deletion(observer, stop)
    with stopped_leaving(deletion.left):
        return _prune_stores(ledger, destination, rule, now, grace, deletion, dry_run=dry_run)


def _prune_stores(
    ledger: Ledger,
    destination: Storage | None,
    rule: Rule,
    now: datetime,
    grace: timedelta,
    deletion: Deletion,
    *,
    dry_run: bool,
) -> PruneResult | None:
    for _ in range(MAX_TRIES):
        current = ledger.current()
        if current is None:
            return None
        try:
            survey = take_survey(ledger, destination, current, rule, now, deletion.observer, deletion.stop)
        except StateUnreadable:
            if _is_still(ledger, current):
                raise
            continue  # another prune took what history named when this survey began
        decision = decide_prune(survey, rule, now, grace)
        report = _prune_result(
            current, survey, decision, rule, now + grace, dry_run=dry_run, data=destination is not None
        )
        before = now - max(grace, SHORTEST_PUT_GRACE)
        report = replace(report, unfinished=_unfinished_uploads(ledger, destination, before))
        if dry_run:
            return report
        _require_safe_swap(ledger, survey)
        if ledger.cut(current, decision.oldest, decision.floor):
            _delete(ledger, destination, decision, deletion)
            _discard_unfinished(ledger, destination, before, deletion)
            return report
    raise Conflict(
        "can't cut history",
        on=ledger.url,
        why="other runs kept committing",
        hint="Nothing was deleted. Prune again when the other runs are done.",
    )


def _is_still(ledger: Ledger, current: Current) -> bool:
    now = ledger.current()
    return now is not None and now.etag == current.etag


def _open_data(settings: Settings, current: Current, observer: Observer) -> Storage | None:
    """Return the storage of the objects that the manifests name, or None if they are not ours any more."""
    if not LAYOUTS[current.manifest.layout].objects_stay:  # type: ignore[index]
        return None
    destination = open_destination(settings, current.manifest, observer)
    if destination.url != current.manifest.destination:
        raise ConfigError(
            "can't prune this destination",
            on=destination.url,
            why=f"the current manifest was written to {current.manifest.destination}",
            hint="Prune deletes only at the last run's destination. If the data was moved, run once first.",
        )
    return destination


def _require_safe_swap(ledger: Ledger, survey: StoreSurvey) -> None:
    """Require a store that honours conditions.

    If the user accepted another store, require that no run is in progress.
    """
    ledger.check()
    if ledger.documents.unconditional and survey.alive:
        raise Conflict(
            "can't prune during a run",
            on=", ".join(sorted(survey.alive)),
            why="this store ignores conditions, so the run's commit could be lost and its objects deleted",
            hint="Prune when no run is in progress.",
        )


def _delete(ledger: Ledger, destination: Storage | None, decision: PruneDecision, deletion: Deletion) -> None:
    deletion.begin(len(decision.objects) + len(decision.progress) + len(decision.completions) + len(decision.manifests))
    if destination is not None:
        deletion.delete_all(destination.delete, decision.objects, destination.url)
    deletion.delete_all(ledger.documents.delete, decision.progress, ledger.url)
    deletion.delete_all(ledger.documents.delete, decision.completions, ledger.url)
    deletion.delete_all(ledger.documents.delete, decision.manifests, ledger.url)


def _unfinished_uploads(ledger: Ledger, destination: Storage | None, before: datetime) -> tuple[str, ...]:
    """Return the unfinished files. State is often inside the destination, so each file is listed only once."""
    found = {f"{ledger.url}/{name}" for name in ledger.documents.unfinished(before)}
    if destination is not None:
        found |= {f"{destination.url}/{name}" for name in destination.unfinished(before)}
    return tuple(sorted(found))


def _discard_unfinished(ledger: Ledger, destination: Storage | None, before: datetime, deletion: Deletion) -> None:
    """Delete unfinished files by age. Age is enough, because nobody reads or continues an unfinished file."""
    deletion.delete_all(ledger.documents.discard, ledger.documents.unfinished(before), ledger.url)
    if destination is not None:
        deletion.delete_all(destination.discard, destination.unfinished(before), destination.url)


def _prune_result(
    current: Current,
    survey: StoreSurvey,
    decision: PruneDecision,
    rule: Rule,
    until: datetime,
    *,
    dry_run: bool,
    data: bool,
) -> PruneResult:
    return PruneResult(
        dry_run=dry_run,
        run_id=current.head.run_id,
        kept=decision.kept,
        kept_by=decision.kept_by,
        cut=decision.cut,
        objects=decision.objects,
        progress=decision.progress,
        manifests=decision.manifests,
        waiting=decision.waiting,
        unknown=decision.unknown,
        grace_until=iso_time(until, "seconds"),
        history_lost=survey.lost,
        in_reach_still=decision.in_reach_still,
        remains=tuple(_remaining_objects(current, rule)),
        data_left_to_receiver=not data,
        completions=decision.completions,
    )


def _remaining_objects(current: Current, rule: Rule) -> Iterable[RemainingObjects]:
    if isinstance(rule, EraseBefore):
        for entry in current.manifest.tables:
            old = sum((timestamp_of(one.key) or "") < rule.timestamp for one in entry.objects)
            if old:
                yield RemainingObjects(entry.schema, entry.name, old)
