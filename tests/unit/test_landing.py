"""What a landing zone may hold half of, from the first word of it to the commit that makes an end of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fix_state import dropped, entry, failed_over, manifest, point, quick_ledger, stored
from floodmark.errors import StorageDenied
from floodmark.model import TableName
from floodmark.pipeline.landing import SentTables, latest_sent
from floodmark.state.inflight import begun_tables
from floodmark.state.manifest import Begun
from floodmark.storage.base import Body, Condition
from floodmark.storage.memory import MemoryStorage


class RefusingStorage(MemoryStorage):
    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        raise StorageDenied("put an object", on=key)


A, B, C = (TableName("public", name) for name in "abc")
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_what_is_begun_is_half_until_it_is_whole_and_known_until_it_is_committed() -> None:
    ledger = quick_ledger(MemoryStorage())
    ledger.claim("run-1", NOW)
    first = SentTables((), ledger)
    first.record_begun([A, B, C], "20261124000000Z")
    assert [one.table for one in begun_tables(ledger.in_flight())] == [A, B, C]
    first.record_landed(A, put=True)
    first.record_landed(B, put=False)
    assert [first.sent_since(one) for one in (A, B, C)] == ["whole", "nothing", "half"]
    first.record_landed(TableName("public", "proven"), put=True)
    assert first.sent_since(TableName("public", "proven")) == "nothing"

    ledger.release("run-1")
    second = SentTables(begun_tables(ledger.in_flight()), ledger)
    assert [second.sent_since(one) for one in (A, B, C)] == ["half"] * 3, (
        "what a run did not commit, no one can vouch for"
    )
    second.record_begun([A, C], "20261124000001Z")
    second.record_committed(lambda table: "" if table == C else "20261124000001Z")
    assert ledger.release("run-2", None, second.committed)
    assert [(one.table, one.timestamp) for one in begun_tables(ledger.in_flight())] == [
        (C, "20261124000000Z"),
        (C, "20261124000001Z"),
    ]
    second.record_committed(lambda table: "20261124000001Z")
    assert ledger.release("run-2", None, second.committed) and begun_tables(ledger.in_flight()) == ()


def test_what_is_begun_later_than_what_was_committed_is_still_to_be_made_good() -> None:
    """Another run, alive, took its timestamp after ours: who goes by timestamps has what that one sent."""
    told = [Begun(schema="public", name="a", timestamp=f"2026112400000{second}Z") for second in (0, 1, 2)]
    sent = SentTables(told, None)
    sent.record_committed(lambda table: "20261124000001Z")
    assert sent.committed == tuple(told[:2])


def test_what_a_receiver_was_sent_of_each_table() -> None:
    early, late = (f"data/t/extraction_timestamp=2026112400000{second}Z/t-0" for second in (1, 2))
    tables = [
        entry("kept", point(1), stored(early), stored(late)),
        entry("empty", point(1)),
        dropped(entry("gone", point(1), stored(late))),
        failed_over(entry("failed", point(1), stored(late))),
    ]
    latest = latest_sent(manifest("run", point(1), *tables, timestamp="20261124000003Z"))
    names = ("kept", "empty", "gone", "failed", "never told of")
    sent = [latest(TableName("public", name)) for name in names]
    assert sent == ["20261124000002Z", "20261124000003Z", "20261124000003Z", "", "20261124000003Z"]


def test_what_can_t_be_written_down_may_not_be_sent() -> None:
    ledger = quick_ledger(RefusingStorage())
    sent = SentTables((), ledger)
    with pytest.raises(StorageDenied):
        sent.record_begun([A], "20261124000000Z")
    assert sent.sent_since(A) == "nothing"
