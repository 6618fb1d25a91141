"""Row changes between two snapshots, from their objects: inserted, updated and deleted rows.

Only the objects that are not in both snapshots are read. A row is found again by its primary key, so a row that moved
from one object to another is one update, or no change if its line is the same. Without a key, lines are inserted and
deleted. If the lines of two snapshots can't be compared, the table says so, and no row of it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct

from floodmark.differences import ChangedColumn, compare_entries
from floodmark.errors import ObjectMissing, VerificationFailed
from floodmark.model import Column, Encoding, ObjectEntry, TableEntry, TableName
from floodmark.reader.line_keys import changed_members, csv_lines, keyed_lines
from floodmark.reader.row_matching import Match, RepeatedKey, RowSide, match_rows
from floodmark.reader.rows import not_as_described, too_deep
from floodmark.state.consumers import TakenTable

RowOperation = Literal["insert", "update", "delete"]
TableOperation = Literal["created", "gone", "schema_changed", "recoded"]


class RowTable(Protocol):
    """A table of a snapshot, as far as its lines are concerned."""

    @property
    def entry(self) -> TableEntry: ...

    @property
    def name(self) -> TableName: ...

    @property
    def taken(self) -> TakenTable: ...

    def blocks(self, chunks: Sequence[ObjectEntry] | None = None) -> Iterator[bytes]: ...


T = TypeVar("T", bound=RowTable)


class RowChange(Struct, frozen=True):
    """One row that was inserted, updated or deleted.

    `old` and `new` are JSON lines as they were landed, without a newline; a CSV record is a JSON object of texts and
    nulls. `old` is None for an insert, `new` for a delete. `key` is a JSON object of the primary key's members, or None
    if the table has no key; then there are no updates. `columns` names the columns that an update changed.
    """

    table: TableName
    op: RowOperation
    key: bytes | None
    old: bytes | None
    new: bytes | None
    columns: tuple[str, ...] = ()


class TableChange(Struct, frozen=True):
    """A change of a table as a whole. Only after `created` do rows follow: all rows of the table, as inserts.

    `gone`: the newer snapshot no longer has the table, so all its rows are gone. `schema_changed`: its columns have
    other names, another order or other types. `recoded`: its lines were written in another way, because the
    configuration changed (columns, masks, row filter, format). After the last two, read the whole table again. `detail`
    is for people.
    """

    table: TableName
    op: TableOperation
    detail: str
    columns_added: tuple[Column, ...] = ()
    columns_removed: tuple[Column, ...] = ()
    columns_changed: tuple[ChangedColumn, ...] = ()


def row_changes(
    old: Mapping[TableName, RowTable | None], new: Iterable[RowTable], gone: Iterable[TableName]
) -> Iterator[RowChange | TableChange]:
    """Yield the changes of each table in turn. `old` has a value for each table of `new`, or None if it is new.

    Nothing of a table is given before all its objects were verified. Memory is bounded: see `row_matching`. Raises
    VerificationFailed, also for a repeated key, ObjectMissing, StorageError, DoesNotFit.
    """
    for name in sorted(gone):
        yield TableChange(name, "gone", "the newer snapshot does not have this table")
    for table in new:
        yield from _table_changes(old.get(table.name), table)


def find_taken(taken: Iterable[TakenTable], now: Iterable[T], snapshots: Iterable[Iterable[T]]) -> dict[TableName, T]:
    """Return the tables of earlier snapshots, newest first, that a consumer's marks name, for the tables of `now`.

    Raises ObjectMissing if history no longer holds one of them.
    """
    there = {table.name for table in now}
    wanted = {name: mark for mark in taken if (name := TableName(mark.schema, mark.name)) in there}
    found: dict[TableName, T] = {}
    for tables in snapshots if wanted else ():
        for table in tables:
            mark = wanted.get(table.name)
            if mark is not None and (mark.checksum, mark.shape) == (table.taken.checksum, table.taken.shape):
                found[table.name] = table
                del wanted[table.name]
        if not wanted:
            break
    if wanted:
        raise ObjectMissing(
            "can't tell what changed",
            on=min(wanted).label,
            why="no snapshot in history holds the rows that were taken: prune deleted it",
            hint="Read the tables that `Snapshot.changes` names again, and advance the cursor. "
            "`floodmark history` lists the runs that are left.",
        )
    return found


def _table_changes(old: RowTable | None, new: RowTable) -> Iterator[RowChange | TableChange]:
    if old is None:
        yield TableChange(new.name, "created", "the older snapshot does not have this table")
        yield from _changed_rows(None, new)
        return
    before, now = old.entry, new.entry
    same_lines = before.checksum == now.checksum
    if not _same_shape(before.columns, now.columns):
        difference = compare_entries(before, now)
        yield TableChange(
            new.name,
            "schema_changed",
            difference.detail,
            difference.columns_added,
            difference.columns_removed,
            difference.columns_changed,
        )
    elif not same_lines and not _same_form(before, now):
        yield TableChange(new.name, "recoded", "its columns, masks, row filter or format were configured differently")
    elif not same_lines:
        yield from _changed_rows(old, new)


def _same_shape(old: Sequence[Column], new: Sequence[Column]) -> bool:
    """Return true if lines have the same members. An older release did not record a domain's base."""
    pairs = zip(old, new, strict=False)
    return len(old) == len(new) and all(
        (a.name, a.type) == (b.name, b.type) and (UNSET in (a.base, b.base) or a.base == b.base) for a, b in pairs
    )


