"""A commit to one Iceberg table: an exchange of files, with new columns and properties, or nothing of it.

Its requirement is that the table is still as this load read it. So a commit by someone else in between is a Conflict.
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
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec  # optional extra
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.table import Transaction  # optional extra
from pyiceberg.table.snapshots import Operation  # optional extra
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.load.iceberg_record import LoadedTable, is_of_load, one_try, unmoved
from floodmark.load.iceberg_schema import WantedColumn, evolve_schema, first_schema, loaded_columns

_NEW = {
    "format-version": "2",
    "write.parquet.compression-codec": "snappy",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
_MANIFEST_BYTES, _MANIFESTS = 8 * 2**20, 20


class Change:
    """A table's new state. `current` is the table as it is, or None. `load` is the load's unique mark."""

    def __init__(
        self,
        catalog: Catalog,
        identifier: Identifier,
        current: LoadedTable | None,
        wanted: Sequence[WantedColumn],
        load: str,
    ) -> None:
        self._catalog, self._identifier, self._current, self._load = catalog, identifier, current, load
        if current is None:
            schema = first_schema(wanted)
            self._transaction: Transaction = catalog.create_table_transaction(
                identifier, schema, partition_spec=self._partitions(schema), properties=_NEW
            )
        else:
            self._transaction = one_try(current.table).transaction()
            evolve_schema(self._transaction, wanted)
        self._schema: Schema = self._transaction.table_metadata.schema()
        self._columns = loaded_columns(self._schema, wanted)
        # PyIceberg has no public way to a staged table's own FileIO, with the credentials that a catalog gave for it.
        self._table = self._transaction._table
        self._added: list[DataFile] = []
        self._removed: list[DataFile] = []
        self.written: list[str] = []

    def remove_written(self) -> None:
        """Delete the files of this change. A failure leaves a file that no snapshot names."""
        for path in self.written:
            with suppress(Exception):  # the cause of the removal matters more
                self._table.io.delete(path)
        self.written = []

    def _partitions(self, schema: Schema) -> PartitionSpec:
        """Return the partitions of a new table."""
        return UNPARTITIONED_PARTITION_SPEC

    def _new_path(self, name: str) -> str:
        """Return the path of a new data file. From now on it is one of those that `remove_written` deletes."""
        path = self._table.location_provider().new_data_location(name)
        self.written.append(path)
        return path

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

    def _commit(self, properties: Mapping[str, str]) -> None:
        """Commit what is staged, together with these properties."""
        self._transaction.set_properties(dict(properties))
        try:
            self._transaction.commit_transaction()
        except (CommitFailedException, ValidationException):
            raise
        except Exception as error:
            if not self._took_effect():
                if _can_still_take_effect(error):
                    self.written = []
                raise
        self.written = []

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
