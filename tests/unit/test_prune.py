"""Prune on stores in memory: what goes, what stays, in which order, and what it says of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from fix_state import entry, manifest, point, put, quick_ledger, stored, table
from floodmark.errors import Conflict, OutcomeUnknown, StateUnreadable, StorageDenied, StorageUnavailable
from floodmark.layout import timestamp_text
from floodmark.prune.job import EraseBefore, KeepDays, KeepLast, PruneResult, prune_stores
from floodmark.prune.retention import ManifestLink, keep_reasons
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Head, Inflight, Working, decode, encode
from floodmark.storage.memory import MemoryStorage

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WEEK = timedelta(days=7)


class Place:
    """A state and a destination in which a run was committed on each of some days before NOW."""

    def __init__(self) -> None:
        self.state, self.data = MemoryStorage("memory:state"), MemoryStorage("memory:data")
        self.ledger: Ledger = quick_ledger(self.state)

    def key(self, days: float, name: str = "t", number: int = 0) -> str:
        stamp = timestamp_text(NOW - timedelta(days=days))
        return f"data/database_name=cases/table_name={name}/extraction_timestamp={stamp}/{name}-{number:05d}.jsonl.gz"

    def object(self, days: float, name: str = "t", number: int = 0) -> str:
        key = self.key(days, name, number)
        put(self.data, key, b"lines")
        return key

    def commit(self, days: float, *keys: str, name: str = "t") -> Current:
        """A run so many days ago, which names these objects and one that it wrote."""
        objects = tuple(stored(key) for key in (*keys, self.object(days, name)))
        base, when = self.ledger.current(), NOW - timedelta(days=days)
        ours = manifest(
            f"r{days}",
            point(1),
            entry(name, point(1), *objects),
            timestamp=timestamp_text(when),
            finished_at=when.isoformat(),
            parent=None if base is None else base.head.manifest,
        )
        self.ledger.commit(ours, base)
        current = self.ledger.current()
        assert current is not None
        return current

    def prune(self, rule: Any, grace: timedelta = WEEK, **named: Any) -> PruneResult:
        done = prune_stores(self.ledger, self.data, rule, named.pop("now", NOW), grace, **named)
        assert done is not None
        return done

    @property
    def runs(self) -> list[str]:
        return [one.run_id for one in self.ledger.history()]

    @property
    def objects(self) -> set[str]:
        return set(self.data.list(""))

    @property
    def head(self) -> Head:
        return decode(Head, self.state.get("head.json").data, "head")


@pytest.fixture
def place() -> Place:
    return Place()


def test_days_keep_what_was_current_within_them(place: Place) -> None:
    keys = {days: place.key(days) for days in (40, 20, 9, 1)}
    for days in keys:
        place.commit(days)
    done = place.prune(KeepDays(10))
    # r20 was the current one until nine days ago
    assert (done.kept, done.cut) == (("r1", "r9", "r20"), ("r40",))
    assert place.runs == ["r1", "r9", "r20"] and place.objects == {keys[1], keys[9], keys[20]}
    assert set(place.state.list("manifests/")) == {f"manifests/r{n}.json" for n in (1, 9, 20)}
    assert (place.head.oldest, place.head.floor) == ("manifests/r20.json", timestamp_text(NOW - timedelta(days=40)))
    again = place.prune(KeepDays(10))
    assert not (again.cut or again.objects or again.manifests)


def test_a_number_keeps_so_many_and_all_that_readers_may_hold(place: Place) -> None:
    for days in (40, 30, 20, 10, 3, 1):
        place.commit(days)
    assert place.prune(KeepLast(4)).kept == ("r1", "r3", "r10", "r20")
    # r10 was current until three days ago: a reader may still be at it
    assert place.prune(KeepLast(1)).kept == ("r1", "r3", "r10")
    assert place.prune(KeepLast(1), timedelta(0)).kept == ("r1",)
    assert place.objects == {place.key(1)}


def test_a_record_of_an_announced_commit_goes_with_its_manifest(place: Place) -> None:
    for days in (40, 20, 1):
        place.commit(days)
        put(place.state, f"complete/r{days}.json", b"record")
    put(place.state, "complete/r90.json", b"the record of a manifest that an earlier prune deleted")
    put(place.state, "manifests/r30.json", b"damaged")
    put(place.state, "complete/r30.json", b"the record of a manifest that can't be read")
    done = place.prune(KeepDays(10))
    assert done.completions == ("complete/r40.json", "complete/r90.json")
    left = {f"complete/r{days}.json" for days in (1, 20, 30)}
    assert set(place.state.list("complete/")) == left


def test_an_old_object_stays_as_long_as_anything_in_reach_names_it(place: Place) -> None:
    old = place.key(40)
    place.commit(40)
    place.commit(20, old)
    place.commit(10, old)
    place.prune(KeepLast(1), timedelta(0))
    assert place.objects == {old, place.key(10)}


def test_a_dry_run_says_the_same_and_does_nothing(place: Place) -> None:
    for days in (40, 20, 10):
        place.commit(days)
    before = (place.objects, set(place.state.list("")), place.head)
    told = place.prune(KeepLast(1), dry_run=True)
    assert (place.objects, set(place.state.list("")), place.head) == before
    assert replace(told, dry_run=False) == place.prune(KeepLast(1)) and told.objects


def test_before_the_first_run_there_is_nothing_to_prune(place: Place) -> None:
    assert prune_stores(place.ledger, place.data, KeepLast(1), NOW, WEEK) is None


# Orphans


def dead(place: Place, days: float, *names: str) -> str:
    """Progress that a run left behind."""
    stamp = timestamp_text(NOW - timedelta(days=days))
    objects = ",".join(f'{{"key":"{name}"}}' for name in names)
    key = f"progress/{stamp}-dead.json"
    put(place.state, key, f'{{"timestamp":"{stamp}","tables":[{{"objects":[{objects}]}}]}}'.encode())
    return key


def test_what_a_dead_run_left_goes_when_it_is_old(place: Place) -> None:
    place.commit(30)
    old = dead(place, 9, place.object(9))
    place.object(9, number=1)  # put, but not named before the end came
    young = dead(place, 2, place.object(2))
    done = place.prune(KeepLast(1))
    assert set(done.objects) == {place.key(9), place.key(9, number=1)} and done.progress == (old,)
    assert place.objects == {place.key(30), place.key(2)} and set(place.state.list("progress/")) == {young}
    assert done.waiting == 1


def test_what_a_recently_dead_run_took_over_stays_with_it(place: Place) -> None:
    place.commit(30)
    taken = place.object(20)
    dead(place, 2, taken, place.object(2))
    assert not place.prune(KeepLast(1)).objects
    assert taken in place.objects


def test_another_states_objects_are_left_alone(place: Place) -> None:
    """Two states may share a destination: an object of a timestamp that no document of ours shows may be another's."""
    place.commit(30)
    foreign = place.object(25, number=3)
    place.object(25, name="theirs")
    strange = "data/database_name=cases/table_name=t/notes.txt"
    put(place.data, strange, b"?")
    done = place.prune(KeepLast(1))
    assert set(done.unknown) == {foreign, strange} and not done.objects
    assert len(place.objects) == 4


