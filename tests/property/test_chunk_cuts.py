"""Random sequences of cuts of one table, without a server: each row lands exactly once, whatever was cut how before.

The model is a table's file with row versions in blocks. Runs cut it with any chunk size, with and without growth and
`--full`. Some commit, and others die and leave a part of their chunks as progress. Rows are written, deleted, and the
file is truncated and rewritten between them. Each plan is settled by the model's own counts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fix_state import stored
from floodmark.lineage import Lineage
from floodmark.model import Chunk, ChunkMark, Column, Fingerprint, Point, Reason, TableEntry, TableName
from floodmark.observed import Observation, Part, Question, TableInfo
from floodmark.pipeline import chunks
from floodmark.pipeline.detect import plan_table, settle_plan
from floodmark.pipeline.plans import ChunkPlan, Policy, TablePlan
from floodmark.pipeline.remembered import Remembered, RememberedChunk, with_finished

BLOCK = chunks.BLOCK_BYTES
NAME = TableName("public", "event")
OID = 16500
HOME = Lineage("7001", 5, "731", "2026-11-01", "2026-11-01", False)
PRINT = Fingerprint("schema", "config")
SIZES = (BLOCK, 2 * BLOCK, 3 * BLOCK, 5 * BLOCK)
Row = tuple[int, int]  # the transaction that wrote it, and a number


class Table:
    """The file of a table: the rows of each block, and the next transaction's id."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.file, self.blocks, self.xid = chance, 1, [list[Row]() for _ in range(3)], 100

    def write(self) -> None:
        """Insert at the end, or into free space, and delete: one transaction each."""
        for _ in range(self.chance.randint(1, 3)):
            kind = self.chance.choice(("extend", "insert", "delete", "empty the end", "truncate", "rewrite", "nothing"))
            self.xid += 1
            if kind == "extend":
                more = self.chance.randint(1, 9)
                self.blocks += [[(self.xid, n)] if self.chance.random() < 0.8 else [] for n in range(more)]
            elif kind == "insert":
                self.chance.choice(self.blocks).append((self.xid, 0))
            elif kind == "delete":
                block = self.chance.choice(self.blocks)
                del block[: self.chance.randint(1, 2)]
            elif kind == "empty the end":
                for block in self.blocks[self.chance.randrange(len(self.blocks)) :]:
                    block.clear()
            elif kind == "truncate":
                while len(self.blocks) > 1 and not self.blocks[-1]:
                    self.blocks.pop()
            elif kind == "rewrite" and self.chance.random() < 0.3:
                self.file += 1
                rows = [row for block in self.blocks for row in block]
                self.blocks = [rows[i : i + 2] for i in range(0, max(1, len(rows)), 2)]

    @property
    def rows(self) -> Counter[Row]:
        return Counter(row for block in self.blocks for row in block)

    def info(self) -> TableInfo:
        toast = self.chance.choice((0, 0, len(self.blocks) * BLOCK // 10))
        size = len(self.blocks) * BLOCK + toast
        part = Part(str(OID), NAME, self.file, len(self.blocks), size, by_block=True, stamp="stamp")
        return TableInfo(
            table=NAME, oid=OID, kind="r", columns=(Column("id", "int", False),), parts=(part,), fingerprint=PRINT
        )

    def read(self, chunk: Chunk, is_open: bool) -> list[Row]:
        stop = len(self.blocks) if is_open else chunk.stop
        return [row for block in self.blocks[chunk.start : stop] for row in block]

    def answer(self, asked: Question) -> Observation:
        rows = self.read(asked.chunk, asked.open)
        young = 0 if asked.probe else sum(xid >= asked.since for xid, _ in rows)
        return Observation(len(rows), young, 0, self.file)


class Job:
    """Runs on a table, and what they remember."""

    def __init__(self, table: Table) -> None:
        self.table, self.lines = table, dict[str, list[Row]]()
        self.committed, self.progress = Remembered(), list[RememberedChunk]()
        self.proven = self.mixed = 0

    def run(self, policy: Policy, kept: float | None) -> None:
        """Run and commit, or die and leave this share of the chunks as progress (`kept`)."""
        info, now = self.table.info(), self.table.xid + 1
        point = Point(f"2026-11-01T{now:06}", now, now, HOME)
        self.table.xid += 1
        known = with_finished(self.committed, self.progress, info, point)
        self.mixed += len({(one.stop or 0) - one.start for one in known.chunks}) > 1
        plan = plan_table(info, known, policy, point)
        plan = settle_plan(plan, [self.table.answer(one) for one in plan.questions], policy, known)
        done = [self.finish(one, point) for one in plan.chunks]
        self.require_all_rows_once(plan, done)
        if kept is not None:
            self.progress += [one for one in done if self.table.chance.random() < kept]
            return
        entry = TableEntry(
            schema="public", name="event", status="extracted", reason=Reason("", ""), fingerprint=PRINT, checksum=""
        )
        self.committed = Remembered(entry, {one.mark.chunk: replace(one, stamp=None) for one in done})

    def finish(self, plan: ChunkPlan, point: Point) -> RememberedChunk:
        """Settle a chunk: its object stays, or its lines are read."""
        rows = self.table.read(plan.chunk, plan.open)
        entry = plan.remembered.object if plan.remembered is not None and plan.proven is not None else None
        if plan.proven is None and rows:
            entry = stored(f"object {len(self.lines)}")
            self.lines[entry.key] = rows
        mark = ChunkMark(plan.chunk, self.table.file, len(rows), 0, None)
        return RememberedChunk(mark, point, OID, PRINT, entry, stamp="stamp")

    def require_all_rows_once(self, plan: TablePlan, done: list[RememberedChunk]) -> None:
        landed = Counter(row for one in done if one.object is not None for row in self.lines[one.object.key])
        assert landed == self.table.rows
        ends = [0, *(one.chunk.stop for one in plan.chunks)]
        assert [one.chunk.start for one in plan.chunks] == ends[:-1], "chunks overlap, or leave a gap"
        assert [one.open for one in plan.chunks] == [False] * (len(plan.chunks) - 1) + [True]
        self.proven += sum(one.proven is not None and one.remembered is not None for one in plan.chunks)


POLICIES = st.builds(Policy, st.sampled_from(SIZES), st.booleans(), grows=st.booleans())
RUNS = st.lists(
    st.tuples(POLICIES, st.none() | st.sampled_from((0.3, 0.7, 1.0)), st.booleans()), min_size=2, max_size=14
)


@contextmanager
def small_limits() -> Iterator[None]:
    """Let chunks grow at a few blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "GROWTH", ((24 * BLOCK, 8), (12 * BLOCK, 4), (6 * BLOCK, 2)))
        patch.setattr(chunks, "MIN_CHUNK_BLOCKS", 1)
        yield


def play(number: int, runs: list[tuple[Policy, float | None, bool]]) -> Job:
    with small_limits():
        job = Job(Table(random.Random(number)))
        for policy, kept, quiet in runs:
            if not quiet:
                job.table.write()
            job.run(policy, kept)
    return job


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 2**32), runs=RUNS)
def test_each_row_lands_once_whatever_the_cuts_were(number: int, runs: list[tuple[Policy, float | None, bool]]) -> None:
    play(number, runs)


def test_a_chunk_of_another_cut_with_the_same_start_and_as_many_old_rows_proves_nothing() -> None:
    """A full run cut again and died. A row of the first block is gone, and one of the second block makes up for it."""
    job = Job(Table(random.Random(1)))
    job.table.blocks = [[(1, 1)], [(1, 2)]]
    with small_limits():
        job.run(Policy(2 * BLOCK), None)
        job.run(Policy(BLOCK, full=True), 1.0)
        job.table.blocks[0].clear()
        job.run(Policy(2 * BLOCK), None)
    assert job.mixed == 1


def test_the_model_mixes_cuts_and_proves_chunks() -> None:
    chance, mixed, proven = random.Random(1), 0, 0
    for number in range(30):
        choices = [
            (
                Policy(chance.choice(SIZES), chance.random() < 0.4, grows=True),
                chance.choice((None, 0.7)),
                chance.random() < 0.5,
            )
            for _ in range(10)
        ]
        job = play(number, choices)
        mixed, proven = mixed + job.mixed, proven + job.proven
    assert mixed > 80 and proven > 150
