"""One Iceberg table's part in a load: files are written first, then one commit exchanges files, columns and record.

PyIceberg commits the lot as one change of the catalog. Its requirement is that the table is still as this load read it:
a commit by someone else in between is a Conflict, and never merged. The record in the table's properties says what was
loaded, and which snapshot it is true of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from pyiceberg.catalog import Catalog  # optional extra
from pyiceberg.exceptions import CommitFailedException, ValidationException  # optional extra
from pyiceberg.manifest import DataFile, ManifestFile  # optional extra
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.table import Table, Transaction  # optional extra
from pyiceberg.table.refs import MAIN_BRANCH  # optional extra
from pyiceberg.table.snapshots import Operation  # optional extra
from pyiceberg.table.update import AssertRefSnapshotId  # optional extra
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.errors import ConfigError
from floodmark.load.comments import column_comments, table_comment
from floodmark.load.iceberg_files import FileWriter, file_name, present_files, rows_of
from floodmark.load.iceberg_schema import (
    LoadedColumn,
    WantedColumn,
    decode_columns,
    encode_columns,
    evolve_schema,
    files_fit,
    first_schema,
    is_as_loaded,
    loaded_columns,
)
from floodmark.load.target import LoadSource, StagedTable
from floodmark.model import ObjectEntry, TableName

_NAME, _SCHEMA = "floodmark.table", "floodmark.schema"
_CHECKSUM, _SHAPE = "floodmark.checksum", "floodmark.shape"
_COLUMNS, _SNAPSHOT, _SOURCE = "floodmark.columns", "floodmark.snapshot-id", "floodmark.source"
_LOAD, _RUN, _MANIFEST, _AS_OF = "floodmark.load", "floodmark.run-id", "floodmark.manifest", "floodmark.as-of"
_COMMENT = "comment"
# PyIceberg would merge this load's change with another writer's, and try again.
_ONE_TRY = {"commit.retry.num-retries": "0"}
_NEW = {
    "format-version": "2",
    "write.parquet.compression-codec": "snappy",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
_MANIFEST_BYTES, _MANIFESTS = 8 * 2**20, 20


class LoadedTable:
    """A table in the catalog that a load wrote, and its record there."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.identifier: Identifier = table.name()
        self._record = table.metadata.properties

    @staticmethod
    def is_ours(table: Table) -> bool:
        return {_NAME, _SCHEMA, _SOURCE, _COLUMNS, _SNAPSHOT} <= table.metadata.properties.keys()

    @property
    def name(self) -> TableName:
        return TableName(self._record[_SCHEMA], self._record[_NAME])

    @property
    def source(self) -> LoadSource:
        try:
            return msgspec.json.decode(self._record[_SOURCE], type=LoadSource)
        except msgspec.MsgspecError:
            return LoadSource("unknown", "unknown", "unknown")

    @property
    def marks(self) -> tuple[str, str]:
        """Return checksum and shape as recorded. They are empty if the table is not as the load left it."""
        return (self._record.get(_CHECKSUM, ""), self._record.get(_SHAPE, "")) if self.is_as_left() else ("", "")

    @property
    def columns(self) -> tuple[LoadedColumn, ...]:
        return decode_columns(self._record[_COLUMNS])

    @property
    def snapshot_id(self) -> int | None:
        snapshot = self.table.metadata.current_snapshot()
        return None if snapshot is None else snapshot.snapshot_id

    def is_as_left(self) -> bool:
        """Return true if the table has the recorded columns and the rows of the recorded snapshot."""
        metadata = self.table.metadata
        plain = metadata.spec().is_unpartitioned() and metadata.format_version == 2
        return plain and is_as_loaded(metadata.schema(), self.columns) and self._has_recorded_rows()

    def _has_recorded_rows(self) -> bool:
        """Follow the snapshots back to the recorded one. Replacing files, such as by a compaction, changes no row."""
        metadata, recorded = self.table.metadata, self._record[_SNAPSHOT]
        at = self.snapshot_id
        while str(at or "") != recorded:
            snapshot = None if at is None else metadata.snapshot_by_id(at)
            if snapshot is None or snapshot.summary is None or snapshot.summary.operation != Operation.REPLACE:
                return False
            at = snapshot.parent_snapshot_id
        return True

    @property
    def comments(self) -> tuple[str, dict[str, str]]:
        """Return the comments on the table and on each column, or empty texts."""
        metadata = self.table.metadata
        return metadata.properties.get(_COMMENT, ""), {one.name: one.doc or "" for one in metadata.schema().fields}

    def describe(self, staged: StagedTable) -> None:
        """Commit the source's comments."""
        transaction = one_try(self.table).transaction()
        transaction._stage((), _unmoved(self.snapshot_id))
        evolve_schema(transaction, _wanted_columns(staged))
        _describe_table(transaction, wanted_comments(staged)[0])
        transaction.commit_transaction()

    def adopt(self, source: LoadSource, catalog: Catalog) -> None:
        """Record another source database."""
        transaction = one_try(self.table).transaction()
        transaction._stage((), _unmoved(self.snapshot_id))
        transaction.set_properties({_SOURCE: _encoded(source)})
        transaction.commit_transaction()