def test_a_manifest_that_was_never_committed_goes_with_its_objects(place: Place) -> None:
    base = place.commit(30)
    loser = manifest("loser", point(1), entry("t", point(1), stored(place.object(20, number=5))))
    put(place.state, "manifests/loser.json", encode(replace(loser, timestamp=timestamp_text(NOW - timedelta(20)))))
    put(place.state, "manifests/damaged.json", b"{")
    done = place.prune(KeepLast(1))
    assert done.manifests == ("manifests/loser.json",) and done.objects == (place.key(20, number=5),)
    assert done.unknown == ("manifests/damaged.json",)
    assert place.runs == [base.manifest.run_id]


# Runs at work


def at_work(place: Place, started: datetime, timestamp: datetime) -> None:
    run_id = f"{started.strftime('%Y%m%dT%H%M%SZ')}-abc123"
    working = Working(
        run_id=run_id,
        timestamp=timestamp_text(timestamp),
        progress=f"progress/{run_id}.json",
        started_at=started.isoformat(),
    )
    put(place.state, "inflight.json", encode(Inflight(latest=working.timestamp, runs=(working,))))


def test_nothing_of_a_run_at_work_goes_even_without_grace(place: Place) -> None:
    place.commit(30)
    begun = NOW - timedelta(hours=3)
    at_work(place, begun, NOW - timedelta(hours=1))  # its second snapshot
    for moment in (begun, NOW - timedelta(hours=1)):
        put(place.data, place.key((NOW - moment) / timedelta(days=1), number=7), b"x")
    assert not place.prune(KeepLast(1), timedelta(0)).objects
    assert place.prune(KeepLast(1), timedelta(0)).waiting + len(place.prune(KeepLast(1), timedelta(0)).unknown) == 2


