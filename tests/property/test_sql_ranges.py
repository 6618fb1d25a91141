"""Ranges of a key: every row is in exactly one, and a change in one place does not move the boundaries elsewhere."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, column
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import NullType

from floodmark.source.sql.facts import KeyColumn
from floodmark.source.sql.ranges import conditions, cut_by_hash, grid, rows_in_range

PER_RANGE = st.sampled_from([1, 2, 4, 16])
KEYS = st.sets(st.tuples(st.sampled_from(["a", "B", "b", "", "é"]), st.integers(-3, 9)), min_size=1, max_size=60)


def ordered(keys: set[tuple[str, int]], descending: tuple[bool, bool]) -> list[tuple[str, int]]:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a, b)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", keys)
        order = ", ".join(f"{name}{' DESC' if down else ''}" for name, down in zip("ab", descending, strict=True))
        return connection.execute(f"SELECT a, b FROM t ORDER BY {order}").fetchall()


def bind(key: KeyColumn, value: Any) -> Any:
    return bindparam(None, value, type_=NullType())


@given(KEYS, st.tuples(st.booleans(), st.booleans()), PER_RANGE)
@settings(max_examples=150, deadline=None)
def test_each_row_is_in_its_own_range_only(
    keys: set[tuple[str, int]], descending: tuple[bool, bool], per_range: int
) -> None:
    rows = ordered(keys, descending)
    division = cut_by_hash(rows, per_range)
    columns = [(column(name), KeyColumn(name, descending=down)) for name, down in zip("ab", descending, strict=True)]
    found: list[list[tuple[str, int]]] = []
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a, b)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        for condition in conditions(columns, division.bounds, bind):
            told = condition.compile(dialect=sqlite.dialect(paramstyle="named"))
            found.append(connection.execute(f"SELECT a, b FROM t WHERE {told}", told.params).fetchall())
    if division.bounds:
        assert [row for some in found for row in some] == rows
        assert [len(some) for some in found] == list(division.rows)
    else:
        assert found == [] and division.rows == (len(rows),)


@given(
    st.lists(st.integers(-(10**6), 10**6), unique=True, min_size=2, max_size=300),
    st.integers(-(10**6), 10**6),
    PER_RANGE,
)
@settings(max_examples=150, deadline=None)
def test_another_key_moves_no_boundary_far_from_it(keys: list[int], more: int, per_range: int) -> None:
    before = {bound[0] for bound in cut_by_hash([(key,) for key in sorted(keys)], per_range).bounds}
    after = {bound[0] for bound in cut_by_hash([(key,) for key in sorted({*keys, more})], per_range).bounds}
    assert {bound for bound in before if bound < more} == {bound for bound in after if bound < more}
    moved = sorted(key for key in before ^ after if key > more)
    between = [key for key in sorted(keys) if moved and more < key <= moved[-1]]
    assert len(between) <= 24 * per_range, "the boundaries meet again"


@given(st.sets(st.integers(-500, 500), min_size=1), PER_RANGE)
@settings(max_examples=150, deadline=None)
@example({-1, 0}, 1)
@example(set(range(-300, 600, 3)), 2)
def test_a_grid_covers_every_key_with_fixed_steps(keys: set[int], per_range: int) -> None:
    division = grid(min(keys), max(keys), len(keys), per_range)
    if division is None:
        assert max(keys) - min(keys) + 1 > 8 * len(keys)
        return
    bounds = [bound for (bound,) in division.bounds]
    assert all(min(keys) < bound <= max(keys) for bound in bounds)
    steps = {end - first for first, end in pairwise(bounds)}
    assert len(steps) <= 1
    if steps:
        (step,) = steps
        assert step & (step - 1) == 0 and all(bound % step == 0 for bound in bounds)
        assert step <= 8 * max(1, per_range)


def test_the_rows_of_a_range_are_a_power_of_two() -> None:
    assert [rows_in_range(1000, size, 4096) for size in (1, 8000, 8300, 100_000, 10**9)] == [4096, 512, 512, 32, 1]
    assert rows_in_range(0, 0, 4096) == 4096
