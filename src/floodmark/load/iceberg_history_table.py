"""One history's part in a load: its current rows are written again, the closed ones are added, in one commit.

A history is partitioned by `is_current`. So each file holds only current rows, or only closed ones. The files of closed
rows stay as they are, unless a column gets a type as which Iceberg can't read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from pyiceberg.catalog import Catalog  # optional extra
from pyiceberg.io import FileIO  # optional extra
from pyiceberg.io.pyarrow import schema_to_pyarrow  # optional extra
from pyiceberg.manifest import DataFile  # optional extra
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec  # optional extra
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.typedef import Identifier, Record  # optional extra

from floodmark.load.duckdb_scratch import HistoryScratch
from floodmark.load.history import TakenHistory
from floodmark.load.iceberg_catalog import translated
from floodmark.load.iceberg_change import Change
from floodmark.load.iceberg_files import FileWriter, history_file_name, present_files, rows_of
from floodmark.load.iceberg_history_record import KeptHistory, by_currency, record_of_history, told_of_history
from floodmark.load.iceberg_schema import WantedColumn
from floodmark.load.parquet_files import has_short_lines
from floodmark.model import TableName
from floodmark.reader import extras
from floodmark.reader.arrow import BatchStream

# A file's size in memory, as Arrow stores it, at which the next one begins.
_FILE_BYTES = 2**30
_READ_ROWS = 8192
_FIELD_ID = b"PARQUET:field_id"


class HistoryFiles:
    """The data files of a history as it is."""

    def __init__(self, kept: KeptHistory) -> None:
        self._io, self._label = kept.table.io, ".".join(kept.identifier)
        self.schema = kept.table.metadata.schema()
        files = present_files(kept.table.metadata.current_snapshot(), self._io).files
        self.current = [file for file in files if file.partition[0]]
        self.closed = [file for file in files if not file.partition[0]]

    def stream(self, files: Sequence[DataFile]) -> BatchStream:
        """Stream the rows of these files in the history's columns."""
        schema = schema_to_pyarrow(self.schema, include_field_ids=False)
        return BatchStream.of(schema, self._batches(files, schema))

    def _batches(self, files: Sequence[DataFile], schema: Any) -> Iterator[Any]:
        with translated("can't read the history", self._label):
            for file in files:
                yield from _rows_in(self._io, file, self.schema, schema)


class HistoryChange(Change):
    """A history's new state: staged, then committed at once. `load` is the load's unique mark."""

    def __init__(
        self,
        catalog: Catalog,
        identifier: Identifier,
        current: KeptHistory | None,
        table: TableName,
        taken: TakenHistory,
        wanted: Sequence[WantedColumn],
        load: str,
    ) -> None:
        self.table, self.taken, self.committed = table, taken, False
        super().__init__(catalog, identifier, current, wanted, load)

    def stage(self, scratch: HistoryScratch, files: HistoryFiles | None) -> None:
        """Write the files. `scratch` has computed the next history, and `files` are those of the history as it is."""
        if files is not None and self._must_rewrite(files):
            scratch.hold_closed(files.stream(files.closed))
            self._write(scratch.closed_before(), current=False)
            self._removed = [*files.current, *files.closed]
        elif files is not None:
            if scratch.counts() == (rows_of(files.current), 0):
                return  # no row was closed or opened
            self._removed = files.current
        self._write(scratch.rows(current=True), current=True)
        self._write(scratch.rows(current=False), current=False)

    def commit(self) -> None:
        """Publish the history. Raises PyIceberg's errors; after one of them, `written` are the files to remove."""
        told = told_of_history(self.taken)
        snapshot_id = self._stage_snapshot(told)
        record = record_of_history(self.table, self.taken, self._columns, self._identifier, snapshot_id, self._load)
        self._commit({**record, **told})
        self.committed = True

    @property
    def is_closing(self) -> bool:
        """Return true if the table is gone."""
        return self.taken.checksum is None

    def _partitions(self, schema: Schema) -> PartitionSpec:
        return by_currency(schema) or UNPARTITIONED_PARTITION_SPEC

    def _must_rewrite(self, files: HistoryFiles) -> bool:
        """Return true if a column was replaced, because Iceberg can't read its old values under the new type."""
        ids = {field.field_id for field in self._schema.fields}
        return any(field.field_id not in ids for field in files.schema.fields)

    def _write(self, batches: Iterator[Any], *, current: bool) -> None:
        metadata = self._table.metadata
        writer = FileWriter(self._table.io, self._schema, self._columns, metadata.default_spec_id)
        schema = schema_to_pyarrow(self._schema, include_field_ids=True)
        for first in batches:
            path = self._new_path(history_file_name(self._load, len(self.written)))
            rows = _of_one_file(chain((first,), batches))
            reader = extras.pyarrow().RecordBatchReader.from_batches(first.schema, rows).cast(schema)
            statistics = has_short_lines(first.nbytes, first.num_rows)
            self._added.append(writer.write_rows(reader, path, statistics=statistics, partition=Record(current)))


def _of_one_file(batches: Iterable[Any]) -> Iterator[Any]:
    size = 0
    for batch in batches:
        yield batch
        size += batch.nbytes
        if size >= _FILE_BYTES:
            return


def _rows_in(io: FileIO, file: DataFile, fields: Schema, schema: Any) -> Iterator[Any]:
    """Yield a file's rows a row group at a time. PyIceberg's own scan holds a whole file. Columns are found by id."""
    pa = extras.pyarrow()
    with io.new_input(file.file_path).open() as opened, pa.parquet.ParquetFile(opened) as parquet:
        there = {int((one.metadata or {})[_FIELD_ID]): at for at, one in enumerate(parquet.schema_arrow)}
        for batch in parquet.iter_batches(_READ_ROWS):
            columns = [
                batch.column(there[field.field_id]).cast(kind.type)
                if field.field_id in there
                else pa.nulls(batch.num_rows, kind.type)
                for field, kind in zip(fields.fields, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