def test_a_run_that_slept_through_the_grace_time_is_refused(place: Place) -> None:
    """It wrote its objects, and its manifest, and was to move head: eleven days later it does."""
    base = place.commit(30)
    late = NOW - timedelta(days=11)
    slow = manifest("slow", point(2), entry("t", point(2), stored(place.object(11))), parent=base.head.manifest)
    slow = replace(slow, timestamp=timestamp_text(late))
    put(place.state, "manifests/slow.json", encode(slow))
    assert place.prune(KeepLast(1)).manifests == ("manifests/slow.json",)
    with pytest.raises(Conflict, match="grace time"):
        place.ledger.commit(slow, base)
    assert place.runs == ["r30"]


def test_an_unchanged_run_is_refused_too_once_its_manifest_counts_as_an_orphan(place: Place) -> None:
    """It names nothing of its own; but its manifest may be deleted between its being found there and head's move."""
    base = place.commit(30)
    slow = replace(
        base.manifest, run_id="slow", parent=base.head.manifest, timestamp=timestamp_text(NOW - timedelta(11))
    )
    put(place.state, "manifests/slow.json", encode(slow))
    place.prune(KeepLast(1))
    with pytest.raises(Conflict, match="grace time"):
        place.ledger.commit(slow, base)
    assert place.runs == ["r30"]


def test_a_run_that_prune_passed_by_commits_as_if_nothing_had_been(place: Place) -> None:
    place.commit(40)
    base = place.commit(30)
    ours = manifest("ours", point(2), entry("t", point(2), stored(place.object(0))), parent=base.head.manifest)
    ours = replace(ours, timestamp=timestamp_text(NOW))
    place.prune(KeepLast(1))
    committed = place.ledger.commit(ours, base)
    assert (committed.rebased, committed.manifest.consistent) == (0, True)
    assert place.head.oldest == "manifests/r30.json" and place.head.floor is not None
    assert place.runs == ["ours", "r30"]


def test_a_table_that_took_over_what_prune_took_does_not_land(place: Place) -> None:
    """A run takes a dead one's objects over; before it commits, they count as the dead one's and go."""
    base = place.commit(30)
    dead(place, 20, place.object(20))
    tables = (
        entry("new", point(2), stored(place.object(0, "new"))),
        entry("t", point(2), stored(place.key(20))),
    )
    ours = replace(manifest("ours", point(2), *tables), timestamp=timestamp_text(NOW), parent=base.head.manifest)
    assert place.prune(KeepLast(1)).objects == (place.key(20),)
    landed = place.ledger.commit(ours, base).manifest
    assert [(one.name, one.objects[0].key) for one in landed.tables] == [
        ("new", place.key(0, "new")),
        ("t", place.key(30)),
    ]


