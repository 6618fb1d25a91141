"""The record of what a load left in an Iceberg table: its properties, and the check that the table is still like that.

The record is committed together with what it describes. It says which snapshot it is true of, so that any later change
by someone else shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from pyiceberg.catalog import Catalog  # optional extra
from pyiceberg.table import Table, Transaction  # optional extra
from pyiceberg.table.refs import MAIN_BRANCH  # optional extra
from pyiceberg.table.snapshots import Operation  # optional extra
from pyiceberg.table.update import AssertRefSnapshotId  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.errors import ConfigError, StateUnreadable
from floodmark.load.comments import column_comments, table_comment
from floodmark.load.iceberg_schema import (
    LoadedColumn,
    WantedColumn,
    decode_columns,
    encode_columns,
    evolve_schema,
    is_as_loaded,
)
from floodmark.load.target import LoadSource, StagedTable
from floodmark.model import TableName

NAME, SCHEMA = "floodmark.table", "floodmark.schema"
_CHECKSUM, _SHAPE = "floodmark.checksum", "floodmark.shape"
COLUMNS, SNAPSHOT, _SOURCE = "floodmark.columns", "floodmark.snapshot-id", "floodmark.source"
LOAD, RUN, _MANIFEST, AS_OF = "floodmark.load", "floodmark.run-id", "floodmark.manifest", "floodmark.as-of"
_COMMENT = "comment"
_FORMAT, _VERSION = "floodmark.format", "1"
IDENTIFIER = "floodmark.identifier"
# PyIceberg would merge this load's change with another writer's, and try again.
_ONE_TRY = {"commit.retry.num-retries": "0"}


class LoadedTable:
    """A table in the catalog that a load wrote, and its record there."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.identifier: Identifier = table.name()
        self._record = table.metadata.properties

    @staticmethod
    def is_ours(table: Table) -> bool:
        """Return true if a load wrote the table under this name. A copy, and a renamed table, belong to someone else.

        Raises StateUnreadable if only a newer Floodmark knows its record.
        """
        properties = table.metadata.properties
        version = properties.get(_FORMAT)
        if version is not None and version != _VERSION:
            raise StateUnreadable(
                "can't read the record of an Iceberg table",
                on=".".join(table.name()),
                why=f"its version {version} is not known",
                hint="Load with the Floodmark that wrote it, or a newer one.",
            )
        named = properties.get(IDENTIFIER) == ".".join(table.name())
        return named and {_FORMAT, NAME, SCHEMA, _SOURCE, COLUMNS, SNAPSHOT} <= properties.keys()

    @property
    def name(self) -> TableName:
        return TableName(self._record[SCHEMA], self._record[NAME])

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
        return decode_columns(self._record[COLUMNS])

    @property
    def snapshot_id(self) -> int | None:
        snapshot = self.table.metadata.current_snapshot()
        return None if snapshot is None else snapshot.snapshot_id

    def is_as_left(self) -> bool:
        """Return true if the table has the recorded columns and the rows of the recorded snapshot."""
        as_loaded = is_as_loaded(self.table.metadata.schema(), self.columns)
        return self.has_form() and as_loaded and self._has_recorded_rows()

    def has_form(self) -> bool:
        """Return true if the table has the partitions and the format version of a load."""
        return self.table.metadata.spec().is_unpartitioned() and self.table.metadata.format_version == 2

    def _has_recorded_rows(self) -> bool:
        """Follow the snapshots back to the recorded one. Replacing files, such as by a compaction, changes no row."""
        metadata, recorded = self.table.metadata, self._record[SNAPSHOT]
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
        transaction._stage((), unmoved(self.snapshot_id))
        evolve_schema(transaction, wanted_columns(staged))
        describe_table(transaction, wanted_comments(staged)[0])
        transaction.commit_transaction()

    def adopt(self, source: LoadSource, catalog: Catalog) -> None:
        """Record another source database."""
        transaction = one_try(self.table).transaction()
        transaction._stage((), unmoved(self.snapshot_id))
        transaction.set_properties({_SOURCE: _encoded(source)})
        transaction.commit_transaction()


def record_of(
    staged: StagedTable,
    columns: Sequence[LoadedColumn],
    identifier: Identifier,
    snapshot_id: int | None,
    source: LoadSource,
    load: str,
) -> dict[str, str]:
    """Return the properties that record a loaded table. `load` is the load's unique mark."""
    return {
        _FORMAT: _VERSION,
        IDENTIFIER: ".".join(identifier),
        NAME: staged.table.name.name,
        SCHEMA: staged.table.name.schema,
        _CHECKSUM: staged.table.entry.checksum or "",
        _SHAPE: staged.shape,
        COLUMNS: encode_columns(columns),
        SNAPSHOT: str(snapshot_id or ""),
        _SOURCE: _encoded(source),
        LOAD: load,
    }


def told_of(staged: StagedTable, run_id: str) -> dict[str, str]:
    """Return the facts for people: a table and each of its snapshots have them."""
    return {RUN: run_id, AS_OF: staged.table.entry.as_of or "", _MANIFEST: staged.manifest or ""}


def is_of_load(table: Table, load: str) -> bool:
    return table.metadata.properties.get(LOAD) == load


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
    if not current.has_form():
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


def describe_table(transaction: Transaction, comment: str) -> None:
    """Stage the table's comment, or its removal."""
    if comment:
        transaction.set_properties({_COMMENT: comment})
    elif _COMMENT in transaction.table_metadata.properties:
        transaction.remove_properties(_COMMENT)


def wanted_columns(staged: StagedTable) -> list[WantedColumn]:
    """Return the columns that the table is to have."""
    found = zip(staged.table.columns, staged.types, column_comments(staged.table), strict=True)
    return [WantedColumn(column.name, kind, comment or None) for column, kind, comment in found]


def unmoved(snapshot_id: int | None) -> tuple[AssertRefSnapshotId, ...]:
    """Return the requirement that this is still the current snapshot. A commit without a snapshot needs it too."""
    return (AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": snapshot_id}),)


def _encoded(source: LoadSource) -> str:
    return msgspec.json.encode(source).decode()
