"""The tables of two manifests → what changed in their definitions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from floodmark.model import Column, TableName
from floodmark.pipeline.columns import same_columns
from floodmark.report.facts import ABSENT, DROPPED, SchemaChange, TableNow

Tables = Mapping[TableName, TableNow]


def schema_changes(before: Tables, now: Tables) -> tuple[SchemaChange, ...]:
    """Return new, dropped and renamed tables, and the changes of columns and keys, in the order of tables."""
    old = {name: one for name, one in before.items() if _exists(one)}
    new = {name: one for name, one in now.items() if _exists(one)}
    renamed = _renamed(old, new)
    found = [SchemaChange(kind="table_renamed", table=b, before=a.label, after=b.label) for a, b in renamed.items()]
    gone, fresh = old.keys() - new.keys() - renamed.keys(), new.keys() - old.keys() - set(renamed.values())
    found += [SchemaChange(kind="table_dropped", table=name) for name in gone]
    found += [SchemaChange(kind="table_new", table=name) for name in fresh]
    pairs = [(one, new[name]) for name, one in old.items() if name in new]
    pairs += [(old[a], new[b]) for a, b in renamed.items()]
    for one, other in pairs:
        found += _table_changes(one, other)
    return tuple(sorted(found, key=lambda change: change.table))


def _exists(one: TableNow) -> bool:
    return one.state not in (DROPPED, ABSENT)


def _renamed(old: Tables, new: Tables) -> dict[TableName, TableName]:
    """Return the tables whose oid now belongs to another name, by their old names."""
    gone = {one.oid: name for name, one in old.items() if one.oid and name not in new}
    return {gone[one.oid]: name for name, one in new.items() if name not in old and one.oid in gone}


def _table_changes(old: TableNow, new: TableNow) -> Iterable[SchemaChange]:
    if old.columns and new.columns and old.columns is not new.columns:
        yield from _column_changes(new.name, old.columns, new.columns)
    if old.primary_key != new.primary_key:
        yield SchemaChange(
            kind="key", table=new.name, before=", ".join(old.primary_key), after=", ".join(new.primary_key)
        )


def _column_changes(table: TableName, old: Iterable[Column], new: Iterable[Column]) -> Iterable[SchemaChange]:
    then, there = {one.name: one for one in old}, {one.name: one for one in new}
    for name, one in there.items():
        if name not in then:
            yield SchemaChange(kind="column_added", table=table, column=name, after=shown_type(one))
        elif not same_columns([then[name]], [one]):
            yield from _column_change(table, then[name], one)
    for name, one in then.items():
        if name not in there:
            yield SchemaChange(kind="column_removed", table=table, column=name, before=shown_type(one))


def _column_change(table: TableName, old: Column, new: Column) -> Iterable[SchemaChange]:
    before, after = shown_type(old), shown_type(new)
    if before != after:
        yield SchemaChange(kind="column_type", table=table, column=new.name, before=before, after=after)
    if old.nullable != new.nullable:
        texts = [f"{'null' if one.nullable else 'not null'}" for one in (old, new)]
        yield SchemaChange(kind="column_null", table=table, column=new.name, before=texts[0], after=texts[1])


def shown_type(column: Column) -> str:
    """Return a column's type, and the base of a domain in brackets."""
    return column.type if column.plain_type == column.type else f"{column.type} ({column.plain_type})"
