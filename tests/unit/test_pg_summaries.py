"""Which WAL summaries must exist, and what a checkpoint tells, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.model import WalBase
from floodmark.source.postgres.summaries import (
    Checkpoint,
    WalEnd,
    WalSummary,
    covering,
    lsn_position,
    lsn_text,
    parse_checkpoint,
)

ONE = [WalSummary(1, 100, 200), WalSummary(1, 200, 300), WalSummary(1, 300, 400)]


def base(position: int, timeline: int = 1) -> WalBase:
    return WalBase(timeline, lsn_text(position), 700)


@given(st.integers(0, 2**64 - 1))
def test_a_position_is_text_and_a_number(position: int) -> None:
    assert lsn_position(lsn_text(position)) == position


@pytest.mark.parametrize("text", ["16/B374D848", "0/16B3748", "0/016B3748"])
def test_a_position_of_any_version(text: str) -> None:
    high, low = text.split("/")
    assert lsn_position(text) == int(high, 16) * 2**32 + int(low, 16)


@pytest.mark.parametrize(
    ("summaries", "start", "end", "expected"),
    [
        (ONE, 100, 400, ("complete", 3)),
        (ONE, 150, 250, ("complete", 2)),
        (ONE, 100, 401, ("pending", 0)),
        (ONE, 99, 400, ("broken", 0)),
        ([ONE[0], ONE[2]], 100, 400, ("broken", 0)),
        ([ONE[0], WalSummary(1, 150, 350), ONE[2]], 100, 400, ("complete", 3)),
        ([ONE[0], WalSummary(1, 199, 400), ONE[1]], 100, 400, ("complete", 2)),
        ([ONE[0], WalSummary(2, 200, 300), ONE[2]], 100, 400, ("broken", 0)),
        ([ONE[0], WalSummary(1, 201, 400)], 100, 400, ("broken", 0)),
        ([], 100, 400, ("pending", 0)),
        ([], 400, 400, ("complete", 0)),
        (ONE, 500, 400, ("complete", 0)),
    ],
)
def test_summaries_cover_the_wal_without_a_gap(
    summaries: list[WalSummary], start: int, end: int, expected: tuple[str, int]
) -> None:
    coverage, found = covering(summaries, base(start), end)
    assert (coverage, len(found)) == expected


def test_summaries_of_another_timeline_cover_nothing() -> None:
    assert covering(ONE, base(100, timeline=2), 400)[0] == "pending"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10))), st.integers(0, 20), st.integers(0, 40))
def test_what_is_complete_covers_each_position(cuts: list[tuple[int, int]], start: int, end: int) -> None:
    summaries = [WalSummary(1, begin, begin + length) for begin, length in cuts]
    coverage, found = covering(summaries, base(start), end)
    covered = {position for one in found for position in range(one.start, one.end)}
    there = {position for one in summaries for position in range(one.start, one.end)}
    assert (coverage == "complete") == (set(range(start, end)) <= there)
    assert coverage != "complete" or set(range(start, end)) <= covered


def test_a_checkpoint_tells_ids_of_64_bits() -> None:
    assert parse_checkpoint(1, "0/64", "0:740", "738") == Checkpoint(1, 100, 740, 738)
    assert parse_checkpoint(3, "1/0", "7:5", "4294967290") == Checkpoint(3, 2**32, (7 << 32) + 5, (7 << 32) - 6)
    assert parse_checkpoint(1, "0/64", "2:9", "9").oldest_active == (2 << 32) + 9
    assert parse_checkpoint(1, "0/64", "0:740", "0").oldest_active is None  # made while the server stopped
    assert parse_checkpoint(1, "0/64", "0:740", "738").base == WalBase(1, "0/64", 740)


@pytest.mark.parametrize(
    ("xmax", "active", "unseen", "expected"),
    [
        (738, 738, False, 100),  # all that the snapshot shows had ended before the checkpoint
        (700, 738, False, 100),
        (739, 738, False, 500),  # somebody ended who was active then, or began later
        (738, None, False, 500),
        (738, 738, True, 500),  # somebody can write without an id
    ],
)
def test_how_far_the_wal_matters(xmax: int, active: int | None, unseen: bool, expected: int) -> None:
    assert WalEnd(xmax, 500, unseen).position(Checkpoint(1, 100, 740, active)) == expected


def test_a_checkpoint_after_the_snapshot_matters_no_further_than_the_snapshot() -> None:
    assert WalEnd(700, 500, False).position(Checkpoint(1, 900, 740, 740)) == 500
