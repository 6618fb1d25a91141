"""What the guards refuse: shares of tables and of rows, at their limits."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from floodmark.config import Guards
from floodmark.errors import LossRefused
from floodmark.model import Chunk, ChunkMark, Fingerprint, ObjectEntry, Point, TableName
from floodmark.observed import Observation, Part, TableInfo
from floodmark.pipeline.losses import FEWEST_ROWS, Gone, refused_rows, refused_tables, rows_if_known
from floodmark.pipeline.plans import ChunkPlan, TablePlan
from floodmark.pipeline.remembered import RememberedChunk


def tables(number: int, first: int = 0) -> list[TableName]:
    return [TableName("public", f"t{first + n:03}") for n in range(number)]


@pytest.mark.parametrize(
    ("left", "gone", "limit", "refused"),
    [
        (1, 1, 50, False),
        (1, 2, 50, True),
        (2, 2, 50, False),
        (50, 51, 50, True),
        (0, 1, 50, True),
        (9, 1, 10, False),
        (9, 1, 9, True),
        (99, 1, 0, True),
        (1, 99, 100, False),
        (1, 99, None, False),
    ],
)
def test_a_share_of_the_tables_must_be_exceeded(left: int, gone: int, limit: int | None, refused: bool) -> None:
    stay, lost = tables(left), tables(gone, 500)
    new = tables(1, 900)  # a new table neither helps nor harms
    verdict = refused_tables(Guards(tables_gone=limit), [*stay, *new], dict.fromkeys(lost, Gone("")), [*stay, *lost])
    assert (verdict is not None) is refused


def test_the_refusal_says_which_tables_how_many_the_setting_and_the_flag() -> None:
    lost = tables(12, 500)
    verdict = refused_tables(Guards(), tables(3), dict.fromkeys(lost, Gone("")), [*tables(3), *lost])
    assert verdict is not None and verdict.exit_code == 15
    assert verdict.on == "12 of 15 tables are gone from the source (guards.tables_gone: 50%)"
    assert verdict.why is not None and verdict.why.startswith("public.t500, ")
    assert verdict.why.endswith("t509 and 2 more")
    assert "--accept-loss" in (verdict.hint or "")


@pytest.mark.parametrize(("dropped", "refused"), [(0, False), (5, False), (6, True)])
def test_a_table_that_became_a_partition_is_a_table_that_stays(dropped: int, refused: bool) -> None:
    attached, lost = tables(4), tables(dropped, 500)
    gone = {**dict.fromkeys(attached, Gone("", attached=True)), **dict.fromkeys(lost, Gone(""))}
    verdict = refused_tables(Guards(), tables(1, 900), gone, [*tables(1, 900), *attached, *lost])
    assert (verdict is not None) is refused
    assert verdict is None or ("6 of 11 tables" in (verdict.on or "") and "t000" not in (verdict.why or ""))


@pytest.mark.parametrize(
    ("guards", "known", "refused"),
    [
        (Guards(), None, True),
        (Guards(first_run_empty="accept"), None, False),
        (Guards(tables_gone=None), None, True),
        (Guards(), tables(5), True),  # all are left out by the configuration, and would leave the manifest
        (Guards(tables_gone=None), tables(5), False),
        (Guards(first_run_empty="accept"), tables(5), True),
        (Guards(), [], True),  # accepted once, as a first run: that was for that run
        (Guards(first_run_empty="accept"), [], False),
    ],
)
def test_a_run_without_any_table(guards: Guards, known: list[TableName] | None, refused: bool) -> None:
    verdict = refused_tables(guards, [], {}, known)
    assert (verdict is not None) is refused
    if verdict is not None:
        assert "no table is selected" in verdict.sentence and "--accept-loss" in (verdict.hint or "")


def rows_lost(before: list[int], after: list[int], limit: int | None = 90) -> LossRefused | None:
    names = tables(max(len(before), len(after)))
    return refused_rows(
        Guards(rows_removed=limit), dict(zip(names, before, strict=False)), dict(zip(names, after, strict=False))
    )


@pytest.mark.parametrize(
    ("before", "after", "limit", "refused"),
    [
        ([1000], [100], 90, False),
        ([1000], [99], 90, True),
        ([FEWEST_ROWS], [0], 90, True),
        ([FEWEST_ROWS - 1], [0], 90, False),
        ([500, 500], [0, 500], 90, False),
        ([500, 500], [0], 90, True),  # the second one is gone
        ([500, 500], [0, 0, 1000], 90, False),  # the third one is new
        ([1000], [2000], 0, False),
        ([1000], [999], 0, True),
        ([1000], [0], None, False),
        ([1000], [0], 100, False),
        ([], [0], 90, False),
    ],
)
def test_a_share_of_all_rows_must_be_exceeded(
    before: list[int], after: list[int], limit: int | None, refused: bool
) -> None:
    assert (rows_lost(before, after, limit) is not None) is refused


def test_the_refusal_of_rows_begins_with_the_greatest_loss() -> None:
    verdict = rows_lost([10, 5000, 7], [1, 0, 7])
    assert verdict is not None and verdict.exit_code == 15
    assert verdict.why == "public.t001 (5,000 to 0), public.t000 (10 to 1)"
    assert verdict.on == "5,009 of 5,017 rows are gone (guards.rows_removed: 90%)"


CHUNK, POINT, PRINT = Chunk("1", 0), Point("t"), Fingerprint("s", "c", 1)
OBJECT = ObjectEntry("k", 40, 1, 1, "a", "b", CHUNK, "extracted")
PART = Part("1", TableName("public", "t"), 7, 3, 24576, True)


def known(stored: ObjectEntry | None) -> RememberedChunk:
    return RememberedChunk(ChunkMark(CHUNK, 7, 50, 0, None), POINT, 1, PRINT, stored)


@pytest.mark.parametrize(
    ("part", "remembered", "proven", "rows"),
    [
        (PART, known(OBJECT), True, 40),  # those that a filter let pass
        (PART, known(None), True, 0),
        (PART, None, True, 0),  # new blocks without a row
        (PART, known(OBJECT), False, None),
        (replace(PART, heap_blocks=0), known(OBJECT), False, 0),
        (replace(PART, heap_blocks=0, measured=False), None, False, None),
        (replace(PART, heap_blocks=0, by_block=False), None, False, None),  # a foreign table
    ],
)
def test_rows_that_are_known_before_anything_is_read(
    part: Part, remembered: RememberedChunk | None, proven: bool, rows: int | None
) -> None:
    seen = Observation(0, 0, 0, 7) if proven else None
    chunk = ChunkPlan(part, CHUNK, True, remembered=remembered, proven=seen)
    info = TableInfo(table=part.table, oid=1, kind="table", columns=(), parts=(part,), fingerprint=PRINT)
    assert rows_if_known(TablePlan(info, (chunk,))) == rows
    assert rows_if_known(TablePlan(info, (chunk, chunk))) == (None if rows is None else 2 * rows)
    assert rows_if_known(TablePlan(info, ())) == 0