class TableChange:
    """A table's new state: staged, then committed at once. `load` is the load's unique mark."""

    def __init__(
        self, catalog: Catalog, identifier: Identifier, current: LoadedTable | None, staged: StagedTable, load: str
    ) -> None:
        self._catalog, self._identifier, self._current, self._load = catalog, identifier, current, load
        self._staged = staged
        wanted = _wanted_columns(staged)
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
            left = there.get(one.content_sha256)
            if left:
                self._files.append(left.pop(0))
                self._staged.report_unchanged(one)
            else:
                later = [other for other in objects[number + 1 :] if not there.get(other.content_sha256)]
                self._files.append(self._write(writer, one, later, number))
        kept = {file.file_path for file in self._files}
        self._removed = [file for file in present.files if file.file_path not in kept]
        return rows_of(self._files)

    def commit(self, source: LoadSource, run_id: str) -> None:
        """Publish the table. Raises PyIceberg's errors; after one of them, `written` are the files to remove."""
        entry = self._staged.table.entry
        told = {_RUN: run_id, _AS_OF: entry.as_of or "", _MANIFEST: self._staged.manifest or ""}
        snapshot_id = self._stage_snapshot(told)
        record = {
            _NAME: self._staged.table.name.name,
            _SCHEMA: self._staged.table.name.schema,
            _CHECKSUM: entry.checksum or "",
            _SHAPE: self._staged.shape,
            _COLUMNS: encode_columns(self._columns),
            _SNAPSHOT: str(snapshot_id or ""),
            _SOURCE: _encoded(source),
            _LOAD: self._load,
        }
        _describe_table(self._transaction, wanted_comments(self._staged)[0])
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
            self._transaction._stage((), _unmoved(current))
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
        except Exception:
            if not self._took_effect():
                raise

    def _took_effect(self) -> bool:
        """Return true if the catalog has this change although its answer was lost."""
        with suppress(Exception):
            return self._catalog.load_table(self._identifier).metadata.properties.get(_LOAD) == self._load
        self.written = []  # the catalog may name these files: they stay
        return False


class _Exchange(_OverwriteFiles):
    """PyIceberg's overwrite, with fewer manifests: empty ones are left out, and many small ones are merged."""

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        ours = self.snapshot_id
        live = [m for m in manifests if m.added_snapshot_id == ours or m.has_added_files() or m.has_existing_files()]
        return _ManifestMergeManager(_MANIFEST_BYTES, _MANIFESTS, True, self).merge_manifests(live)


def one_try(table: Table) -> Table:
    """Return the table with PyIceberg's own retries turned off, for this process only."""
    metadata = table.metadata
    table.metadata = metadata.model_copy(update={"properties": {**metadata.properties, **_ONE_TRY}})
    return table


def require_as_left(current: LoadedTable, staged: StagedTable) -> None:
    """Refuse a table that someone else changed. With `--full` it is replaced, if it still has Floodmark's form."""
    if current.is_as_left():
        return
    label = ".".join(current.identifier)
    metadata = current.table.metadata
    if not metadata.spec().is_unpartitioned() or metadata.format_version != 2:
        why = "someone partitioned it, or changed its format version"
        hint = "Drop it from the catalog, and load again."
        raise ConfigError("can't replace an Iceberg table", on=label, why=why, hint=hint)
    if not staged.full:
        why = "someone changed its rows or columns since the last load"
        hint = f"Replace it with --full --table {staged.table.label}. Or leave it out with --exclude."
        raise ConfigError("can't load over these changes", on=label, why=why, hint=hint)


def wanted_comments(staged: StagedTable) -> tuple[str, dict[str, str]]:
    """Return the source's comments, as `LoadedTable.comments` has them."""
    names = [column.name for column in staged.table.columns]
    return table_comment(staged.table), dict(zip(names, column_comments(staged.table), strict=True))


def _describe_table(transaction: Transaction, comment: str) -> None:
    if comment:
        transaction.set_properties({_COMMENT: comment})
    elif _COMMENT in transaction.table_metadata.properties:
        transaction.remove_properties(_COMMENT)


def _wanted_columns(staged: StagedTable) -> list[WantedColumn]:
    found = zip(staged.table.columns, staged.types, column_comments(staged.table), strict=True)
    return [WantedColumn(column.name, kind, comment or None) for column, kind, comment in found]


def _unmoved(snapshot_id: int | None) -> tuple[AssertRefSnapshotId, ...]:
    """Return the requirement that this is still the current snapshot. A commit without a snapshot needs it too."""
    return (AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": snapshot_id}),)


def _encoded(source: LoadSource) -> str:
    return msgspec.json.encode(source).decode()
