"""The record of a history in its Iceberg table's own properties: what it took last, and in which snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from pyiceberg.partitioning import PartitionField, PartitionSpec  # optional extra
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.table import Table  # optional extra
from pyiceberg.transforms import IdentityTransform  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.errors import ConfigError, StateUnreadable
from floodmark.load.history import IS_CURRENT, TakenHistory
from floodmark.load.iceberg_record import (
    AS_OF,
    COLUMNS,
    IDENTIFIER,
    LOAD,
    NAME,
    RUN,
    SCHEMA,
    SNAPSHOT,
    LoadedTable,
)
from floodmark.load.iceberg_schema import LoadedColumn, encode_columns
from floodmark.model import TableName
from floodmark.wording import iso_time

_FORMAT, _VERSION = "floodmark.history-format", "1"
_TAKEN = "floodmark.history-taken"
_FIRST_PARTITION_FIELD = 1000


class KeptHistory(LoadedTable):
    """A history in the catalog, and its record there. It is partitioned by `is_current`."""

    @staticmethod
    def is_ours(table: Table) -> bool:
        """Return true if a load wrote the history under this name. Raises StateUnreadable for an unknown record."""
        properties = table.metadata.properties
        version = properties.get(_FORMAT)
        if version is not None and version != _VERSION:
            raise StateUnreadable(
                "can't read the record of a history",
                on=".".join(table.name()),
                why=f"its version {version} is not known",
                hint="Load with the Floodmark that wrote it, or a newer one.",
            )
        named = properties.get(IDENTIFIER) == ".".join(table.name())
        return named and {_FORMAT, NAME, SCHEMA, COLUMNS, SNAPSHOT, _TAKEN} <= properties.keys()

    @property
    def taken(self) -> TakenHistory:
        """Return the version that the history took last. Raises StateUnreadable."""
        try:
            return msgspec.json.decode(self._record[_TAKEN], type=TakenHistory)
        except msgspec.MsgspecError:
            hint = "Rename it or drop it from the catalog. The next load then begins a new history."
            label = ".".join(self.identifier)
            raise StateUnreadable(
                "can't read the record of a history", on=label, why="it is damaged", hint=hint
            ) from None

    def has_form(self) -> bool:
        metadata = self.table.metadata
        spec = by_currency(metadata.schema())
        return metadata.format_version == 2 and spec is not None and metadata.partition_specs == [spec]

    def require_as_left(self) -> None:
        """Refuse a history that someone else changed. Nothing could tell which versions its rows are."""
        if not self.is_as_left():
            raise ConfigError(
                "can't continue a history",
                on=".".join(self.identifier),
                why="someone changed its rows, columns or partitions since the last load",
                hint="Roll it back. Or rename it or drop it from the catalog: the next load then begins a new history.",
            )


def by_currency(schema: Schema) -> PartitionSpec | None:
    """Return the partitions of a history, or None without its column."""
    field = next((one for one in schema.fields if one.name == IS_CURRENT), None)
    if field is None:
        return None
    partition = PartitionField(field.field_id, _FIRST_PARTITION_FIELD, IdentityTransform(), IS_CURRENT)
    return PartitionSpec(partition, spec_id=0)


def record_of_history(
    table: TableName,
    taken: TakenHistory,
    columns: Sequence[LoadedColumn],
    identifier: Identifier,
    snapshot_id: int | None,
    load: str,
) -> dict[str, str]:
    """Return the properties that record a history. `load` is the load's unique mark."""
    return {
        _FORMAT: _VERSION,
        IDENTIFIER: ".".join(identifier),
        NAME: table.name,
        SCHEMA: table.schema,
        COLUMNS: encode_columns(columns),
        SNAPSHOT: str(snapshot_id or ""),
        LOAD: load,
        _TAKEN: msgspec.json.encode(taken).decode(),
    }


def told_of_history(taken: TakenHistory) -> dict[str, str]:
    """Return the facts for people: a history and each of its snapshots have them."""
    return {RUN: taken.run_id, AS_OF: iso_time(taken.moment, "microseconds")}
