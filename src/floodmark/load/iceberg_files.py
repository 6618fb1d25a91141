"""Data files of an Iceberg table: one per chunk, named after the digest of the chunk's lines.

The name is the record of what a file holds. It is part of every manifest, so it survives new schemas, expired snapshots
and files that others compact: a file without such a name is nobody's chunk.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import IO, Any, cast

from msgspec import Struct
from pyiceberg.io import FileIO  # optional extra
from pyiceberg.io.pyarrow import (  # optional extra
    DataFileStatistics,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent  # optional extra
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.table.snapshots import Snapshot  # optional extra
from pyiceberg.typedef import Record  # optional extra

from floodmark.errors import StorageError
from floodmark.load.chunk_files import ChunkFile
from floodmark.load.iceberg_schema import LoadedColumn
from floodmark.load.parquet_files import has_short_lines, with_field_ids, write_groups
from floodmark.load.target import StagedTable
from floodmark.model import ObjectEntry
from floodmark.reader import extras

_FILE = re.compile(r"(?:^|/)([0-9a-f]{64}|history)-\d{14}Z-[0-9a-f]{6}-\d{5,}\.parquet\Z")
_ONLY_COUNTS = {"write.metadata.metrics.default": "counts"}


class PresentFiles(Struct, frozen=True):
    """The data files of a table's snapshot. `masked` is true if delete files can hide some of their rows."""

    files: tuple[DataFile, ...] = ()
    masked: bool = False

    def by_chunk(self) -> dict[str, list[DataFile]]:
        """Return the files of chunks, by the digest of their lines."""
        found: dict[str, list[DataFile]] = defaultdict(list)
        for file in self.files:
            name = _FILE.search(file.file_path)
            if name is not None:
                found[name[1]].append(file)
        return found


def file_name(one: ObjectEntry, load: str, number: int) -> str:
    """Return the name of a chunk's file. `load` is that load's unique mark."""
    return f"{one.content_sha256}-{load}-{number:05d}.parquet"


def history_file_name(load: str, number: int) -> str:
    """Return the name of a history's file."""
    return f"history-{load}-{number:05d}.parquet"


def is_loaded_file(path: str) -> bool:
    """Return true if a file has the name of a file that a load writes."""
    return _FILE.search(path) is not None


def present_files(snapshot: Snapshot | None, io: FileIO) -> PresentFiles:
    """Read a snapshot's manifests."""
    files: list[DataFile] = []
    masked = False
    for manifest in snapshot.manifests(io) if snapshot is not None else ():
        entries = manifest.fetch_manifest_entry(io)
        if manifest.content == ManifestContent.DELETES:
            masked = masked or bool(entries)
        else:
            files += [entry.data_file for entry in entries if entry.data_file.content == DataFileContent.DATA]
    return PresentFiles(tuple(files), masked)


class FileWriter(Struct, frozen=True):
    """A writer of data files in a table's columns. `spec_id` is the table's only partition spec."""

    io: FileIO
    schema: Schema
    columns: tuple[LoadedColumn, ...]
    spec_id: int

    def write(self, staged: StagedTable, file: ChunkFile) -> DataFile:
        """Write a chunk's file. Raises the errors of reading the chunk, and those of PyArrow."""
        one, stream = file.one, staged.stream(infinite=False, chunks=[file.one])
        reader = stream.reader.cast(with_field_ids(stream.reader.schema, self.field_ids))
        return self.write_rows(reader, file.key, statistics=has_short_lines(one.raw_bytes, one.rows))

    def described(self, path: str, size: int) -> DataFile:
        """Return a data file that another machine wrote. Its bounds hold values, so they are read from the file."""
        try:
            with self.io.new_input(path).open() as file:
                footer = extras.pyarrow().parquet.read_metadata(file)
        except FileNotFoundError:
            hint = "Give the workers the same AWS_ENDPOINT_URL_S3 as this process."
            raise StorageError("a worker's file is missing", on=path, why="it was put elsewhere", hint=hint) from None
        return self._data_file(path, size, footer, Record())

    @property
    def field_ids(self) -> tuple[int, ...]:
        return tuple(column.id for column in self.columns)

    def write_rows(self, reader: Any, path: str, *, statistics: bool, partition: Record | None = None) -> DataFile:
        """Write the rows of a RecordBatchReader, whose fields have ids. Raises the errors of the reader and PyArrow."""
        footer: list[Any] = []
        with self.io.new_output(path).create() as file:
            write_groups(cast(IO[bytes], file), reader, statistics=statistics, footer=footer)
            size = cast(IO[bytes], file).tell()
        return self._data_file(path, size, footer[0], Record() if partition is None else partition)

    def _data_file(self, path: str, size: int, footer: Any, partition: Record) -> DataFile:
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=size,
            sort_order_id=None,
            spec_id=self.spec_id,
            equality_ids=None,
            key_metadata=None,
            **self._statistics(footer).to_serialized_dict(),
        )

    def _statistics(self, footer: Any) -> DataFileStatistics:
        """Return counts and bounds, or only counts: Python has no date before the year 1 or after 9999 for a bound."""
        ids = parquet_path_to_id_mapping(self.schema)
        try:
            return data_file_statistics_from_parquet_metadata(footer, compute_statistics_plan(self.schema, {}), ids)
        except (OverflowError, ValueError):
            plan = compute_statistics_plan(self.schema, _ONLY_COUNTS)
            return data_file_statistics_from_parquet_metadata(footer, plan, ids)


def rows_of(files: Iterable[DataFile]) -> int:
    return sum(file.record_count for file in files)