def test_a_claim_is_never_below_the_floor(place: Place) -> None:
    place.commit(40)
    place.commit(9)
    dead(place, 8, place.object(8))
    place.prune(KeepLast(1))
    floor = place.head.floor
    assert floor == timestamp_text(NOW - timedelta(days=8))
    assert place.ledger.claim("behind", NOW - timedelta(days=100)).timestamp > floor


def test_without_conditional_writes_prune_waits_for_runs(place: Place) -> None:
    for days in (40, 20):
        place.commit(days)
    at_work(place, NOW, NOW)
    unconditional = quick_ledger(place.state, unconditional=True)
    with pytest.raises(Conflict, match="no run is in progress"):
        prune_stores(unconditional, place.data, KeepLast(1), NOW, WEEK)
    assert len(place.objects) == 2


# Faults


def test_head_is_moved_before_anything_is_deleted(place: Place) -> None:
    for days in (40, 20, 10):
        place.commit(days)
    trace: list[str] = []
    remember = lambda operation, key, moment: trace.append(f"{operation} {key}") if moment == "after" else None  # noqa: E731
    place.state.faults = place.data.faults = remember
    place.prune(KeepLast(1))
    writes = [one for one in trace if one.startswith(("put", "delete"))]
    assert writes[0] == "put head.json" and sorted(writes[1:3]) == [f"delete {place.key(n)}" for n in (40, 20)]
    assert sorted(writes[3:]) == ["delete manifests/r20.json", "delete manifests/r40.json"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_while_it_is_unknown_whether_head_moved_nothing_is_deleted(place: Place, moment: str) -> None:
    for days in (40, 20):
        place.commit(days)

    def silent_store(operation: str, key: str, when: str) -> None:
        if (key, when) == ("head.json", "after" if operation == "get" else moment) and operation != "stat":
            raise StorageUnavailable(operation, why="a test says so")

    before = place.objects
    current = place.ledger.current()
    assert current is not None
    armed: list[bool] = []

    def faults(operation: str, key: str, when: str) -> None:
        armed.append(operation == "put" and key == "head.json")
        if any(armed):
            silent_store(operation, key, when)

    place.state.faults = faults
    with pytest.raises((OutcomeUnknown, StorageUnavailable)):
        place.prune(KeepLast(1))
    assert place.objects == before
    place.state.faults = lambda *_: None
    assert place.prune(KeepLast(1)).objects == (place.key(40),)
    assert place.runs == ["r20"]


def test_a_lost_answer_on_head_is_looked_up(place: Place) -> None:
    for days in (40, 20):
        place.commit(days)
    lost = [True]

    def faults(operation: str, key: str, when: str) -> None:
        if (operation, key, when) == ("put", "head.json", "after") and lost:
            lost.pop()
            raise StorageUnavailable(operation, why="a test says so")

    place.state.faults = faults
    assert place.prune(KeepLast(1)).cut == ("r40",)
    assert place.objects == {place.key(20)}


def test_a_run_that_commits_meanwhile_is_seen(place: Place) -> None:
    for days in (40, 20):
        place.commit(days)
    once = [True]

    def faults(operation: str, key: str, when: str) -> None:
        if (operation, key, when) == ("put", "head.json", "before") and once:
            once.pop()
            base = place.ledger.current()
            assert base is not None
            tables = entry("t", point(3), stored(place.object(0)))
            ours = replace(manifest("winner", point(3), tables), timestamp=timestamp_text(NOW))
            ours = replace(ours, parent=base.head.manifest, finished_at=NOW.isoformat())
            place.ledger.commit(ours, base)

    place.state.faults = faults
    done = place.prune(KeepLast(1))
    assert done.kept == ("winner", "r20") and place.runs == ["winner", "r20"]


def test_history_that_is_damaged_stops_a_prune_but_not_an_erasure(place: Place) -> None:
    for days in (40, 30, 20):
        place.commit(days)
    place.state.delete("manifests/r30.json")
    with pytest.raises(StateUnreadable, match=r"manifests/r30\.json.*r20 names it"):
        place.prune(KeepDays(90))
    assert len(place.objects) == 3
    done = place.prune(EraseBefore(timestamp_text(NOW - timedelta(days=25))))
    assert done.history_lost is not None and "r30" in done.history_lost
    assert set(done.objects) == {place.key(40), place.key(30)} and place.objects == {place.key(20)}
    assert place.prune(KeepDays(90)).kept == ("r20",)


@pytest.mark.parametrize(("operation", "right"), [("list", "s3:ListBucket"), ("delete", "s3:DeleteObject")])
@pytest.mark.parametrize("where", ["state", "data"])
def test_a_right_that_is_missing_is_named(place: Place, operation: str, right: str, where: str) -> None:
    for days in (40, 20):
        place.commit(days)

    def faults(did: str, key: str, when: str) -> None:
        if did == operation and when == "before":
            raise StorageDenied("a request", on=key, why="AccessDenied")

    getattr(place, where).faults = faults
    with pytest.raises(StorageDenied) as refused:
        place.prune(KeepLast(1))
    assert right in (refused.value.hint or "")
    getattr(place, where).faults = lambda *_: None
    place.prune(KeepLast(1))
    assert place.objects == {place.key(20)} and set(place.state.list("manifests/")) == {"manifests/r20.json"}


# Erasure


def test_an_erasure_takes_all_older_data_and_names_what_is_left(place: Place) -> None:
    old = place.key(40)
    place.commit(40)
    place.commit(30, old)
    place.commit(20)
    place.commit(10, old)
    place.object(35, number=9)  # of no run that anyone remembers
    date = timestamp_text(NOW - timedelta(days=15))
    done = place.prune(EraseBefore(date))
    assert done.cut == ("r20", "r30", "r40")
    assert set(done.objects) == {place.key(30), place.key(20), place.key(35, number=9)}
    assert [(one.table, one.objects) for one in done.remains] == [(table("t"), 1)]
    assert place.objects == {old, place.key(10)}
    place.commit(0)  # everything anew, as run --full does
    kept = place.prune(EraseBefore(date))
    assert (kept.remains, kept.in_reach_still) == ((), 1) and old in place.objects
    assert place.prune(EraseBefore(date), timedelta(0)).objects == (old,)


def test_an_erasure_does_not_touch_what_is_younger_than_its_date(place: Place) -> None:
    for days in (40, 12, 10):
        place.commit(days)
    young = place.object(11, number=4)
    done = place.prune(EraseBefore(timestamp_text(NOW - timedelta(days=15))), timedelta(0))
    assert done.kept == ("r10", "r12") and done.objects == (place.key(40),)
    assert young in place.objects


def test_each_kept_snapshot_has_the_rule_that_keeps_it() -> None:
    reach = [
        ManifestLink(
            f"manifests/{n}.json", f"r{n}", f"manifests/{n + 1}.json", "", NOW - timedelta(days=n), frozenset()
        )
        for n in range(8)
    ]
    week = timedelta(days=2)
    assert keep_reasons(reach, KeepLast(2), NOW, week) == ("current", "keep-last", "grace")
    assert keep_reasons(reach, KeepDays(4), NOW, week) == ("current", *["keep-days"] * 5)
    assert keep_reasons(reach[:1], KeepLast(9), NOW, week) == ("current",)
    late = [reach[0], replace(reach[1], finished=NOW - timedelta(days=9)), replace(reach[2], finished=NOW), reach[3]]
    assert keep_reasons(late, KeepLast(1), NOW, week) == ("current", "grace", "older", "grace")
