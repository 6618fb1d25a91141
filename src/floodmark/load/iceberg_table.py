"""One Iceberg table's part in a load: files are written first, then one commit exchanges files, columns and record.

PyIceberg commits the lot as one change of the catalog. Its requirement is that the table is still as this load read it:
a commit by someone else in between is a Conflict, and never merged. The record in the table's properties says what was
loaded, and which snapshot it is true of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pyiceberg.catalog import Catalog  # optional extra
from pyiceberg.exceptions import (  # optional extra
    CommitFailedException,
    CommitStateUnknownException,
    ValidationException,
)
from pyiceberg.manifest import DataFile, ManifestFile  # optional extra
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.table import Transaction  # optional extra
from pyiceberg.table.snapshots import Operation  # optional extra
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.load.iceberg_files import FileWriter, file_name, present_files, rows_of
from floodmark.load.iceberg_record import (
    LoadedTable,
    describe_table,
    is_of_load,
    one_try,
    record_of,
    told_of,
    unmoved,
    wanted_columns,
    wanted_comments,
)
from floodmark.load.iceberg_schema import LoadedColumn, evolve_schema, files_fit, first_schema, loaded_columns
from floodmark.load.target import LoadSource, StagedTable
from floodmark.model import ObjectEntry

_NEW = {
    "format-version": "2",
    "write.parquet.compression-codec": "snappy",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
_MANIFEST_BYTES, _MANIFESTS = 8 * 2**20, 20


class TableChange:
    """A table's new state: staged, then committed at once. `load` is the load's unique mark."""

    def __init__(
        self, catalog: Catalog, identifier: Identifier, current: LoadedTable | None, staged: StagedTable, load: str
    ) -> None:
        self._catalog, self._identifier, self._current, self._load = catalog, identifier, current, load
        self._staged = staged
        wanted = wanted_columns(staged)
        if current is None:
            schema = first_schema(wanted)
            self._transaction: Transaction = catalog.create_table_transaction(identifier, schema, properties=_NEW)
        else:
            self._transaction = one_try(current.table).transaction()
            evolve_schema(self._transaction, wanted)
        schema = self._transaction.table_metadata.schema()
        self._columns = loaded_columns(schema, wanted)
        self._schema: Schema = schema
        # PyIceberg has no public way to a staged table's own FileIO, with the credentials that a catalog gave for it.
        self._table = self._transaction._table
        self._files: list[DataFile] = []
        self._added: list[DataFile] = []
        self._removed: list[DataFile] = []
        self.written: list[str] = []

    def stage(self) -> int:
        """Write the files of chunks that the table does not have. Returns the row count."""
        present = present_files(self._table.metadata.current_snapshot(), self._table.io)
        trusted = not self._staged.full and not present.masked and self._current is not None
        there = present.by_chunk() if trusted and files_fit(self._before(), self._columns) else {}
        writer = FileWriter(self._table.io, self._schema, self._columns, self._table.metadata.default_spec_id)
        objects = self._staged.table.objects
        for number, one in enumerate(objects):
            found = self._taken_over(there.get(one.content_sha256, []))
            if found is not None:
                self._files.append(found)
                self._staged.report_unchanged(one)
            else:
                later = [other for other in objects[number + 1 :] if not there.get(other.content_sha256)]
                self._files.append(self._write(writer, one, later, number))
        kept = {file.file_path for file in self._files}
        self._removed = [file for file in present.files if file.file_path not in kept]
        return rows_of(self._files)

    def commit(self, source: LoadSource, run_id: str) -> None:
        """Publish the table. Raises PyIceberg's errors; after one of them, `written` are the files to remove."""
        told = told_of(self._staged, run_id)
        snapshot_id = self._stage_snapshot(told)
        record = record_of(self._staged, self._columns, self._identifier, snapshot_id, source, self._load)
        describe_table(self._transaction, wanted_comments(self._staged)[0])
        self._transaction.set_properties({**record, **told})
        self._commit()
        self.written = []

    def remove_written(self) -> None:
        """Delete the files of this change. A failure leaves a file that no snapshot names."""
        for path in self.written:
            with suppress(Exception):  # the cause of the removal matters more
                self._table.io.delete(path)
        self.written = []

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

    def _write(self, writer: FileWriter, one: ObjectEntry, after: Sequence[ObjectEntry], number: int) -> DataFile:
        path = self._table.location_provider().new_data_location(file_name(one, self._load, number))
        self.written.append(path)
        file = writer.write(self._staged, one, after, path)
        self._added.append(file)
        return file

    def _stage_snapshot(self, told: Mapping[str, str]) -> int | None:
        """Stage the exchange of files, if there is one. Returns the id of the snapshot that is current then."""
        current = None if self._current is None else self._current.snapshot_id
        if not self._added and not self._removed:
            self._transaction._stage((), unmoved(current))
            return current
        exchange = _Exchange(
            operation=Operation.APPEND if current is None else Operation.OVERWRITE,
            transaction=self._transaction,
            io=self._table.io,
            snapshot_properties={name: value for name, value in told.items() if value},
        )
        for file in self._added:
            exchange.append_data_file(file)
        for file in self._removed:
            exchange.delete_data_file(file)
        exchange.commit()
        return exchange.snapshot_id

    def _commit(self) -> None:
        try:
            self._transaction.commit_transaction()
        except (CommitFailedException, ValidationException):
            raise
        except Exception as error:
            if self._took_effect():
                return
            if _can_still_take_effect(error):
                self.written = []
            raise

    def _took_effect(self) -> bool:
        """Return true if the catalog has this change although its answer was lost."""
        with suppress(Exception):
            return is_of_load(self._catalog.load_table(self._identifier), self._load)
        self.written = []  # the catalog may name these files: they stay
        return False


def _can_still_take_effect(error: Exception) -> bool:
    """Return true if the catalog can still be at work on the change: its answer is lost, and is no refusal."""
    library = type(error).__module__.partition(".")[0]
    unanswered = isinstance(error, CommitStateUnknownException) or library in ("requests", "urllib3", "botocore")
    return unanswered or bool(getattr(error, "connection_invalidated", False))  # the latter is SQLAlchemy's


class _Exchange(_OverwriteFiles):
    """PyIceberg's overwrite, with fewer manifests: empty ones are left out, and many small ones are merged."""

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        ours = self.snapshot_id
        live = [m for m in manifests if m.added_snapshot_id == ours or m.has_added_files() or m.has_existing_files()]
        return _ManifestMergeManager(_MANIFEST_BYTES, _MANIFESTS, True, self).merge_manifests(live)
