"""The size of chunks: it grows with the table, and chunks that are remembered stay what they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from floodmark.config.settings import DeliverySettings, DestinationSettings, Settings, SourceSettings
from floodmark.lineage import Lineage
from floodmark.model import Chunk, ChunkMark, Column, Fingerprint, Point, Reason, TableEntry, TableName
from floodmark.observed import Part, TableInfo
from floodmark.pipeline.chunks import BLOCK_BYTES, grown_chunk_bytes
from floodmark.pipeline.detect import plan_table
from floodmark.pipeline.plans import Policy, TablePlan
from floodmark.pipeline.remembered import Remembered, RememberedChunk

MIB, GIB = 1024**2, 1024**3
NAME = TableName("public", "event")
HOME = Lineage("7001", 5, "731", "2026-11-01", "2026-11-01", False)
THEN = Point("2026-11-01T01:00:00Z", 1000, 1010, HOME)
NOW = Point("2026-11-02T01:00:00Z", 2000, 2020, HOME)
PRINT = Fingerprint("schema", "config")
POLICY = Policy(64 * MIB, grows=True)


def table(*sizes: int) -> TableInfo:
    """A table whose parts have these sizes."""
    parts = tuple(
        Part(str(oid), NAME, oid, max(1, size // BLOCK_BYTES), size, by_block=True)
        for oid, size in enumerate(sizes, 16500)
    )
    return TableInfo(
        table=NAME, oid=16500, kind="table", columns=(Column("id", "bigint", False),), parts=parts, fingerprint=PRINT
    )


def planned(info: TableInfo, known: Remembered = Remembered(), policy: Policy = POLICY) -> TablePlan:  # noqa: B008
    return plan_table(info, known, policy, NOW)


def remembered(plan: TablePlan) -> Remembered:
    """The state after a run that did what the plan says."""
    entry = TableEntry(
        schema="public",
        name="event",
        status="extracted",
        reason=Reason("first_run", ""),
        fingerprint=PRINT,
        checksum="",
    )
    marks = [ChunkMark(one.chunk, one.part.relfilenode, 7, 0, None) for one in plan.chunks]
    return Remembered(entry, {one.chunk: RememberedChunk(one, THEN, 16500, PRINT, None) for one in marks})


def steps(plan: TablePlan) -> set[int]:
    """The sizes of a plan's chunks, in MiB."""
    return {(one.chunk.stop or 0) * BLOCK_BYTES // MIB - one.chunk.start * BLOCK_BYTES // MIB for one in plan.chunks}


@pytest.mark.parametrize(
    ("size", "chunk", "expected"),
    [
        (0, 64 * MIB, 64 * MIB),
        (4 * GIB - 1, 64 * MIB, 64 * MIB),
        (4 * GIB, 64 * MIB, 128 * MIB),
        (16 * GIB, 64 * MIB, 256 * MIB),
        (64 * GIB, 64 * MIB, 512 * MIB),
        (32 * 1024 * GIB, 64 * MIB, 512 * MIB),
        (64 * GIB, 1 * MIB, 8 * MIB),
        (64 * GIB, 100 * MIB, 512 * MIB),
        (64 * GIB, 4 * GIB, 4 * GIB),  # a user's own size is never made smaller
    ],
)
def test_a_large_table_has_larger_chunks(size: int, chunk: int, expected: int) -> None:
    assert grown_chunk_bytes(size, chunk) == expected


def test_a_table_of_a_tebibyte_has_two_thousand_chunks() -> None:
    assert len(planned(table(1024 * GIB)).chunks) == 2048
    assert len(planned(table(1024 * GIB), policy=Policy(64 * MIB)).chunks) == 16384


@pytest.mark.parametrize(
    ("destination", "deliveries", "expected"),
    [
        (DestinationSettings("s3://lake"), (), True),
        (DestinationSettings("s3://lake", compression="zstd"), ("keep",), True),
        (DestinationSettings("s3://lake", compression="none"), (), False),
        (DestinationSettings("s3://lake", layout="moj-landing"), (), False),
        (DestinationSettings("s3://lake"), ("keep", "none"), False),
    ],
)
def test_chunks_grow_only_if_their_lines_are_compressed_and_stay(
    destination: DestinationSettings, deliveries: tuple[Any, ...], expected: bool
) -> None:
    deliver = tuple(DeliverySettings("s3://elsewhere", compression=one) for one in deliveries)
    assert (
        Settings(source=SourceSettings(), destination=destination, state_url=None, deliver=deliver).chunks_grow
        == expected
    )


def test_a_partition_s_chunks_have_the_size_that_fits_the_whole_table() -> None:
    plan = planned(table(3 * GIB, 3 * GIB, 100 * MIB))
    assert steps(plan) == {128} and len(plan.chunks) == 24 + 24 + 1


@settings(max_examples=40)
@given(then=st.integers(0, 80 * 1024), now=st.integers(0, 80 * 1024), size=st.sampled_from((64 * MIB, 300 * MIB, GIB)))
def test_a_table_that_crosses_a_boundary_keeps_its_chunks(then: int, now: int, size: int) -> None:
    """No remembered chunk is extracted because a table grew or shrank. Each is asked about, at its own place."""
    policy = replace(POLICY, chunk_bytes=size)
    known = remembered(planned(table(then * MIB), policy=policy))
    plan = planned(table(now * MIB), known, policy)
    assert known.chunks.keys() <= {one.chunk for one in plan.chunks}
    assert all(one.reason is None for one in plan.chunks)
    assert all(one.question is not None and one.question.probe == (one.remembered is None) for one in plan.chunks)


def test_a_new_file_gets_the_size_that_fits_now() -> None:
    known = remembered(planned(table(1 * GIB)))
    info = table(16 * GIB)
    rewritten = replace(info, parts=(replace(info.parts[0], relfilenode=99),))
    plan = planned(rewritten, known)
    assert steps(plan) == {256} and {one.reason.code for one in plan.chunks if one.reason} == {"rewritten"}


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [(64 * MIB, 64), (90 * MIB, 64), (100 * MIB, 100), (128 * MIB, 128), (48 * MIB, 64), (32 * MIB, 32)],
)
def test_a_full_run_takes_over_a_size_that_is_very_different(chunk: int, expected: int) -> None:
    """It reads all rows anyway. A little difference changes nothing, so that its lines can still be the same."""
    known = remembered(planned(table(1 * GIB)))
    assert steps(planned(table(1 * GIB), known, replace(POLICY, chunk_bytes=chunk))) == {64}
    plan = planned(table(1 * GIB), known, replace(POLICY, chunk_bytes=chunk, full=True))
    assert steps(plan) == {expected} and {one.reason.code for one in plan.chunks if one.reason} == {"forced"}


