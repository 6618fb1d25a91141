"""The proof, step by step, without a database: every doubt must lead to an extraction."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from floodmark.lineage import Lineage, same_history
from floodmark.model import (
    Chunk,
    ChunkMark,
    Column,
    Encoding,
    Fingerprint,
    ObjectEntry,
    PartDefinition,
    Point,
    Reason,
    TableEntry,
    TableName,
    Watermark,
)
from floodmark.observed import Observation, Part, TableInfo
from floodmark.pipeline.chunks import MIN_CHUNK_BLOCKS
from floodmark.pipeline.detect import MAX_XID_GAP, plan_table, settle_plan, without_objects
from floodmark.pipeline.entries import ChunkOutcome, EntryFacts, finished_entry, proven_outcome
from floodmark.pipeline.plans import Policy, TablePlan
from floodmark.pipeline.remembered import Remembered, RememberedChunk, remember_entry, with_finished
from floodmark.state.manifest import checksum

NAME = TableName("public", "person")
RESET = "2026-11-01 00:00:00+00"
LINEAGE = Lineage("7001", 5, "731", RESET, RESET, False, RESET, RESET)
THEN = Point("2026-11-01T01:00:00Z", 1000, 1010, LINEAGE)
NOW = Point("2026-11-02T01:00:00Z", 2000, 2020, LINEAGE)
PRINT = Fingerprint("schema", "config")
ATTEMPT = EntryFacts("now", NOW, Encoding())
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
    return settle_plan(plan_table(info, remember_entry(entry()), policy, NOW), answers, policy)


SAME = Observation(rows=7, young=0, frozen=0, relfilenode=42)


@pytest.mark.parametrize(
    ("chunks", "detail"),
    [(0, "proven unchanged"), (1, "proven unchanged"), (1234, "all 1,234 chunks proven unchanged")],
)
def test_an_unchanged_table_counts_its_chunks_only_if_it_has_several(chunks: int, detail: str) -> None:
    plan = plan_table(INFO, remember_entry(entry()), POLICY, NOW)
    plan = replace(plan, chunks=tuple(replace(plan.chunks[0], reason=None) for _ in range(chunks)))
    assert plan.reason.detail == detail


def test_the_questions_ask_for_rows_since_the_remembered_xmin() -> None:
    plan = plan_table(INFO, remember_entry(entry()), POLICY, NOW)
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


RESETS = ("stats_reset", "archiver_reset", "wal_reset")


@pytest.mark.parametrize("field", [name for name in Lineage.__struct_fields__ if name not in RESETS])
def test_any_part_of_the_lineage_that_differs_is_a_doubt(field: str) -> None:
    was = getattr(LINEAGE, field)
    other = (not was) if isinstance(was, bool) else was + 1 if isinstance(was, int) else "other"
    point = replace(NOW, lineage=replace(LINEAGE, **{field: other}))
    plan = plan_table(INFO, remember_entry(entry()), POLICY, point)
    assert codes(plan) == ["lineage_changed"] * 2
    assert f"{field} differs" in plan.reason.detail


@pytest.mark.parametrize(
    ("then", "now", "interrupted"),
    [
        ({}, dict.fromkeys(RESETS, "later"), True),  # a crash resets all at once
        ({}, {"stats_reset": "later"}, False),
        ({}, {"archiver_reset": "later"}, False),
        ({}, {"wal_reset": "later"}, False),
        ({}, {"archiver_reset": "later", "wal_reset": "later"}, False),
        ({}, {"stats_reset": "later", "archiver_reset": "later"}, True),
        ({}, {"stats_reset": "later", "wal_reset": "later"}, True),
        ({"archiver_reset": UNSET}, {"stats_reset": "later", "archiver_reset": UNSET}, True),
        ({"wal_reset": UNSET}, {"stats_reset": "later", "wal_reset": UNSET}, True),
        ({"archiver_reset": UNSET, "wal_reset": UNSET}, {"stats_reset": "later"}, True),  # release 0.1.0 wrote none
        ({"archiver_reset": UNSET, "wal_reset": UNSET}, {}, False),
        ({"stats_reset": None}, {"stats_reset": "later"}, True),
        ({}, {"stats_reset": None}, True),
    ],
)
def test_a_crash_resets_all_statistics_and_a_monitoring_job_some(
    then: dict[str, Any], now: dict[str, Any], interrupted: bool
) -> None:
    before = entry()
    assert before.watermark is not None
    point = replace(THEN, lineage=replace(LINEAGE, **then))
    before = replace(before, watermark=replace(before.watermark, point=point))
    plan = plan_table(INFO, remember_entry(before), POLICY, replace(NOW, lineage=replace(LINEAGE, **now)))
    assert codes(plan) == (["lineage_changed"] * 2 if interrupted else [None, None])
    assert not interrupted or "statistics were reset" in plan.reason.detail or "its crashes" in plan.reason.detail


def test_two_snapshots_without_a_history_have_the_same_one() -> None:
    assert same_history(None, None) and same_history(LINEAGE, LINEAGE)
    assert not same_history(LINEAGE, None) and not same_history(None, LINEAGE)


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
    assert codes(plan_table(INFO, remember_entry(entry()), POLICY, point)) == ["lineage_changed"] * 2


def test_the_widest_gap_that_still_compares() -> None:
    point = replace(NOW, xmin=1000 + MAX_XID_GAP - 5, xmax=1000 + MAX_XID_GAP - 1)
    assert codes(plan_table(INFO, remember_entry(entry()), POLICY, point)) == [None, None]


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
    assert set(codes(plan_table(info, remember_entry(entry()), POLICY, NOW))) == {code}


@pytest.mark.parametrize(
    ("columns", "config", "detail"),
    [
        (
            (Column("id", "bigint", False), Column("note", "text", True)),
            "config",
            "columns added: note (2 of 2 chunks)",
        ),
        ((Column("id", "integer", False),), "config", "type changed: id (bigint to integer) (2 of 2 chunks)"),
        (INFO.columns, "config", "the definition of the table"),
        ((Column("note", "text", True),), "other", "columns added: note; removed: id"),
    ],
)
def test_a_change_of_definition_names_its_columns(columns: tuple[Column, ...], config: str, detail: str) -> None:
    info = replace(INFO, columns=columns, fingerprint=Fingerprint("other", config))
    reason = plan_table(info, remember_entry(entry()), POLICY, NOW).reason
    assert reason.code == "schema_changed" and reason.detail.startswith(detail)


def test_what_was_not_provable_then_is_not_proven_now() -> None:
    before = entry()
    assert before.watermark is not None
    marks = tuple(replace(mark, provable=False) for mark in before.watermark.chunks)
    before = replace(before, watermark=replace(before.watermark, chunks=marks))
    assert codes(plan_table(INFO, remember_entry(before), POLICY, NOW)) == ["no_proof"] * 2


def test_nothing_remembered_full_and_resend() -> None:
    assert codes(plan_table(INFO, Remembered(), POLICY, NOW)) == ["first_run"] * 2
    assert codes(plan_table(INFO, remember_entry(entry()), replace(POLICY, full=True), NOW)) == ["forced"] * 2
    assert codes(plan_table(INFO, remember_entry(entry()), replace(POLICY, resend=True), NOW)) == ["resend"] * 2


def test_an_entry_that_never_was_good_proves_nothing() -> None:
    never = TableEntry(schema="public", name="person", status="failed", reason=Reason("failed", ""))
    assert codes(plan_table(INFO, remember_entry(never), POLICY, NOW)) == ["first_run"] * 2


GROWN = replace(INFO, parts=(replace(PART, heap_blocks=31, total_bytes=31 * 8192 * 50),))


def test_a_table_that_grew_keeps_its_chunks_and_gets_new_ones() -> None:
    plan = plan_table(GROWN, remember_entry(entry()), POLICY, NOW)
    assert [chunk.chunk for chunk in plan.chunks] == [*CHUNKS, Chunk("16500", 20, 30), Chunk("16500", 30, 40)]
    assert [question.probe for question in plan.questions] == [False, False, True, True]
    assert [chunk.open for chunk in plan.chunks] == [False, False, False, True]
    plan = settle_plan(plan, [SAME, SAME, replace(SAME, rows=1), replace(SAME, rows=1)], POLICY)
    assert codes(plan) == [None, None, "rows_changed", "rows_changed"]
    assert plan.reason.detail == "new blocks (2 of 4 chunks)"


EMPTY = Observation(rows=0, young=0, frozen=0, relfilenode=42)


def test_new_blocks_without_a_row_are_settled_and_remembered_as_empty() -> None:
    plan = settle_plan(plan_table(GROWN, remember_entry(entry()), POLICY, NOW), [SAME, SAME, EMPTY, EMPTY], POLICY)
    assert codes(plan) == [None] * 4
    assert plan.reason.code == "unchanged"
    found = finished_entry(
        plan, [proven_outcome(chunk) for chunk in plan.chunks], remember_entry(entry()), ATTEMPT, 0.0
    )
    assert found.watermark is not None
    marks = found.watermark.chunks
    assert [(mark.rows, mark.object, mark.provable) for mark in marks] == [(7, 0, True), (7, 1, True)] + [
        (0, None, True)
    ] * 2
    later = replace(NOW, xmin=3000, xmax=3000)
    asked = plan_table(GROWN, remember_entry(found), POLICY, later)
    assert [(question.probe, question.since) for question in asked.questions] == [(False, 2000)] * 4
    for seen in (replace(EMPTY, rows=1, young=1), replace(EMPTY, rows=1)):
        assert codes(settle_plan(asked, [SAME, SAME, seen, EMPTY], POLICY)) == [None, None, "rows_changed", None]


def test_new_blocks_of_a_file_that_is_not_the_remembered_one_are_not_settled() -> None:
    plan = plan_table(GROWN, remember_entry(entry()), POLICY, NOW)
    assert codes(settle_plan(plan, [SAME, SAME, replace(EMPTY, relfilenode=43), EMPTY], POLICY))[2] == "rewritten"
    other = replace(GROWN, parts=(replace(GROWN.parts[0], relfilenode=43),))
    assert set(codes(plan_table(other, remember_entry(entry()), POLICY, NOW))) == {"rewritten"}


def test_where_objects_do_not_stay_new_blocks_without_a_row_go_with_the_rest() -> None:
    policy = replace(POLICY, objects_stay=False)
    plan = plan_table(GROWN, remember_entry(entry()), policy, NOW)
    assert codes(settle_plan(plan, [SAME, SAME, EMPTY, EMPTY], policy)) == [None] * 4
    assert codes(settle_plan(plan, [SAME, replace(SAME, young=1), EMPTY, EMPTY], policy)) == ["rows_changed"] * 4


# Partitions

LEAVES = tuple(
    Part(str(oid), TableName("public", f"leaf_{oid}"), 42, 10, 10 * 8192, True, fingerprint=f"leaf {oid}")
    for oid in (16601, 16602)
)
SPLIT = replace(INFO, kind="partitioned table", parts=LEAVES)


def split_entry() -> TableEntry:
    chunks = [Chunk(leaf.id, 0, 10) for leaf in LEAVES]
    objects = tuple(stored(chunk, chunk.part) for chunk in chunks)
    marks = tuple(ChunkMark(chunk, 42, 7, 0, index) for index, chunk in enumerate(chunks))
    parts = tuple(PartDefinition(leaf.id, leaf.fingerprint) for leaf in LEAVES)
    whole = replace(entry(), watermark=Watermark(THEN, 16500, marks, parts), objects=objects)
    return replace(whole, checksum=checksum(objects), encoding=Encoding(), changed_at="then", changed_by="someone")


def test_a_partition_that_is_added_leaves_the_others_proven() -> None:
    third = replace(LEAVES[0], id="16603", table=TableName("public", "leaf_16603"), fingerprint="leaf 16603")
    plan = plan_table(replace(SPLIT, parts=(*LEAVES, third)), remember_entry(split_entry()), POLICY, NOW)
    assert codes(plan) == [None, None, "rows_changed"]
    plan = settle_plan(plan, [SAME, SAME], POLICY)
    assert plan.reason.detail == "partition public.leaf_16603 was added (1 of 3 chunks)"


def test_a_partition_that_is_defined_otherwise_leaves_the_others_proven() -> None:
    other = (LEAVES[0], replace(LEAVES[1], fingerprint="another"))
    plan = settle_plan(
        plan_table(replace(SPLIT, parts=other), remember_entry(split_entry()), POLICY, NOW), [SAME], POLICY
    )
    assert codes(plan) == [None, "schema_changed"]
    assert plan.reason.detail.startswith("the definition of partition public.leaf_16602, or of a type")


def test_a_partition_that_went_is_told() -> None:
    plan = plan_table(replace(SPLIT, parts=LEAVES[:1]), remember_entry(split_entry()), POLICY, NOW)
    plan = settle_plan(plan, [SAME], POLICY)
    found = finished_entry(
        plan, [proven_outcome(chunk) for chunk in plan.chunks], remember_entry(split_entry()), ATTEMPT, 0.0
    )
    assert found.status == "extracted"
    assert found.reason == Reason("rows_removed", "a partition was detached or dropped")


def test_a_changed_column_of_the_root_is_told_of_all_partitions() -> None:
    columns = (*INFO.columns, Column("note", "text", True))
    info = replace(SPLIT, columns=columns, fingerprint=replace(PRINT, schema="other"))
    plan = plan_table(info, remember_entry(split_entry()), POLICY, NOW)
    assert codes(plan) == ["schema_changed"] * 2
    assert plan.reason.detail == "columns added: note (2 of 2 chunks)"


def test_a_watermark_tells_the_parts_that_are_more_than_the_table() -> None:
    plan = settle_plan(plan_table(SPLIT, remember_entry(split_entry()), POLICY, NOW), [SAME, SAME], POLICY)
    found = finished_entry(
        plan, [proven_outcome(chunk) for chunk in plan.chunks], remember_entry(split_entry()), ATTEMPT, 0.0
    )
    assert found.watermark is not None and split_entry().watermark is not None
    assert found.watermark.parts == split_entry().watermark.parts  # type: ignore[union-attr]
    plain = finished_entry(
        settled(SAME, SAME), [proven_outcome(c) for c in settled(SAME, SAME).chunks], Remembered(), ATTEMPT, 0.0
    )
    assert plain.watermark is not None and plain.watermark.parts is UNSET


def test_what_was_read_through_the_parent_says_nothing_of_its_partitions() -> None:
    before = replace(entry(), watermark=None, objects=(stored(Chunk("16500"), "a"),))
    plan = plan_table(SPLIT, remember_entry(before), POLICY, NOW)
    assert codes(plan) == ["no_proof"] * 2 and "through its parent" in plan.reason.detail


def test_an_empty_table_that_was_finished_under_a_lost_snapshot_is_a_first_run() -> None:
    known = RememberedChunk(ChunkMark(CHUNKS[0], 42, 0, 0, None), THEN, 16500, PRINT, None, stamp="")
    small = replace(INFO, parts=(replace(PART, heap_blocks=0),))
    told = with_finished(Remembered(), [known], small, NOW)
    plan = settle_plan(plan_table(small, told, POLICY, NOW), [EMPTY], POLICY)
    assert codes(plan) == [None]
    found = finished_entry(plan, [proven_outcome(chunk) for chunk in plan.chunks], told, ATTEMPT, 0.0)
    assert (found.status, found.reason.code) == ("extracted", "first_run")


# States of an earlier version

GUARDED = replace(INFO, fingerprint=replace(PRINT, schema="of other facts", guards=2))


def test_what_an_earlier_version_read_is_read_again_once() -> None:
    plan = plan_table(GUARDED, remember_entry(entry()), POLICY, NOW)
    assert codes(plan) == ["no_proof"] * 2
    assert plan.reason.detail == "an earlier version of Floodmark read it, with weaker checks (2 of 2 chunks)"
    reused = [replace(known, origin="reused") for known in entry().objects]
    outcomes = [ChunkOutcome(chunk, known, SAME) for chunk, known in zip(plan.chunks, reused, strict=True)]
    before = replace(entry(), checksum=checksum(entry().objects), encoding=Encoding())
    found = finished_entry(plan, outcomes, remember_entry(before), ATTEMPT, 0.0)
    assert (found.status, found.reason.code) == ("unchanged", "identical")
    assert codes(plan_table(GUARDED, remember_entry(found), POLICY, NOW)) == [None, None]


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (replace(GUARDED, columns=(*INFO.columns, Column("note", "text", True))), "schema_changed"),
        (replace(GUARDED, fingerprint=replace(GUARDED.fingerprint, config="other")), "config_changed"),
        (replace(GUARDED, parts=(replace(PART, relfilenode=43),)), "rewritten"),
        (replace(GUARDED, parts=(replace(PART, no_proof="a view"),)), "no_proof"),
    ],
)
def test_what_changed_since_an_earlier_version_is_told_as_far_as_it_is_known(info: TableInfo, code: str) -> None:
    assert set(codes(plan_table(info, remember_entry(entry()), POLICY, NOW))) == {code}


def test_a_progress_of_an_earlier_version_is_not_used() -> None:
    known = list(remember_entry(entry()).chunks.values())
    assert with_finished(Remembered(), known, INFO, NOW).chunks == {}
    stamped = [replace(one, stamp="") for one in known]
    assert len(with_finished(Remembered(), stamped, INFO, NOW).chunks) == 2
    assert with_finished(Remembered(), stamped, GUARDED, NOW).chunks == {}


def test_the_last_chunk_never_swallows_one_that_held_rows() -> None:
    """Else ten rows, all of them of the second chunk, would pass for the ten that the first one held."""
    shrunk = replace(INFO, parts=(replace(PART, heap_blocks=3),))
    plan = plan_table(shrunk, remember_entry(entry()), POLICY, NOW)
    assert [chunk.chunk for chunk in plan.chunks] == list(CHUNKS)
    assert [chunk.open for chunk in plan.chunks] == [False, True]


def test_chunks_aim_at_a_size_and_have_some_blocks_at_least() -> None:
    wide = replace(PART, heap_blocks=100, total_bytes=100 * 8192 * 1000)
    plan = plan_table(replace(INFO, parts=(wide,)), Remembered(), POLICY, NOW)
    assert plan.chunks[0].chunk.stop == MIN_CHUNK_BLOCKS
    assert len(plan_table(replace(INFO, parts=(replace(PART, heap_blocks=0),)), Remembered(), POLICY, NOW).chunks) == 1


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
    plan = plan_table(replace(INFO, parts=(part,)), Remembered(entry(), known), Policy(step * 8192), NOW)
    starts = [chunk.chunk.start for chunk in plan.chunks]
    stops = [chunk.chunk.stop for chunk in plan.chunks]
    assert starts[0] == 0 and starts[1:] == stops[:-1]
    assert [chunk.open for chunk in plan.chunks] == [False] * (len(starts) - 1) + [True]
    last = plan.chunks[-1].chunk
    assert all(k.mark.rows == 0 for c, k in known.items() if c.start > last.start)


# Proof by digest: sources without row versions

KEYED = Part("orders", NAME, relfilenode=0, heap_blocks=0, total_bytes=300, by_block=False, ranges=3, digests=True)
KEYED_INFO = replace(INFO, oid=0, parts=(KEYED,))
WITHOUT_HISTORY = Point("2026-11-01T01:00:00Z", consistency="one transaction")
DIGESTS = ("a" * 64, "b" * 64, "c" * 64)


def keyed_mark(number: int, digest: Any) -> ChunkMark:
    return ChunkMark(Chunk("orders", number, number + 1), 0, 7, 0, number, digest=digest)


def keyed_entry(digests: Any = DIGESTS, ranges: int = 3) -> TableEntry:
    chunks = [Chunk("orders", i, i + 1) for i in range(ranges)]
    objects = tuple(stored(chunk, f"{'def'[i]}/key") for i, chunk in enumerate(chunks))
    marks = tuple(keyed_mark(i, digests[i]) for i in range(ranges))
    return TableEntry(
        schema="public",
        name="person",
        status="extracted",
        reason=Reason("first_run", ""),
        fingerprint=PRINT,
        watermark=Watermark(WITHOUT_HISTORY, 0, marks),
        checksum=checksum(objects),
        columns=INFO.columns,
        encoding=Encoding(),
        objects=objects,
    )


def keyed_answer(digest: str | None, rows: int = 7) -> Observation:
    return Observation(rows, 0, 0, 0, digest=digest)


def keyed_plan(info: TableInfo = KEYED_INFO, entry: TableEntry | None = None, policy: Policy = POLICY) -> TablePlan:
    return plan_table(info, remember_entry(entry or keyed_entry()), policy, WITHOUT_HISTORY)


def test_a_chunk_with_a_remembered_digest_is_proven_wherever_it_was() -> None:
    plan = settle_plan(keyed_plan(), [keyed_answer("z" * 64), *map(keyed_answer, DIGESTS[:2])], POLICY)
    assert [chunk.reason and chunk.reason.code for chunk in plan.chunks] == ["rows_changed", None, None]
    assert [chunk.stored_key for chunk in plan.chunks if chunk.proven] == ["d/key", "e/key"]
    outcomes = [proven_outcome(chunk) for chunk in plan.chunks[1:]]
    assert [one.object and one.object.chunk for one in outcomes] == [Chunk("orders", 1, 2), Chunk("orders", 2, 3)]


def test_a_table_whose_digests_are_all_known_is_unchanged() -> None:
    plan = settle_plan(keyed_plan(), list(map(keyed_answer, DIGESTS)), POLICY)
    assert plan.reason.code == "unchanged"
    entry = finished_entry(plan, list(map(proven_outcome, plan.chunks)), remember_entry(keyed_entry()), ATTEMPT, 0)
    assert entry.status == "unchanged" and entry.watermark is not None
    assert [mark.digest for mark in entry.watermark.chunks] == list(DIGESTS)


@pytest.mark.parametrize(
    "answer",
    [keyed_answer(None), keyed_answer("z" * 64), keyed_answer(DIGESTS[0], rows=8)],
    ids=["none", "new", "rows"],
)
def test_a_digest_that_is_not_remembered_proves_nothing(answer: Observation) -> None:
    plan = settle_plan(keyed_plan(), [answer, *map(keyed_answer, DIGESTS[1:])], POLICY)
    assert plan.chunks[0].proven is None and plan.reason.code == "rows_changed"


@pytest.mark.parametrize(
    ("info", "entry", "policy", "code"),
    [
        (replace(KEYED_INFO, fingerprint=Fingerprint("other", "config")), None, POLICY, "schema_changed"),
        (replace(KEYED_INFO, fingerprint=Fingerprint("schema", "other")), None, POLICY, "config_changed"),
        (replace(KEYED_INFO, parts=(replace(KEYED, no_proof="no key"),)), None, POLICY, "no_proof"),
        (replace(KEYED_INFO, parts=(replace(KEYED, fingerprint="x"),)), None, POLICY, "no_proof"),
        (KEYED_INFO, keyed_entry((UNSET, UNSET, UNSET)), POLICY, "no_proof"),
        (KEYED_INFO, None, replace(POLICY, full=True), "forced"),
    ],
)
def test_no_digest_is_asked_for_if_none_could_count(
    info: TableInfo, entry: TableEntry | None, policy: Policy, code: str
) -> None:
    plan = keyed_plan(info, entry, policy)
    assert plan.reason.code == code and not plan.questions


def test_a_table_that_was_never_read_has_no_digest() -> None:
    assert plan_table(KEYED_INFO, Remembered(), POLICY, WITHOUT_HISTORY).reason.code == "first_run"


def test_a_part_without_a_key_is_one_chunk() -> None:
    info = replace(KEYED_INFO, parts=(replace(KEYED, ranges=0, digests=False, no_proof="no key"),))
    (chunk,) = plan_table(info, remember_entry(keyed_entry()), POLICY, WITHOUT_HISTORY).chunks
    assert chunk.chunk == Chunk("orders") and chunk.estimated_bytes == 300
    assert keyed_plan().chunks[0].estimated_bytes == 100


@pytest.mark.parametrize("since", ["nothing", "whole"])
@pytest.mark.parametrize(("answers", "code"), [(DIGESTS, "unchanged"), (DIGESTS[1:], "rows_removed")])
def test_a_landing_zone_is_sent_a_table_again_whose_other_ranges_are_proven_and_one_is_gone(
    since: Any, answers: tuple[str, ...], code: str
) -> None:
    policy = replace(POLICY, objects_stay=False)
    info = replace(KEYED_INFO, parts=(replace(KEYED, ranges=len(answers)),))
    told = remember_entry(keyed_entry())
    if since == "whole":
        told = replace(told, chunks={chunk: replace(one, stamp="") for chunk, one in told.chunks.items()})
        told = replace(told, sent_since=since)
    plan = settle_plan(plan_table(info, told, policy, WITHOUT_HISTORY), list(map(keyed_answer, answers)), policy, told)
    assert plan.reason.code == code
    assert len(plan.to_extract) == (0 if code == "unchanged" else len(answers))


def test_a_range_that_lost_all_its_rows_is_named() -> None:
    info = replace(KEYED_INFO, parts=(replace(KEYED, ranges=2),))
    plan = settle_plan(keyed_plan(info), list(map(keyed_answer, DIGESTS[:2])), POLICY)
    entry = finished_entry(plan, list(map(proven_outcome, plan.chunks)), remember_entry(keyed_entry()), ATTEMPT, 0)
    assert entry.status == "extracted"
    assert entry.reason == Reason("rows_removed", "a range of its key has no rows any more")
