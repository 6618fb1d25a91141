"""The proof by written blocks, step by step, without a database: every doubt must leave the question."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from floodmark.lineage import Lineage
from floodmark.model import (
    Chunk,
    ChunkMark,
    Column,
    Encoding,
    Fingerprint,
    ObjectEntry,
    Point,
    Reason,
    TableEntry,
    TableName,
    WalBase,
    Watermark,
)
from floodmark.observed import Observation, Part, TableInfo, WrittenBlocks
from floodmark.pipeline.blocks import MOST_BASES, block_questions, bytes_to_spare, prove_unwritten, with_base
from floodmark.pipeline.detect import plan_table, settle_plan
from floodmark.pipeline.entries import ChunkOutcome, EntryFacts, finished_entry, proven_outcome, remembered_chunk
from floodmark.pipeline.plans import Policy, TablePlan
from floodmark.pipeline.remembered import Remembered, remember_entry
from floodmark.state.manifest import checksum

NAME = TableName("public", "person")
RESET = "2026-11-01 00:00:00+00"
LINEAGE = Lineage("7001", 5, "731", RESET, RESET, False, RESET, RESET)
BASE = WalBase(1, "0/64", 1000)
THEN = Point("2026-11-01T01:00:00Z", 1000, 1010, LINEAGE, wal=BASE)
NOW = Point("2026-11-02T01:00:00Z", 2000, 2020, LINEAGE, wal=WalBase(1, "0/C8", 1990))
PART = Part("16500", NAME, relfilenode=42, heap_blocks=18, total_bytes=20 * 8192, by_block=True, logged=True)
INFO = TableInfo(
    table=NAME,
    oid=16500,
    kind="table",
    columns=(Column("id", "bigint", False),),
    parts=(PART,),
    fingerprint=Fingerprint("schema", "config"),
)
CHUNKS = (Chunk("16500", 0, 10), Chunk("16500", 10, 20))
POLICY = Policy(chunk_bytes=10 * 8192)
SAME = Observation(rows=7, young=0, frozen=3, relfilenode=42)
CLEAN = WrittenBlocks()
FACTS = EntryFacts("run", NOW, Encoding())


def entry(point: Point = THEN) -> TableEntry:
    objects = tuple(
        ObjectEntry(key, 7, 70, 35, "5" * 64, key * 64, chunk, "extracted")
        for key, chunk in zip("ab", CHUNKS, strict=True)
    )
    marks = tuple(ChunkMark(chunk, 42, 7, 3, index) for index, chunk in enumerate(CHUNKS))
    return TableEntry(
        schema="public",
        name="person",
        status="extracted",
        reason=Reason("first_run", ""),
        columns=INFO.columns,
        encoding=Encoding(),
        fingerprint=INFO.fingerprint,
        watermark=Watermark(point, 16500, marks),
        checksum=checksum(objects),
        rows=14,
        objects=objects,
    )


def planned(point: Point = THEN, now: Point = NOW, watched: str | None = None, **changes: Any) -> TablePlan:
    info = replace(INFO, parts=(replace(PART, **changes),), watched=watched)
    return plan_table(info, remember_entry(entry(point)), POLICY, now)


def proven(answer: WrittenBlocks, plan: TablePlan | None = None) -> list[bool]:
    plan = prove_unwritten(plan or planned(), {BASE: answer})
    assert all((chunk.proven == SAME) == chunk.unwritten for chunk in plan.chunks)
    return [chunk.unwritten for chunk in plan.chunks]


def test_a_clean_list_proves_without_a_question() -> None:
    (question,) = block_questions([planned()])
    assert (question.base, question.grains) == (BASE, {42: 10})
    assert bytes_to_spare([planned()]) == 18 * 8192
    plan = prove_unwritten(planned(), {BASE: CLEAN})
    assert plan.questions == () and proven(CLEAN) == [True, True]
    assert plan.reason == Reason("unchanged", "all 2 chunks proven unchanged: no block written")
    assert settle_plan(plan, [], POLICY) == plan


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (WrittenBlocks({42: ((0, 10),)}), [False, True]),
        (WrittenBlocks({42: ((10, 20),)}), [True, False]),
        (WrittenBlocks({42: ((9, 10),)}), [False, True]),
        (WrittenBlocks({42: ((8, 12),)}), [False, False]),
        (WrittenBlocks({42: ((0, 1), (30, 40))}), [False, False]),  # the last chunk has no end
        (WrittenBlocks({42: ((30, 40),)}), [True, False]),
        (WrittenBlocks({43: ((0, 20),)}), [True, True]),  # another file
        (WrittenBlocks(limits={42: 0}), [False, False]),
        (WrittenBlocks(limits={42: 10}), [False, False]),  # "at or below its end"
        (WrittenBlocks(limits={42: 11}), [True, False]),
        (WrittenBlocks(limits={42: 99}), [True, False]),  # the last chunk has no end
        (WrittenBlocks(limits={43: 0}), [True, True]),
        (WrittenBlocks(doubt="there is a gap"), [False, False]),
    ],
)
def test_what_is_listed_is_counted(answer: WrittenBlocks, expected: list[bool]) -> None:
    assert proven(answer) == expected


@pytest.mark.parametrize(
    "plan",
    [
        planned(replace(THEN, wal=UNSET)),
        planned(replace(THEN, wal=replace(BASE, next_xid=1001))),  # somebody had an id from x1 on
        planned(logged=False),
        planned(relfilenode=43),
        planned(measured=False),
        planned(no_proof="because"),
        planned(now=replace(NOW, lineage=replace(LINEAGE, started_at="later"))),
        planned(watched="id"),
    ],
)
def test_any_doubt_leaves_the_question(plan: TablePlan) -> None:
    assert block_questions([plan]) == [] and bytes_to_spare([plan]) == 0
    assert prove_unwritten(plan, {BASE: CLEAN, replace(BASE, next_xid=1001): CLEAN}).questions == plan.questions


def test_the_reason_tells_how_chunks_were_proven() -> None:
    mixed = prove_unwritten(planned(), {BASE: WrittenBlocks({42: ((0, 10),)})})
    detail = settle_plan(mixed, [SAME], POLICY).reason.detail
    assert detail == "all 2 chunks proven unchanged: no block written in 1, rows counted in 1"
    counted = prove_unwritten(planned(), {BASE: WrittenBlocks(doubt="there is a gap")})
    detail = settle_plan(counted, [SAME, SAME], POLICY).reason.detail
    assert detail == "all 2 chunks proven unchanged; the rows were counted: there is a gap"
    old = prove_unwritten(planned(replace(THEN, wal=UNSET)), {})
    detail = settle_plan(old, [SAME, SAME], POLICY).reason.detail
    assert "no checkpoint was remembered" in detail
    written = prove_unwritten(planned(), {BASE: WrittenBlocks({42: ((0, 20),)})})
    detail = settle_plan(written, [SAME, SAME], POLICY).reason.detail
    assert detail == "all 2 chunks proven unchanged; the rows were counted"
    changed = settle_plan(mixed, [replace(SAME, young=2)], POLICY)
    assert changed.reason == Reason("rows_changed", "2 rows inserted or updated (1 of 2 chunks)")


def test_new_blocks_are_asked_for() -> None:
    plan = prove_unwritten(planned(heap_blocks=25), {BASE: CLEAN})
    assert [chunk.unwritten for chunk in plan.chunks] == [True, True, False]
    assert [question.probe for question in plan.questions] == [True]


def test_the_newest_bases_are_asked_for_first() -> None:
    points = [replace(THEN, wal=WalBase(1, f"0/{number:X}", 900)) for number in range(1, MOST_BASES + 5)]
    questions = block_questions([planned(point) for point in points])
    assert [one.base.lsn for one in questions] == [f"0/{number:X}" for number in range(MOST_BASES + 4, 4, -1)]


# What is remembered


def remembered(wal: WalBase, **changes: Any) -> Remembered:
    return remember_entry(entry(replace(THEN, wal=wal, **changes)))


def test_the_newest_base_that_serves_is_remembered() -> None:
    assert with_base(NOW, [remembered(BASE)]).wal == NOW.wal
    late = replace(NOW, xmin=1500)  # a transaction is open that had an id at the last checkpoint
    assert with_base(late, [remembered(BASE)]).wal == BASE
    newer = WalBase(1, "0/65", 1400)
    assert with_base(late, [remembered(BASE), remembered(newer)]).wal == newer
    assert with_base(replace(NOW, xmin=999), [remembered(BASE)]).wal is UNSET
    assert with_base(late, [remembered(replace(BASE, timeline=2))]).wal is UNSET
    other = replace(LINEAGE, started_at="before")
    assert with_base(late, [remembered(BASE, lineage=other)]).wal is UNSET
    assert with_base(replace(late, wal=UNSET), [remembered(BASE)]).wal is UNSET


def test_a_proven_chunk_advances_its_watermark() -> None:
    plan = prove_unwritten(planned(), {BASE: CLEAN})
    outcomes = [proven_outcome(chunk) for chunk in plan.chunks]
    made = finished_entry(plan, outcomes, remember_entry(entry()), FACTS, 0)
    assert (made.status, made.watermark) == ("unchanged", replace(entry().watermark, point=NOW))  # type: ignore[type-var]


def test_no_base_for_what_was_read_while_the_size_was_unknown() -> None:
    plan = planned(measured=False)
    outcomes = [ChunkOutcome(chunk, entry().objects[0], SAME) for chunk in plan.chunks]
    made = finished_entry(plan, outcomes, Remembered(), FACTS, 0)
    assert made.watermark is not None and made.watermark.point.wal is UNSET
    known = remembered_chunk(outcomes[0], plan.info, NOW)
    assert known is not None and known.point.wal is UNSET
