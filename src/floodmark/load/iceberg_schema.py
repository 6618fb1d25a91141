"""Columns of an Iceberg table: their types, and the smallest change that turns one schema into another.

A column keeps its field id while its name stays and Iceberg can read its old files under the new type. Otherwise the
column is replaced by one with a new id. A rename looks like a new column, because nothing proves that it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
from msgspec import Struct
from pyiceberg.schema import Schema  # optional extra
from pyiceberg.table import Transaction  # optional extra
from pyiceberg.table.update.schema import UpdateSchema  # optional extra
from pyiceberg.types import (  # optional extra
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from floodmark.reader.types import ColumnType

_PLAIN: dict[str, PrimitiveType] = {
    "int16": IntegerType(),
    "int32": IntegerType(),
    "int64": LongType(),
    "float32": FloatType(),
    "float64": DoubleType(),
    "bool": BooleanType(),
    "date": DateType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "bytes": BinaryType(),
}
_INTEGERS = ("int16", "int32", "int64")


class WantedColumn(Struct, frozen=True):
    """A column as the table is to have it. `doc` is its comment."""

    name: str
    kind: ColumnType
    doc: str | None = None

    @property
    def type(self) -> PrimitiveType:
        return iceberg_type(self.kind)


class LoadedColumn(Struct, frozen=True, array_like=True):
    """A column as a load left it: a record in the table's properties."""

    id: int
    name: str
    kind: ColumnType


def iceberg_type(kind: ColumnType) -> PrimitiveType:
    """Return the Iceberg type of a column's values. Iceberg has no 16-bit integer."""
    if kind.kind == "decimal":
        return DecimalType(kind.precision, kind.scale)
    return _PLAIN.get(kind.kind, StringType())


def first_schema(columns: Sequence[WantedColumn]) -> Schema:
    """Return the schema of a new table. All columns are optional: NOT NULL can end any night."""
    fields = (NestedField(n, c.name, c.type, required=False, doc=c.doc) for n, c in enumerate(columns, 1))
    return Schema(*fields)


def evolve_schema(transaction: Transaction, columns: Sequence[WantedColumn]) -> None:
    """Stage the changes that give the table these columns, in this order."""
    wanted = {column.name: column for column in columns}
    fields = transaction.table_metadata.schema().fields
    gone = [field for field in fields if not keeps_id(field, wanted.get(field.name))]
    if gone:
        with transaction.update_schema() as update:
            for field in gone:
                update.delete_column((field.name,))
    kept = {field.name: field for field in fields if field not in gone}
    with transaction.update_schema() as update:
        for column in columns:
            _bring(update, column, kept.get(column.name))
        _arrange(update, [*kept, *(name for name in wanted if name not in kept)], list(wanted))


def keeps_id(field: NestedField, column: WantedColumn | None) -> bool:
    """Return true if the column can become the wanted one, and Iceberg reads its old files under the new type."""
    if column is None or field.required:
        return False
    old, new = field.field_type, column.type
    if isinstance(old, DecimalType) and isinstance(new, DecimalType):
        return old.scale == new.scale and old.precision <= new.precision
    widened = ((IntegerType(), LongType()), (FloatType(), DoubleType()))
    return old == new or (old, new) in widened


def loaded_columns(schema: Schema, columns: Sequence[WantedColumn]) -> tuple[LoadedColumn, ...]:
    """Return the record of a table's columns: the ids are the schema's, and the kinds tell how values were read."""
    ids = {field.name: field.field_id for field in schema.fields}
    return tuple(LoadedColumn(ids[column.name], column.name, column.kind) for column in columns)


def encode_columns(columns: Sequence[LoadedColumn]) -> str:
    return msgspec.json.encode(columns).decode()


def decode_columns(text: str) -> tuple[LoadedColumn, ...]:
    """Return the recorded columns, none if the record can't be read."""
    try:
        return msgspec.json.decode(text, type=tuple[LoadedColumn, ...])
    except msgspec.MsgspecError:
        return ()


def is_as_loaded(schema: Schema, columns: Sequence[LoadedColumn]) -> bool:
    """Return true if the table has exactly the recorded columns. Their comments and their order do not matter."""
    found = {(field.field_id, field.name, field.field_type, field.required) for field in schema.fields}
    return found == {(column.id, column.name, iceberg_type(column.kind), False) for column in columns}


def files_fit(before: Sequence[LoadedColumn], after: Sequence[LoadedColumn]) -> bool:
    """Return true if a file that was written for the earlier columns gives the same lines' values under the later ones.

    A widened float does not: the float nearest to a number is not the double nearest to it.
    """
    old: Mapping[int, ColumnType] = {column.id: column.kind for column in before}
    return all(column.id in old and _is_exact(old[column.id], column.kind) for column in after)


def _is_exact(old: ColumnType, new: ColumnType) -> bool:
    if old.kind == new.kind == "decimal":
        return old.scale == new.scale and old.precision <= new.precision
    if old.kind in _INTEGERS and new.kind in _INTEGERS:
        return _INTEGERS.index(old.kind) <= _INTEGERS.index(new.kind)
    return old == new


def _bring(update: UpdateSchema, column: WantedColumn, field: NestedField | None) -> None:
    """Add a column, or give an existing one its type and comment."""
    if field is None:
        update.add_column((column.name,), column.type, column.doc)
    elif (field.field_type, field.doc or "") != (column.type, column.doc or ""):
        update.update_column((column.name,), column.type, doc=column.doc or "")


def _arrange(update: UpdateSchema, names: list[str], wanted: list[str]) -> None:
    if names == wanted:
        return
    update.move_first((wanted[0],))
    for before, name in pairwise(wanted):
        update.move_after((name,), (before,))
