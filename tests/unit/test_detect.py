"""The proof, step by step, without a database: every doubt must lead to an extraction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from floodmark.detect import (
    MAX_XID_GAP,
    MIN_CHUNK_BLOCKS,
    Policy,
    Remembered,
    RememberedChunk,
    TablePlan,
    assess,
    remember,
    settle,
    without_objects,
)
from floodmark.model import (
    Chunk,
    ChunkMark,
    Column,
    Fingerprint,
    Lineage,
    ObjectEntry,
    Observation,
    Part,
    Point,
    Reason,
    TableEntry,
    TableInfo,
    TableName,
    Watermark,
)

NAME = TableName("public", "person")
LINEAGE = Lineage("7001", 5, "731", "2026-11-01 00:00:00+00", "2026-11-01 00:00:00+00", False)
THEN = Point("2026-11-01T01:00:00Z", 1000, 1010, LINEAGE)
NOW = Point("2026-11-02T01:00:00Z", 2000, 2020, LINEAGE)
PRINT = Fingerprint("schema", "config")
PART = Part("16500", NAME, relfilenode=42, heap_blocks=20, total_bytes=20 * 8192, by_block=True)
INFO = TableInfo(
    table=NAME,
    oid=16500,
    kind="table",
    columns=(Column("id", "bigint", False),),
    parts=(PART,),
    fingerprint=PRINT,
)
CHUNKS = (Chunk("16500", 0, 10), Chunk("16500", 10, 20))
POLICY = Policy(chunk_bytes=10 * 8192)


def stored(chunk: Chunk, key: str) -> ObjectEntry:
    return ObjectEntry(key, 7, 70, 35, "5" * 64, key[0] * 64, chunk, "extracted")


def entry() -> TableEntry:
    objects = (stored(CHUNKS[0], "a"), stored(CHUNKS[1], "b"))
    marks = tuple(ChunkMark(chunk, 42, 7, 0, index) for index, chunk in enumerate(CHUNKS))
    return TableEntry(
        schema="public",
        name="person",
        status="extracted",
        reason=Reason("first_run", ""),
        columns=INFO.columns,
        fingerprint=PRINT,
        watermark=Watermark(THEN, 16500, marks),
        checksum="sha256:00",
        rows=14,
        objects=objects,
    )


def codes(plan: TablePlan) -> list[str | None]:
    return [chunk.reason.code if chunk.reason else None for chunk in plan.chunks]


def settled(*answers: Observation, info: TableInfo = INFO, policy: Policy = POLICY) -> TablePlan:
    return settle(assess(info, remember(entry()), policy, NOW), answers, policy)


SAME = Observation(rows=7, young=0, frozen=0, relfilenode=42)


def test_the_questions_ask_for_rows_since_the_remembered_xmin() -> None:
    plan = assess(INFO, remember(entry()), POLICY, NOW)
    assert [(q.chunk, q.open, q.since) for q in plan.questions] == [(CHUNKS[0], False, 1000), (CHUNKS[1], True, 1000)]


def test_same_count_and_no_young_row_is_a_proof() -> None:
    plan = settled(SAME, SAME)
    assert codes(plan) == [None, None]
    assert [chunk.proven for chunk in plan.chunks] == [SAME, SAME]
    assert plan.reason.code == "unchanged"


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (replace(SAME, young=1), "rows_changed"),
        (replace(SAME, rows=6), "rows_removed"),
        (replace(SAME, rows=8), "rows_changed"),
        (replace(SAME, frozen=1), "rows_changed"),
        (replace(SAME, relfilenode=43), "rewritten"),
        (replace(SAME, rows=6, young=1), "rows_changed"),
    ],
)
def test_whatever_else_is_seen_is_none(seen: Observation, code: str) -> None:
    plan = settled(SAME, seen)
    assert codes(plan) == [None, code]
    assert plan.chunks[1].proven is None
    assert plan.reason.code == code


@pytest.mark.parametrize("field", Lineage.__struct_fields__)
def test_any_part_of_the_lineage_that_differs_is_a_doubt(field: str) -> None:
    was = getattr(LINEAGE, field)
    other = (not was) if isinstance(was, bool) else was + 1 if isinstance(was, int) else "other"
    point = replace(NOW, lineage=replace(LINEAGE, **{field: other}))
    assert codes(assess(INFO, remember(entry()), POLICY, point)) == ["lineage_changed"] * 2


@pytest.mark.parametrize(
    "point",
    [
        replace(NOW, xmin=999),
        replace(NOW, xmax=1009),
        replace(NOW, xmin=1000 + MAX_XID_GAP - 5, xmax=1000 + MAX_XID_GAP),
        replace(NOW, lineage=None),
        replace(NOW, xmin=None),
    ],
)
def test_transaction_ids_that_do_not_compare_are_a_doubt(point: Point) -> None:
    assert codes(assess(INFO, remember(entry()), POLICY, point)) == ["lineage_changed"] * 2


def test_the_widest_gap_that_still_compares() -> None:
    point = replace(NOW, xmin=1000 + MAX_XID_GAP - 5, xmax=1000 + MAX_XID_GAP - 1)
    assert codes(assess(INFO, remember(entry()), POLICY, point)) == [None, None]


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (replace(INFO, oid=16501), "lineage_changed"),
        (replace(INFO, fingerprint=Fingerprint("other", "config")), "schema_changed"),
        (replace(INFO, fingerprint=Fingerprint("schema", "other")), "config_changed"),
        (replace(INFO, parts=(replace(PART, relfilenode=43),)), "rewritten"),
        (replace(INFO, parts=(replace(PART, no_proof="because"),)), "no_proof"),
        (replace(INFO, parts=(replace(PART, id="16777"),)), "rows_changed"),
    ],
)
def test_a_table_that_is_not_what_it_was(info: TableInfo, code: str) -> None:
    assert set(codes(assess(info, remember(entry()), POLICY, NOW))) == {code}


@pytest.mark.parametrize(
    ("columns", "config", "detail"),
    [
        (
            (Column("id", "bigint", False), Column("note", "text", True)),
            "config",
            "columns added: note (2 of 2 chunks)",
        ),
        ((Column("id", "integer", False),), "config", "type changed: id (bigint to integer) (2 of 2 chunks)"),
        (INFO.columns, "config", "defined otherwise"),
        ((Column("note", "text", True),), "other", "columns added: note; removed: id"),
    ],
)
def test_a_change_of_definition_names_its_columns(columns: tuple[Column, ...], config: str, detail: str) -> None:
    info = replace(INFO, columns=columns, fingerprint=Fingerprint("other", config))
    reason = assess(info, remember(entry()), POLICY, NOW).reason
    assert reason.code == "schema_changed" and reason.detail.startswith(detail)


def test_what_was_not_provable_then_is_not_proven_now() -> None:
    before = entry()
    assert before.watermark is not None
    marks = tuple(replace(mark, provable=False) for mark in before.watermark.chunks)
    before = replace(before, watermark=replace(before.watermark, chunks=marks))
    assert codes(assess(INFO, remember(before), POLICY, NOW)) == ["no_proof"] * 2


def test_nothing_remembered_full_and_resend() -> None:
    assert codes(assess(INFO, Remembered(), POLICY, NOW)) == ["first_run"] * 2
    assert codes(assess(INFO, remember(entry()), replace(POLICY, full=True), NOW)) == ["forced"] * 2
    assert codes(assess(INFO, remember(entry()), replace(POLICY, resend=True), NOW)) == ["resend"] * 2


def test_an_entry_that_never_was_good_proves_nothing() -> None:
    never = TableEntry(schema="public", name="person", status="failed", reason=Reason("failed", ""))
    assert codes(assess(INFO, remember(never), POLICY, NOW)) == ["first_run"] * 2


def test_a_table_that_grew_keeps_its_chunks_and_gets_new_ones() -> None:
    grown = replace(INFO, parts=(replace(PART, heap_blocks=31, total_bytes=31 * 8192 * 50),))
    plan = assess(grown, remember(entry()), POLICY, NOW)
    assert [chunk.chunk for chunk in plan.chunks] == [*CHUNKS, Chunk("16500", 20, 30), Chunk("16500", 30, 40)]
    assert codes(plan) == [None, None, "rows_changed", "rows_changed"]
    assert [chunk.open for chunk in plan.chunks] == [False, False, False, True]


def test_the_last_chunk_never_swallows_one_that_held_rows() -> None:
    """Else ten rows, all of them of the second chunk, would pass for the ten that the first one held."""
    shrunk = replace(INFO, parts=(replace(PART, heap_blocks=3),))
    plan = assess(shrunk, remember(entry()), POLICY, NOW)
    assert [chunk.chunk for chunk in plan.chunks] == list(CHUNKS)
    assert [chunk.open for chunk in plan.chunks] == [False, True]


def test_chunks_aim_at_a_size_and_have_some_blocks_at_least() -> None:
    wide = replace(PART, heap_blocks=100, total_bytes=100 * 8192 * 1000)
    plan = assess(replace(INFO, parts=(wide,)), Remembered(), POLICY, NOW)
    assert plan.chunks[0].chunk.stop == MIN_CHUNK_BLOCKS
    assert len(assess(replace(INFO, parts=(replace(PART, heap_blocks=0),)), Remembered(), POLICY, NOW).chunks) == 1


def test_where_objects_do_not_stay_a_changed_table_is_extracted_whole() -> None:
    policy = replace(POLICY, objects_stay=False)
    assert codes(settled(SAME, replace(SAME, rows=6), policy=policy)) == ["rows_changed", "rows_removed"]
    assert codes(settled(SAME, SAME, policy=policy)) == [None, None]


def test_chunks_whose_object_is_gone_are_extracted() -> None:
    plan = without_objects(settled(SAME, replace(SAME, young=2)), {"a"})
    assert codes(plan) == ["objects_missing", "rows_changed"]


@given(
    blocks=st.integers(0, 400),
    then=st.integers(0, 400),
    step=st.integers(8, 64),
    rows=st.lists(st.integers(0, 2), max_size=60),
)
def test_chunks_cover_the_table_once_whatever_it_was(blocks: int, then: int, step: int, rows: list[int]) -> None:
    known = {}
    for number, count in enumerate(rows[: -(-then // step)]):
        chunk = Chunk("16500", number * step, (number + 1) * step)
        known[chunk] = RememberedChunk(ChunkMark(chunk, 42, count, 0, None), THEN, 16500, PRINT, None)
    part = replace(PART, heap_blocks=blocks)
    plan = assess(replace(INFO, parts=(part,)), Remembered(entry(), known), Policy(step * 8192), NOW)
    starts = [chunk.chunk.start for chunk in plan.chunks]
    stops = [chunk.chunk.stop for chunk in plan.chunks]
    assert starts[0] == 0 and starts[1:] == stops[:-1]
    assert [chunk.open for chunk in plan.chunks] == [False] * (len(starts) - 1) + [True]
    last = plan.chunks[-1].chunk
    assert all(k.mark.rows == 0 for c, k in known.items() if c.start > last.start)