def _same_form(old: TableEntry, new: TableEntry) -> bool:
    """Return true if equal rows have equal lines. Another configuration can write all of them differently."""
    return (
        old.fingerprint is not None and new.fingerprint is not None and old.fingerprint.config == new.fingerprint.config
    )


def _changed_rows(old: RowTable | None, new: RowTable) -> Iterator[RowChange]:
    key = _common_key(old, new)
    before, now = _differing_objects(old, new)
    sides = _side(old or new, before), _side(new, now)
    name = new.name
    try:
        for match in match_rows(*sides, keyed_lines(key), unique=bool(key)):
            yield _row_change(name, match, bool(key))
    except RepeatedKey:
        raise VerificationFailed(
            "can't tell what changed",
            on=name.label,
            why=f"two rows of one snapshot have the same primary key ({', '.join(key)})",
            hint="`floodmark verify --deep` checks the objects. Or read the whole table.",
        ) from None
    except (msgspec.MsgspecError, ValueError, KeyError):
        raise not_as_described(name.label) from None
    except RecursionError:
        raise too_deep(name.label) from None


def _row_change(table: TableName, match: Match, keyed: bool) -> RowChange:
    key, old, new = match
    shown = key if keyed else None
    if old is None:
        return RowChange(table, "insert", shown, None, new)
    if new is None:
        return RowChange(table, "delete", shown, old, None)
    return RowChange(table, "update", shown, old, new, changed_members(old, new))


def _common_key(old: RowTable | None, new: RowTable) -> tuple[str, ...]:
    """Return the primary key of both snapshots, or nothing if one has no key or another key."""
    keys = {one.entry.primary_key for one in (old, new) if one is not None}
    (key,) = keys if len(keys) == 1 else (UNSET,)
    return () if key is UNSET else key


def _differing_objects(old: RowTable | None, new: RowTable) -> tuple[list[ObjectEntry], list[ObjectEntry]]:
    """Return the objects that only one snapshot has, by the digests of their lines and their number."""
    before, now = () if old is None else old.entry.objects, new.entry.objects
    return _without(before, now), _without(now, before)


def _without(objects: Sequence[ObjectEntry], other: Sequence[ObjectEntry]) -> list[ObjectEntry]:
    left = Counter(one.content_sha256 for one in other)
    found = []
    for one in objects:
        if left[one.content_sha256]:
            left[one.content_sha256] -= 1
        else:
            found.append(one)
    return found


def _side(table: RowTable, objects: Sequence[ObjectEntry]) -> RowSide:
    blocks, names = table.blocks(objects), [column.name for column in table.entry.columns]
    if (table.entry.encoding or Encoding()).format == "csv":
        blocks = (csv_lines(block, names) for block in blocks)
    return RowSide(blocks, sum(one.raw_bytes for one in objects), sum(one.rows for one in objects))
