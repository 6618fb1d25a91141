"""The list of runs in flight: timestamps that are one's own, lost answers, other writers, and damage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from fix_state import Plan, lost, no_wait, nothing, put, quick_ledger, run
from floodmark.errors import Conflict, StateUnreadable
from floodmark.events import ignore_event
from floodmark.model import Ended
from floodmark.retrying import Patience
from floodmark.state.inflight import MOST_UNCOMMITTED, record_with
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Inflight, Record, Working, decode, encode
from floodmark.state.run_list import known_runs
from floodmark.storage.memory import MemoryStorage
from floodmark.storage.retry import RetryingStorage

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStorage:
    return MemoryStorage("memory:state")


@pytest.fixture
def ledger(store: MemoryStorage) -> Ledger:
    return quick_ledger(store)


def listed(store: MemoryStorage) -> Inflight:
    return decode(Inflight, store.get("inflight.json").data, "inflight.json")


def test_a_claim_enters_the_run_with_the_time_it_is(ledger: Ledger, store: MemoryStorage) -> None:
    working = ledger.claim("r1", NOW)
    assert working == Working(
        run_id="r1", timestamp="20261123010000Z", progress="progress/r1.json", started_at="2026-11-23T01:00:00Z"
    )
    assert listed(store).runs == (working,)


def test_no_two_runs_get_the_same_timestamp(ledger: Ledger) -> None:
    """Not even when the first has failed and left, with its objects at the destination."""
    first = ledger.claim("r1", NOW)
    second = ledger.claim("r2", NOW - timedelta(hours=1))
    assert ledger.release("r1") and ledger.release("r2")
    third = ledger.claim("r3", NOW)
    again = ledger.claim("r3", NOW)
    stamps = [one.timestamp for one in (first, second, third, again)]
    assert stamps == ["20261123010000Z", "20261123010001Z", "20261123010002Z", "20261123010003Z"]


def test_a_timestamp_is_later_than_heads(ledger: Ledger, store: MemoryStorage) -> None:
    ledger.commit(run("r1"), None)
    assert ledger.claim("r2", NOW - timedelta(days=1)).timestamp == "20261123010001Z"


def test_a_run_that_claims_again_is_listed_once(ledger: Ledger, store: MemoryStorage) -> None:
    ledger.claim("r1", NOW)
    again = ledger.claim("r1", NOW + timedelta(minutes=5))
    assert listed(store).runs == (again,)


def test_dead_runs_are_forgotten_and_live_ones_are_not(ledger: Ledger, store: MemoryStorage) -> None:
    for run_id, age in [("dead", timedelta(days=2, seconds=1)), ("alive", timedelta(days=1, hours=23))]:
        ledger.claim(run_id, NOW - age)
    ledger.claim("r1", NOW)
    assert [one.run_id for one in listed(store).runs] == ["alive", "r1"]


def test_release_takes_out_ones_own_entry_alone(ledger: Ledger, store: MemoryStorage) -> None:
    ledger.claim("r1", NOW)
    second = ledger.claim("r2", NOW)
    assert ledger.release("r1")
    assert listed(store) == Inflight(latest=second.timestamp, runs=(second,))
    assert ledger.release("never-claimed")


def test_a_failing_release_is_told_not_raised(ledger: Ledger, store: MemoryStorage) -> None:
    ledger.claim("r1", NOW)
    Plan(store).at("get", "inflight.json", "before", *[lost] * 9)
    assert not ledger.release("r1")


def test_a_claim_whose_answer_is_lost_holds(ledger: Ledger, store: MemoryStorage) -> None:
    plan = Plan(store)
    plan.at("put", "inflight.json", "after", lost)
    working = ledger.claim("r1", NOW)
    assert listed(store).runs == (working,) and plan.spent
    assert working.timestamp == "20261123010000Z", "one claim, not two"


def test_two_who_claim_at_once_both_get_in(ledger: Ledger, store: MemoryStorage) -> None:
    other = quick_ledger(store)
    plan = Plan(store)
    plan.at("put", "inflight.json", "before", lambda: other.claim("r2", NOW))
    first = ledger.claim("r1", NOW)
    assert [one.run_id for one in listed(store).runs] == ["r2", "r1"] and plan.spent
    assert first.timestamp == "20261123010001Z"


def test_an_end_is_counted_once_although_its_answer_is_lost_and_another_run_ends(
    ledger: Ledger, store: MemoryStorage
) -> None:
    for run_id in ("r1", "r2"):
        ledger.claim(run_id, NOW)

    def another_ends_and_lose() -> None:
        assert ledger.release("r2", ended("r2"))
        lost()

    plan = Plan(store)
    plan.at("put", "inflight.json", "after", another_ends_and_lose)
    assert quick_ledger(store, tries=1).release("r1", ended("r1")) and plan.spent
    record = listed(store).ended
    assert isinstance(record, Record)
    assert (record.last.run_id, record.success, record.uploaded_bytes) == ("r2", 2, 10)
    assert listed(store).runs == ()


def ended(run_id: str) -> Ended:
    return Ended(
        run_id=run_id,
        database="cases",
        started_at="2026-11-23T01:00:00Z",
        ended_at="2026-11-23T01:02:00Z",
        outcome="success",
        exit_code=0,
        retries=0,
        audited_chunks=0,
        audit_mismatches=0,
        uploaded_bytes=5,
    )


def test_a_claim_that_others_always_forestall_ends_in_a_conflict(store: MemoryStorage) -> None:
    waits: list[float] = []
    ledger = Ledger(RetryingStorage(store, ignore_event, Patience(tries=1), no_wait), sleep=waits.append)
    other = quick_ledger(MemoryStorage())

    def forestall() -> None:
        other.claim("other", NOW)
        put(store, "inflight.json", encode(Inflight(latest=other.claim("other", NOW).timestamp)))

    Plan(store).at("put", "inflight.json", "before", *[part for _ in range(30) for part in (forestall, nothing)])
    with pytest.raises(Conflict):
        ledger.claim("r1", NOW)
    assert len(waits) == 19 and max(waits) <= 3.2, "one wait between two tries, and none after the last"


@pytest.mark.parametrize("key", ["head.json", "inflight.json"])
@pytest.mark.parametrize("data", [b"", b"garbage", b'{"format":"floodmark.head","version":2}'])
def test_what_is_unreadable_stops_the_run_and_stays(
    ledger: Ledger, store: MemoryStorage, key: str, data: bytes
) -> None:
    put(store, key, data)
    with pytest.raises(StateUnreadable, match=key):
        ledger.claim("r1", NOW)
    assert ledger.release("r1") is (key == "head.json")
    assert store.get(key).data == data


@pytest.mark.parametrize(
    "inflight",
    [
        Inflight(latest="99999999999999Z"),
        Inflight(runs=(Working(run_id="r", timestamp="soon", progress="p", started_at="2026-11-23T01:00:00Z"),)),
        Inflight(runs=(Working(run_id="r", timestamp="20261123010000Z", progress="p", started_at="early"),)),
        Inflight(runs=(Working(run_id="r", timestamp="20261123010000Z", progress="p", started_at="2026-11-23"),)),
    ],
)
def test_a_time_that_is_none_makes_the_list_unreadable(
    ledger: Ledger, store: MemoryStorage, inflight: Inflight
) -> None:
    put(store, "inflight.json", encode(inflight))
    with pytest.raises(StateUnreadable, match=r"inflight\.json"):
        ledger.claim("r1", NOW)


def ended_as(outcome: str, number: int) -> Ended:
    moment = (NOW + timedelta(minutes=number)).isoformat()
    return Ended(
        run_id=f"r{number}", database="cases", started_at=moment, ended_at=moment, outcome=outcome, exit_code=0
    )


def test_the_record_names_the_last_runs_that_committed_nothing(ledger: Ledger, store: MemoryStorage) -> None:
    outcomes = ["failed", "success", "stopped", "partial"]
    record = record_with(UNSET, ended_as("failed", 0))
    for number in range(1, 4 * MOST_UNCOMMITTED):
        record = record_with(record, ended_as(outcomes[number % 4], number))
    assert record.uncommitted is not UNSET and len(record.uncommitted) == MOST_UNCOMMITTED
    assert {one.outcome for one in record.uncommitted} == {"failed", "stopped"}
    assert record.uncommitted[-1].run_id == "r398" and record.last.run_id == "r399"
    assert record_with(UNSET, ended_as("success", 1)).uncommitted is UNSET
    assert {*record.known_ends} == {*(one.run_id for one in record.uncommitted), "r399"}


def test_all_runs_are_listed_whatever_their_end(ledger: Ledger, store: MemoryStorage) -> None:
    ledger.commit(replace(run("committed"), finished_at="2026-11-23T01:05:00Z"), None)
    ledger.claim("killed", NOW)
    ledger.claim("kept", NOW)
    for outcome, number in (("failed", 10), ("stopped", 1)):
        assert ledger.note(ended_as(outcome, number))
    assert ledger.note(replace(ended_as("stopped", 20), run_id="kept"))  # it stays in the list for its progress
    assert [one.run_id for one in known_runs(ledger)] == ["kept", "r10", "committed", "r1", "killed"]
    assert [one.run_id for one in known_runs(ledger, 2)] == ["kept", "r10"]
    assert [one.run_id for one in known_runs(ledger, since=NOW + timedelta(minutes=3))] == ["kept", "r10", "committed"]


def test_a_run_whose_commit_got_no_answer_is_listed_once(ledger: Ledger, store: MemoryStorage) -> None:
    ledger.commit(replace(run("r9"), finished_at=NOW.isoformat()), None)
    assert ledger.note(replace(ended_as("failed", 9), run_id="r9"))
    (only,) = known_runs(ledger)
    assert only.manifest is not None and only.ended is not None
