"""The ledger over a store whose answers get lost, and beside other writers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from fix_state import MORNING, Plan, chain, commit, lost, nothing, point, put, quick_ledger, run, table
from floodmark.errors import (
    Conflict,
    NoConditionalWrites,
    ObjectMissing,
    OutcomeUnknown,
    SourceMismatch,
    StateUnreadable,
)
from floodmark.model import SourceIdentity
from floodmark.state.ledger import MAX_REBASES, Ledger, require_same_source
from floodmark.state.manifest import Manifest, encode
from floodmark.storage.base import Body, Condition
from floodmark.storage.memory import MemoryStorage

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStorage:
    return MemoryStorage("memory:state")


@pytest.fixture
def ledger(store: MemoryStorage) -> Ledger:
    return quick_ledger(store)


# Reading


def test_before_the_first_commit_there_is_nothing(ledger: Ledger) -> None:
    assert ledger.current() is None
    assert chain(ledger) == []


def test_a_commit_is_what_the_next_reader_sees(ledger: Ledger) -> None:
    first = ledger.commit(run("r1"), None)
    assert (first.key, first.rebased) == ("manifests/r1.json", 0)
    current = ledger.current()
    assert current is not None
    assert current.manifest == first.manifest == run("r1")
    head = current.head
    assert (head.run_id, head.manifest, head.database) == ("r1", first.key, "cases")
    assert (head.timestamp, head.committed_at) == (run("r1").timestamp, run("r1").finished_at)


def test_history_walks_the_parents_newest_first(ledger: Ledger) -> None:
    for run_id in ("r1", "r2", "r3"):
        commit(ledger, run_id)
    assert chain(ledger) == ["r3", "r2", "r1"]
    assert [one.run_id for one in ledger.history(2)] == ["r3", "r2"]
    assert list(ledger.history(0)) == []


def test_history_ends_where_a_manifest_was_pruned(ledger: Ledger, store: MemoryStorage) -> None:
    for run_id in ("r1", "r2", "r3"):
        commit(ledger, run_id)
    store.delete("manifests/r1.json")
    assert chain(ledger) == ["r3", "r2"]


def test_a_manifest_is_found_by_its_key_and_by_its_run(ledger: Ledger) -> None:
    commit(ledger, "r1")
    commit(ledger, "r2")
    assert ledger.manifest("r1") == ledger.manifest("manifests/r1.json") == run("r1")
    for missing in ("r9", "manifests/r9.json"):
        with pytest.raises(ObjectMissing, match="r9"):
            ledger.manifest(missing)


def test_a_run_is_found_as_it_was_committed_not_as_it_was_tried(ledger: Ledger, store: MemoryStorage) -> None:
    base = commit(ledger, "base")
    commit(ledger, "winner")
    committed = ledger.commit(run("late", 9, base, name="u"), base)
    assert committed.key == "manifests/late.r1.json"
    assert ledger.manifest("late") == committed.manifest != ledger.manifest("manifests/late.json")
    put(store, "manifests/orphan.json", encode(run("orphan")))
    with pytest.raises(ObjectMissing):
        ledger.manifest("orphan")


def test_a_manifest_that_is_not_the_one_head_means_is_refused(ledger: Ledger, store: MemoryStorage) -> None:
    commit(ledger, "r1")
    put(store, "manifests/r1.json", encode(run("r1", moment=2)))
    with pytest.raises(StateUnreadable, match="SHA-256"):
        ledger.current()


def test_a_missing_manifest_is_refused_and_nothing_written_over(ledger: Ledger, store: MemoryStorage) -> None:
    commit(ledger, "r1")
    store.delete("manifests/r1.json")
    before = store.get("head.json")
    with pytest.raises(StateUnreadable, match=r"manifests/r1\.json.*head names it"):
        ledger.current()
    with pytest.raises(StateUnreadable):
        ledger.commit(run("r2"), None)
    assert store.get("head.json") == before


def test_a_manifest_pruned_between_two_reads_is_no_damage(ledger: Ledger, store: MemoryStorage) -> None:
    """A reader reads head; another run commits and prunes; the reader asks for what is no more."""
    commit(ledger, "r1")
    other = quick_ledger(store)

    def commit_and_prune() -> None:
        commit(other, "r2")
        store.delete("manifests/r1.json")

    plan = Plan(store)
    plan.at("get", "head.json", "after", commit_and_prune)
    current = ledger.current()
    assert current is not None and current.manifest.run_id == "r2" and plan.spent


# Committing


def test_the_manifest_is_there_before_head_names_it(ledger: Ledger, store: MemoryStorage) -> None:
    puts: list[str] = []
    store.faults = lambda operation, key, moment: puts.append(key) if (operation, moment) == ("put", "after") else None
    commit(ledger, "r1")
    commit(ledger, "r2")
    assert puts == ["manifests/r1.json", "head.json", "manifests/r2.json", "head.json"]


def test_a_manifest_whose_answer_is_lost_is_ours(ledger: Ledger, store: MemoryStorage) -> None:
    plan = Plan(store)
    plan.at("put", "manifests/r1.json", "after", lost)
    assert ledger.commit(run("r1"), None).rebased == 0
    assert chain(ledger) == ["r1"] and plan.spent


def test_a_manifest_that_never_arrived_is_sent_again(ledger: Ledger, store: MemoryStorage) -> None:
    """Both tries of the patient store go unanswered, so that the outcome is unknown, and it was not written."""
    plan = Plan(store)
    plan.at("put", "manifests/r1.json", "before", lost, lost)
    ledger.commit(run("r1"), None)
    assert chain(ledger) == ["r1"] and plan.spent


def test_a_manifest_that_can_not_be_written_leaves_head_alone(ledger: Ledger, store: MemoryStorage) -> None:
    Plan(store).at("put", "manifests/r1.json", "before", *[lost] * 50)
    with pytest.raises(OutcomeUnknown, match=r"manifests/r1\.json"):
        ledger.commit(run("r1"), None)
    assert ledger.current() is None


def test_another_manifest_of_the_same_run_is_not_overwritten(ledger: Ledger, store: MemoryStorage) -> None:
    other = encode(run("r1", moment=7))
    put(store, "manifests/r1.json", other)
    with pytest.raises(StateUnreadable, match="another manifest of the same run_id"):
        ledger.commit(run("r1"), None)
    assert store.get("manifests/r1.json").data == other
    assert ledger.current() is None


@pytest.mark.parametrize("first", [True, False])
def test_a_head_swap_whose_answer_is_lost_is_committed(ledger: Ledger, store: MemoryStorage, first: bool) -> None:
    base = None if first else commit(ledger, "r0")
    plan = Plan(store)
    plan.at("put", "head.json", "after", lost)
    assert ledger.commit(run("r1", 2, base), base).rebased == 0
    assert chain(ledger)[0] == "r1" and plan.spent


@pytest.mark.parametrize("first", [True, False])
def test_a_head_swap_that_never_arrived_is_made_again(ledger: Ledger, store: MemoryStorage, first: bool) -> None:
    base = None if first else commit(ledger, "r0")
    plan = Plan(store)
    plan.at("put", "head.json", "before", lost, lost, lost)
    assert ledger.commit(run("r1", 2, base), base).rebased == 0
    assert chain(ledger)[0] == "r1" and plan.spent


def test_a_lost_answer_after_which_others_committed_is_still_ours(ledger: Ledger, store: MemoryStorage) -> None:
    """Head moved on twice from our commit before we could look."""
    base = commit(ledger, "r0")
    other = quick_ledger(store)

    def go_on_and_lose() -> None:
        commit(other, "r2", 3)
        commit(other, "r3", 4)
        lost()

    plan = Plan(store)
    plan.at("put", "head.json", "after", go_on_and_lose)
    committed = ledger.commit(run("r1", 2, base), base)
    assert (committed.key, committed.rebased) == ("manifests/r1.json", 0)
    assert chain(ledger) == ["r3", "r2", "r1", "r0"] and plan.spent


def test_whether_others_came_on_top_is_learnt_without_reading_the_whole_history(
    ledger: Ledger, store: MemoryStorage
) -> None:
    for number in range(20):
        base = commit(ledger, f"r{number}")
    other = quick_ledger(store)
    commit(other, "winner", 2)
    reads: list[str] = []
    store.faults = lambda operation, key, moment: (
        reads.append(key) if (operation, moment) == ("get", "before") and key.startswith("manifests/r") else None
    )
    ledger.commit(run("late", 3, base, name="u"), base)
    assert reads == []


def test_an_unknown_outcome_is_never_called_a_conflict(ledger: Ledger, store: MemoryStorage) -> None:
    base = commit(ledger, "r0")
    Plan(store).at("put", "head.json", "before", *[lost] * 99)
    with pytest.raises(OutcomeUnknown, match="can't tell if the run was committed"):
        ledger.commit(run("r1", 2, base), base)


def test_a_store_that_is_gone_after_the_swap_leaves_it_unknown(ledger: Ledger, store: MemoryStorage) -> None:
    plan = Plan(store)
    plan.at("put", "head.json", "after", lost)
    plan.at("get", "head.json", "before", *[lost] * 2)
    with pytest.raises(OutcomeUnknown, match="can't tell if the run was committed"):
        ledger.commit(run("r1"), None)
    assert chain(ledger) == ["r1"] and plan.spent


def test_a_run_that_slept_through_anothers_commit_comes_on_top_of_it(ledger: Ledger) -> None:
    base = commit(ledger, "r0")
    ours = run("late", 3, base, name="u")
    winner = commit(ledger, "winner", 2)
    committed = ledger.commit(ours, base)
    assert (committed.key, committed.rebased) == ("manifests/late.r1.json", 1)
    assert committed.manifest.parent == winner.head.manifest
    assert [one.table for one in committed.manifest.tables] == [table("t"), table("u")]
    assert chain(ledger) == ["late", "winner", "r0"]


def test_two_first_runs_at_once_both_land(ledger: Ledger) -> None:
    ledger.commit(run("winner"), None)
    committed = ledger.commit(run("late", 2, name="u"), None)
    assert committed.rebased == 1 and committed.manifest.parent == "manifests/winner.json"
    assert chain(ledger) == ["late", "winner"]


def test_what_was_not_tried_is_left_to_the_winner(ledger: Ledger) -> None:
    base = commit(ledger, "r0")
    commit(ledger, "winner", 2)
    committed = ledger.commit(run("late", 3, base), base, lambda name: name != table("t"))
    assert [one.objects[0].key for one in committed.manifest.tables] == ["t/winner"]


@pytest.mark.parametrize(("winners", "lands"), [(MAX_REBASES, True), (MAX_REBASES + 1, False)])
def test_it_gives_way_so_often_and_no_more(ledger: Ledger, store: MemoryStorage, winners: int, lands: bool) -> None:
    base = commit(ledger, "r0")
    other = quick_ledger(store)
    plan = Plan(store)

    def forestall(number: int) -> Callable[[], object]:
        return lambda: commit(other, f"w{number}", number + 2)

    # Our own put comes first; a winner's put, made within it, must pass.
    plan.at("put", "head.json", "before", *[act for n in range(winners) for act in (forestall(n), nothing)])
    ours = run("late", 50, base, name="u")
    if lands:
        committed = ledger.commit(ours, base)
        assert (committed.key, committed.rebased) == (f"manifests/late.r{winners}.json", winners)
        assert chain(ledger)[0] == "late"
    else:
        with pytest.raises(Conflict, match="another run committed first"):
            ledger.commit(ours, base)
        assert "late" not in chain(ledger)
    assert len(chain(ledger)) == winners + 1 + lands


@pytest.mark.parametrize("what", ["database", "destination"])
def test_what_can_not_stand_in_one_manifest_is_a_conflict(ledger: Ledger, store: MemoryStorage, what: str) -> None:
    base = commit(ledger, "r0")
    commit(ledger, "winner", 2)
    ours = run("late", 3, base)
    parts = {field: getattr(ours, field) for field in ours.__struct_fields__}
    if what == "destination":
        parts["destination"] = "s3://elsewhere/cases"
    else:
        parts["source"] = type(ours.source)(
            dialect="postgresql", database="other", system_identifier="7", server_version="18.0", snapshot=point(3)
        )
    with pytest.raises(Conflict, match=f"another {what}"):
        ledger.commit(Manifest(**parts), base)
    assert chain(ledger) == ["winner", "r0"]


def test_a_head_that_vanished_is_not_recreated(ledger: Ledger, store: MemoryStorage) -> None:
    base = commit(ledger, "r0")
    store.delete("head.json")
    with pytest.raises(StateUnreadable, match="vanished"):
        ledger.commit(run("r1", 2, base), base)
    assert ledger.current() is None


# A store without conditional writes


class Heedless(MemoryStorage):
    """A store that ignores conditions, as some do."""

    def check(self) -> None:
        raise NoConditionalWrites("check", on=self.url)

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        return super().put(key, body)


def test_a_store_that_ignores_conditions_is_refused_unless_that_is_accepted() -> None:
    with pytest.raises(NoConditionalWrites):
        quick_ledger(Heedless()).check()
    quick_ledger(Heedless(), unconditional=True).check()


def test_without_conditions_a_run_still_sees_that_another_committed() -> None:
    store = Heedless()
    ledger = quick_ledger(store, unconditional=True)
    base = commit(ledger, "r0")
    commit(ledger, "winner", 2)
    assert ledger.commit(run("late", 3, base, name="u"), base).rebased == 1
    assert chain(ledger) == ["late", "winner", "r0"]
    assert [ledger.claim(run_id, NOW).timestamp[-4:] for run_id in ("a", "b")] == ["001Z", "002Z"]
    with pytest.raises(StateUnreadable, match="another manifest of the same run_id"):
        ledger.commit(run("winner", 9), None)


def test_without_conditions_a_lost_answer_is_unknown_too() -> None:
    store = Heedless()
    ledger = quick_ledger(store, unconditional=True)
    plan = Plan(store)
    plan.at("put", "head.json", "after", lost, lost)
    ledger.commit(run("r1"), None)
    assert chain(ledger) == ["r1"] and plan.spent


# Whose state it is


def identity(**changes: str) -> SourceIdentity:
    parts = {"dialect": "postgresql", "system_identifier": "7100000000000000001", "database": "cases"}
    return SourceIdentity(**{**parts, "server_version": "18.1", **changes})


def test_the_same_database_may_go_on_whatever_its_version(ledger: Ledger) -> None:
    current = commit(ledger, "r1")
    assert require_same_source(current, identity(), adopt=False) is False
    assert require_same_source(current, identity(), adopt=True) is False


@pytest.mark.parametrize("change", [{"database": "x"}, {"system_identifier": "8"}, {"dialect": "sqlite"}])
def test_another_database_is_refused_unless_it_is_to_be_adopted(ledger: Ledger, change: dict[str, str]) -> None:
    current = commit(ledger, "r1")
    with pytest.raises(SourceMismatch, match="--adopt-source") as caught:
        require_same_source(current, identity(**change), adopt=False)
    assert caught.value.exit_code == 10
    assert require_same_source(current, identity(**change), adopt=True) is True


def test_a_run_that_slept_for_days_commits_nothing(store: MemoryStorage) -> None:
    """Prune may have taken its objects for a dead run's. That holds after a rebase, too."""
    now = MORNING
    ledger = quick_ledger(store, now=lambda: now)
    base = commit(ledger, "r1")
    sleeper = run("r2", 2, base)
    now += timedelta(days=2)
    assert ledger.commit(sleeper, base).key == "manifests/r2.json"
    now += timedelta(seconds=1)
    with pytest.raises(Conflict, match="too late"):
        ledger.commit(run("r3", 3, base), base)
    assert chain(ledger) == ["r2", "r1"]
