"""Record batches as one Parquet file, in row groups of a size that memory holds. Where the file goes is `parquet`'s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any

from floodmark.consume import extras
from floodmark.model import ObjectEntry

# What a row group has in memory, as Arrow has it, or the size of one batch that is larger.
GROUP_BYTES = 32 * 2**20
# Lines that are longer on average have no statistics: these would be copies of the longest values, several of each.
_LONG_LINE = 2**20


def write_groups(file: IO[bytes], reader: Any, one: ObjectEntry) -> int:
    """A chunk's rows, of a RecordBatchReader, as a Parquet file. Returns how many."""
    pa = extras.pyarrow()
    statistics, rows = one.raw_bytes < one.rows * _LONG_LINE, 0
    with pa.parquet.ParquetWriter(file, reader.schema, compression="snappy", write_statistics=statistics) as writer:
        for group in _groups(reader):
            writer.write_table(pa.Table.from_batches(group))
            rows += sum(batch.num_rows for batch in group)
    return rows


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
