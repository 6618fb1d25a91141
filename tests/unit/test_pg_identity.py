"""Which locked relations show that a statement read what the snapshot means."""

from __future__ import annotations

import pytest

from floodmark.source.postgres.identity import ExpectedReads, LockedRelation, oids, replaced_because

TABLE = ExpectedReads(1, toast=frozenset({9}))
PARENT = ExpectedReads(1, below=frozenset({2, 3}), only=False)
PRUNED = ExpectedReads(1, below=frozenset({2, 3}), all_below=False, only=False)
VIEW = ExpectedReads(1, exact=False, only=False)


@pytest.mark.parametrize(
    ("reads", "locked", "before"),
    [
        (TABLE, {1}, set()),
        (TABLE, {1, 9}, set()),
        (TABLE, {1, 5}, {5}),
        (PARENT, {1, 2, 3}, set()),
        (PRUNED, {1, 2}, set()),
        (PRUNED, {1}, set()),
        (VIEW, {1, 7, 8}, set()),
    ],
)
def test_what_was_meant(reads: ExpectedReads, locked: set[int], before: set[int]) -> None:
    assert replaced_because(reads, locked, before) is None


@pytest.mark.parametrize(
    ("reads", "locked", "before", "why"),
    [
        (TABLE, {2}, set(), "another relation"),
        (TABLE, {1, 2}, set(), "read with it"),
        (TABLE, {5}, {5}, "another relation"),
        (TABLE, set(), set(), "another relation"),
        (TABLE, {1, 5}, {1, 5}, "another relation"),
        (PARENT, {1, 2}, set(), "detached"),
        (PARENT, {2, 3}, set(), "another relation"),
        (PARENT, {1, 2, 3, 4}, set(), "read with it"),
        (PRUNED, {1, 4}, set(), "read with it"),
        (VIEW, {7, 8}, set(), "another relation"),
    ],
)
def test_what_was_not_meant(reads: ExpectedReads, locked: set[int], before: set[int], why: str) -> None:
    assert why in str(replaced_because(reads, locked, before))


@pytest.mark.parametrize(
    ("locked", "rewritten"),
    [
        (LockedRelation(1, "r", 5, 5), False),
        (LockedRelation(1, "r", 5, 6), True),
        (LockedRelation(1, "r", 5, None), True),
        (LockedRelation(1, "m", 5, 6), True),
        (LockedRelation(1, "t", 5, 6), True),
        (LockedRelation(1, "p", 0, None), False),
        (LockedRelation(1, "v", 0, None), False),
        (LockedRelation(1, None, None, 6), True),
    ],
)
def test_a_relation_that_the_snapshot_shows_otherwise(locked: LockedRelation, rewritten: bool) -> None:
    assert locked.rewritten is rewritten


def test_toast_tables_hold_no_row_of_their_own() -> None:
    assert oids([LockedRelation(1, "r", 5, 5), LockedRelation(2, "t", 6, 6), LockedRelation(1, "r", 5, 5)]) == {1}
