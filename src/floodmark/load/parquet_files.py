"""The files of a load: their keys below the target place, and their content.

Only the index says which files make up the tables now. `parquet` decides which are written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import IO, Any

from floodmark.layout import fitted_segment, table_segment, timestamp_moment
from floodmark.model import TableName
from floodmark.reader import extras

INDEX = "_floodmark/parquet.json"
LIST = "files.txt"
# A row group's size in memory, as Arrow stores it, unless one batch is larger.
GROUP_BYTES = 32 * 2**20
# Columns with longer average lines get no statistics, which would copy the longest values several times.
_LONG_LINE = 2**20
_LOADED = re.compile(r"-(\d{14}Z)-[0-9a-f]{6}-\d{5,}\.parquet\Z")
_LISTED = re.compile(r"/(\d{14}Z)-[0-9a-f]{6}/files\.txt\Z")


def file_key(table: TableName, load: str, number: int) -> str:
    """Return the key of one chunk's file. `load` is that load's unique mark."""
    ending = f"-{load}-{number:05d}.parquet"
    return f"{segment(table)}/{fitted_segment(_name(table), extra=len(ending))}{ending}"


def segment(table: TableName) -> str:
    """Return a table's folder below the place."""
    return fitted_segment(_name(table), extra=0)


def _name(table: TableName) -> str:
    return table_segment(table, "")


def lists(table: TableName) -> str:
    """Return the folder of a table's file lists, one for each load. A Glue table points into it."""
    return f"_floodmark/symlink/{segment(table)}"


def folders(tables: Iterable[TableName]) -> list[str]:
    """Return the folders of the tables' files and file lists."""
    return [folder for table in tables for folder in (f"{segment(table)}/", f"{lists(table)}/")]


def is_file(key: str) -> bool:
    """Return true if the key has the form of a table file."""
    return _LOADED.search(key) is not None


def begun(key: str) -> datetime | None:
    """Return the start time of the load that wrote a file or a list, or None for any other key."""
    found = _LOADED.search(key) or _LISTED.search(key)
    return None if found is None else timestamp_moment(found[1])


def is_dead(key: str, before: datetime) -> bool:
    """Return true if a load that began before this moment wrote the object."""
    moment = begun(key)
    return moment is not None and moment < before


def has_short_lines(raw_bytes: int, rows: int) -> bool:
    """Return true if rows of this size can have statistics."""
    return raw_bytes < rows * _LONG_LINE


def with_field_ids(schema: Any, ids: Sequence[int]) -> Any:
    """Return the schema of an Iceberg data file: the batches' own types, with 32-bit integers and with field ids."""
    pa = extras.pyarrow()
    fields = []
    for field, number in zip(schema, ids, strict=True):
        kind = pa.int32() if field.type == pa.int16() else field.type
        fields.append(pa.field(field.name, kind, metadata={"PARQUET:field_id": str(number)}))
    return pa.schema(fields)


def write_groups(
    file: IO[bytes] | io.RawIOBase, reader: Any, *, statistics: bool, footer: list[Any] | None = None
) -> int:
    """Write the rows of a RecordBatchReader as a Parquet file. Returns the row count.

    If `footer` is a list, the file's pyarrow.parquet.FileMetaData is appended to it.
    """
    pa = extras.pyarrow()
    options = {"compression": "snappy", "write_statistics": statistics}
    rows = 0
    with pa.parquet.ParquetWriter(file, reader.schema, metadata_collector=footer, **options) as writer:
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
