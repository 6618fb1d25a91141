"""Record batches as one Parquet file, in row groups that fit in memory. `parquet` decides the file's place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Any

from floodmark.model import ObjectEntry
from floodmark.reader import extras

# A row group's size in memory, as Arrow stores it, unless one batch is larger.
GROUP_BYTES = 32 * 2**20
# Columns with longer average lines get no statistics, which would copy the longest values several times.
_LONG_LINE = 2**20


def write_groups(file: IO[bytes], reader: Any, one: ObjectEntry) -> int:
    """Write a chunk's rows from a RecordBatchReader as a Parquet file. Returns the row count."""
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