def test_a_full_run_lets_a_table_grow_whose_share_of_toast_grew_too() -> None:
    """A little more of it makes twice the bytes less than twice the blocks."""
    known = remembered(planned(table(1 * GIB)))
    info = table(4 * GIB)
    info = replace(info, parts=tuple(replace(one, total_bytes=one.total_bytes * 21 // 20) for one in info.parts))
    assert steps(planned(info, known)) == {64}
    assert 115 < max(steps(planned(info, known, replace(POLICY, full=True)))) < 128


def test_chunks_of_two_sizes_of_one_file_prove_nothing_wrong() -> None:
    """A full run with another size was killed: what it left is at other places, and its rows do not count."""
    known = remembered(planned(table(1 * GIB)))
    left = remembered(planned(table(1 * GIB), policy=replace(POLICY, chunk_bytes=256 * MIB)))
    both = Remembered(known.entry, {**known.chunks, **left.chunks})
    plan = planned(table(1 * GIB), both)
    asked = {one.chunk: one.remembered for one in plan.chunks}
    assert asked == {chunk: known.chunks[chunk] for chunk in known.chunks}
    assert Chunk("16500", 0, 32768) not in asked


def test_a_damaged_chunk_without_blocks_is_no_cut() -> None:
    """A progress has no checksum."""
    known = remembered(planned(table(1 * GIB)))
    (first, *_) = known.chunks.values()
    empty = replace(first, mark=replace(first.mark, chunk=Chunk("16500", 7, 7)))
    for chunks in ({Chunk("16500", 7, 7): empty}, {Chunk("16500", 7, 7): empty, **known.chunks}):
        assert steps(planned(table(1 * GIB), Remembered(known.entry, chunks))) == {64}
