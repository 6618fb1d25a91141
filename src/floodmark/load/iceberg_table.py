"""One Iceberg table's part in a load: files are written first, then one commit exchanges files, columns and record.

PyIceberg commits the lot as one change of the catalog. Its requirement is that the table is still as this load read it:
a commit by someone else in between is a Conflict, and never merged. The record in the table's properties says what was
loaded, and which snapshot it is true of.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pyiceberg.catalog import Catalog  # optional extra
from pyiceberg.manifest import DataFile  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.load.chunk_files import ChunkFile, FilePlace, WrittenFile, written_files
from floodmark.load.iceberg_catalog import bucket_for_all
from floodmark.load.iceberg_change import Change
from floodmark.load.iceberg_files import FileWriter, file_name, present_files, rows_of
from floodmark.load.iceberg_record import (
    LoadedTable,
    describe_table,
    record_of,
    told_of,
    wanted_columns,
    wanted_comments,
)
from floodmark.load.iceberg_schema import LoadedColumn, files_fit
from floodmark.load.target import LoadSource, StagedTable


class TableChange(Change):
    """A table's new state: staged, then committed at once. `load` is the load's unique mark."""

    def __init__(
        self, catalog: Catalog, identifier: Identifier, current: LoadedTable | None, staged: StagedTable, load: str
    ) -> None:
        super().__init__(catalog, identifier, current, wanted_columns(staged), load)
        self._staged = staged
        self._files: list[DataFile] = []

    def stage(self) -> int:
        """Write the files of chunks that the table does not have. Returns the row count."""
        present = present_files(self._table.metadata.current_snapshot(), self._table.io)
        trusted = not self._staged.full and not present.masked and self._current is not None
        there = present.by_chunk() if trusted and files_fit(self._before(), self._columns) else {}
        writer = FileWriter(self._table.io, self._schema, self._columns, self._table.metadata.default_spec_id)
        objects = self._staged.table.objects
        found: dict[int, DataFile] = {}
        for number, one in enumerate(objects):
            taken = self._taken_over(there.get(one.content_sha256, []))
            if taken is not None:
                found[number] = taken
                self._staged.report_unchanged(one)
        new = self._written(writer, [number for number in range(len(objects)) if number not in found])
        self._added = [new[number] for number in sorted(new)]
        self._files = [file for _, file in sorted({**found, **new}.items())]
        kept = {file.file_path for file in self._files}
        self._removed = [file for file in present.files if file.file_path not in kept]
        return rows_of(self._files)

    def commit(self, source: LoadSource, run_id: str) -> None:
        """Publish the table. Raises PyIceberg's errors; after one of them, `written` are the files to remove."""
        told = told_of(self._staged, run_id)
        snapshot_id = self._stage_snapshot(told)
        record = record_of(self._staged, self._columns, self._identifier, snapshot_id, source, self._load)
        describe_table(self._transaction, wanted_comments(self._staged)[0])
        self._commit({**record, **told})

    def _before(self) -> tuple[LoadedColumn, ...]:
        return () if self._current is None else self._current.columns

    def _taken_over(self, left: list[DataFile]) -> DataFile | None:
        """Take the first of these files that exists as its manifest says. Someone can have deleted it from the store.

        A file is used for one chunk only, even if another has the same lines.
        """
        while left:
            file = left.pop(0)
            there = self._table.io.new_input(file.file_path)
            if there.exists() and len(there) == file.file_size_in_bytes:
                return file
        return None

    def _written(self, writer: FileWriter, numbers: Sequence[int]) -> dict[int, DataFile]:
        """Write the files of these chunks. Another machine writes them if it finds its credentials as this one does."""
        objects = self._staged.table.objects
        files = {n: ChunkFile(n, objects[n], self._new_path(file_name(objects[n], self._load, n))) for n in numbers}
        bucket = bucket_for_all(self._table.io, [file.key for file in files.values()])
        place = None if bucket is None else FilePlace(f"s3://{bucket}", writer.field_ids)
        write = partial(writer.write, self._staged)
        return {
            number: writer.described(files[number].key, file.size) if isinstance(file, WrittenFile) else file
            for number, file in written_files(self._staged, list(files.values()), write, place)
        }
