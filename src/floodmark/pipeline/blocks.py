"""The proof by written blocks: a chunk in which no block was written since it was read holds what it held. Pure.

docs/change-detection.md holds the proof. Only chunks that would be counted are considered, so lineage, definition and
file are already known to be the same. Any doubt leaves the question, and the rows are counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from msgspec import UNSET
from msgspec.structs import replace

from floodmark.lineage import same_history
from floodmark.model import Point, WalBase
from floodmark.observed import BlockQuestion, Observation, WrittenBlocks
from floodmark.pipeline.chunks import BLOCK_BYTES
from floodmark.pipeline.plans import ChunkPlan, TablePlan
from floodmark.pipeline.remembered import Remembered

# Tables that runs left out have older bases. The list is asked for once for each base, the newest ones first.
MOST_BASES = 8
_NO_BASE = (
    "no checkpoint was remembered when the rows were last read or proven, because there were no WAL summaries, a "
    "transaction was open, or the table was locked"
)


def base_of(chunk: ChunkPlan) -> WalBase | None:
    """Return from where on the list of written blocks can prove a chunk, or None if it can't.

    Whoever can have changed the chunk's rows since has an id from x1 on. At the base, nobody had such an id yet. So all
    that they wrote lies after it.
    """
    known = chunk.remembered
    if chunk.question is None or chunk.question.watched is not None or known is None:
        return None
    if not chunk.part.by_block or not chunk.part.logged or chunk.chunk.stop is None:
        return None
    base, x1 = known.point.wal, known.point.xmin
    return base if base is not UNSET and x1 is not None and base.next_xid <= x1 else None


def block_questions(plans: Iterable[TablePlan]) -> list[BlockQuestion]:
    """Return what to ask the list of written blocks, the newest base first."""
    files: dict[WalBase, dict[int, int]] = {}
    for plan in plans:
        for chunk in plan.chunks:
            base = base_of(chunk)
            if base is not None:
                grains = files.setdefault(base, {})
                size = _blocks(chunk)
                grains[chunk.part.relfilenode] = min(size, grains.get(chunk.part.relfilenode, size))
    bases = sorted(files, key=_age, reverse=True)[:MOST_BASES]
    return [BlockQuestion(base, files[base]) for base in bases]


def bytes_to_spare(plans: Iterable[TablePlan]) -> int:
    """Return how many bytes of the source need not be scanned if no block was written."""
    chunks = [chunk for plan in plans for chunk in plan.chunks if base_of(chunk) is not None]
    return BLOCK_BYTES * sum(max(0, min(one.part.heap_blocks - one.chunk.start, _blocks(one))) for one in chunks)


def prove_unwritten(plan: TablePlan, answers: Mapping[WalBase, WrittenBlocks]) -> TablePlan:
    """Return the plan with a proof for each chunk in which no block was written."""
    chunks = tuple(_prove_chunk(chunk, answers) for chunk in plan.chunks)
    return replace(plan, chunks=chunks, why_counted=_why_counted(chunks, answers))


def _prove_chunk(chunk: ChunkPlan, answers: Mapping[WalBase, WrittenBlocks]) -> ChunkPlan:
    base, known = base_of(chunk), chunk.remembered
    answer = None if base is None else answers.get(base)
    if answer is None or known is None or not _is_unwritten(chunk, answer):
        return chunk
    mark = known.mark
    seen = Observation(mark.rows, 0, mark.frozen, mark.relfilenode)
    return replace(chunk, question=None, proven=seen, unwritten=True)


def _is_unwritten(chunk: ChunkPlan, answer: WrittenBlocks) -> bool:
    """Return True if no block of a chunk is listed, and its file was not cut below the chunk's end.

    The last chunk of a part has no end: it is read to the end of the file.
    """
    file, start, stop = chunk.part.relfilenode, chunk.chunk.start, chunk.chunk.stop
    if answer.doubt is not None or stop is None:
        return False
    limit = answer.limits.get(file)
    if limit is not None and (chunk.open or limit <= stop):
        return False
    ranges = answer.ranges.get(file, ())
    number = bisect_right(ranges, start, key=itemgetter(1))  # the first that ends after the chunk's start
    return number == len(ranges) or (not chunk.open and ranges[number][0] >= stop)


def _why_counted(chunks: Sequence[ChunkPlan], answers: Mapping[WalBase, WrittenBlocks]) -> str | None:
    """Return why remembered chunks are counted: "" if blocks of theirs were written. None if all are proven."""
    asked = False
    for chunk in chunks:
        if chunk.question is None or chunk.remembered is None or chunk.question.watched is not None:
            continue
        base = base_of(chunk)
        if base is None:
            return _NO_BASE if chunk.part.logged else "the table is unlogged"
        if base in answers and answers[base].doubt is not None:
            return answers[base].doubt
        asked = True
    return "" if asked else None


def with_base(point: Point, remembered: Iterable[Remembered]) -> Point:
    """Return the point with the newest base that serves for what is read under it, or without one.

    The source's last checkpoint can be too late for it: then a transaction is open that had an id before. A base that
    an earlier run remembered can serve.
    """
    if point.wal is UNSET or point.xmin is None:
        return replace(point, wal=UNSET)
    marks = (known.entry.watermark for known in remembered if known.entry is not None)
    points = {mark.point for mark in marks if mark is not None and same_history(mark.point.lineage, point.lineage)}
    bases = {point.wal, *(one.wal for one in points if one.wal is not UNSET)}
    usable = [one for one in bases if one.next_xid <= point.xmin and one.timeline == point.wal.timeline]
    return replace(point, wal=max(usable, key=_age, default=UNSET))


def _age(base: WalBase) -> tuple[int, int]:
    """Return a key by which a later base is greater. The counter of ids never decreases, and neither does the WAL."""
    high, _, low = base.lsn.partition("/")
    return int(high, 16), int(low, 16)


def _blocks(chunk: ChunkPlan) -> int:
    return 1 if chunk.chunk.stop is None else chunk.chunk.stop - chunk.chunk.start
