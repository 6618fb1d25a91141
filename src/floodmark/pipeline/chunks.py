"""Chunks: the division of a table's parts into ranges of blocks that can be compared from run to run. Pure."""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from floodmark.model import Chunk
from floodmark.observed import Part, TableInfo
from floodmark.pipeline.remembered import Remembered

BLOCK_BYTES = 8192
# A chunk has at least this many blocks, however wide its rows are. The number must stay small as a table grows.
MIN_CHUNK_BLOCKS = 8
GIB = 1024**3
# The size of a table from which its chunks are larger, and how many times: see docs/scale.md. A chunk takes memory and
# requests in every run, whatever its size, so the number of chunks must not grow as fast as the data.
GROWTH = ((64 * GIB, 8), (16 * GIB, 4), (4 * GIB, 2))
# Growth ends here: a migration can wait for a chunk, and its compressed lines wait in a temporary file.
MOST_GROWN = 512 * 1024**2
# A run that reads everything anyway keeps chunks whose size differs by less than this factor. Growth doubles them, and
# the blocks of a chunk also depend on the share of TOAST, which changes as a table grows.
VERY_DIFFERENT = 1.5


class FileCut(Struct):
    """The cut of a part's file: the blocks in a chunk, and the end of the last chunk that held rows."""

    step: int
    end: int = 0


def grown_chunk_bytes(table_bytes: int, chunk_bytes: int) -> int:
    """Return the chunk size for a table of this size, which is a few times `chunk_bytes` if the table is large."""
    times = next((times for size, times in GROWTH if table_bytes >= size), 1)
    return max(chunk_bytes, min(times * chunk_bytes, MOST_GROWN))


def new_chunk_bytes(info: TableInfo, chunk_bytes: int, *, grows: bool) -> int:
    """Return the size of a table's new chunks. It depends on the whole table, so a new partition's fit the others."""
    if not grows:
        return chunk_bytes
    return grown_chunk_bytes(sum(part.total_bytes for part in info.parts), chunk_bytes)


def chunks_of(
    part: Part, known: FileCut | None, chunk_bytes: int, *, all_read: bool = False
) -> list[tuple[Chunk, bool]]:
    """Return a part's chunks in order, each with True if it is the last.

    A part keeps its chunk size as long as its file exists, so that chunks stay comparable. Only if all of it is read
    anyway (`all_read`), a very different size takes effect. The last chunk is read to the end of the part. It never
    includes a chunk that held rows: its row count would then be compared with the count of fewer blocks.
    """
    if not part.by_block:
        return _ranges_of(part)
    wanted = _chunk_blocks(part, chunk_bytes)
    if known is not None and all_read and not known.step / VERY_DIFFERENT < wanted < known.step * VERY_DIFFERENT:
        known = None
    step = known.step if known is not None else wanted
    end = max(part.heap_blocks, known.end if known is not None else 0)
    number = max(1, ceil(end / step))
    return [(Chunk(part.id, i * step, (i + 1) * step), i == number - 1) for i in range(number)]


def _ranges_of(part: Part) -> list[tuple[Chunk, bool]]:
    """Return the chunks of a part that is read by ranges of a key, or whole."""
    if part.ranges < 2:
        return [(Chunk(part.id), True)]
    return [(Chunk(part.id, i, i + 1), i == part.ranges - 1) for i in range(part.ranges)]


def remembered_cuts(remembered: Remembered) -> dict[str, dict[int, FileCut]]:
    """Return how the remembered chunks were cut, by part and relfilenode."""
    cuts: dict[str, dict[int, FileCut]] = {}
    for chunk, known in remembered.chunks.items():
        if chunk.stop is not None and chunk.stop > chunk.start:
            cut = cuts.setdefault(chunk.part, {}).setdefault(known.mark.relfilenode, FileCut(chunk.stop - chunk.start))
            if known.mark.rows:
                cut.end = max(cut.end, chunk.stop)
    return cuts


def _chunk_blocks(part: Part, chunk_bytes: int) -> int:
    per_block = max(BLOCK_BYTES, part.total_bytes // max(1, part.heap_blocks))
    return max(MIN_CHUNK_BLOCKS, chunk_bytes // per_block)
