"""Histories: `<table>_history` keeps every version of every row, with the time from which and until which it was valid.

A version of a table is a set of rows at a moment: the snapshot that showed them first. A row that the next version no
longer has is closed, and a row that the version before did not have is opened. Rows are compared as a whole, and count
as often as they are there. So no key is needed, and it does not matter which versions were missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import dropwhile
from typing import Protocol, runtime_checkable

from msgspec import Struct

from floodmark.model import TableEntry, TableName
from floodmark.reader.changes import columns_digest
from floodmark.reader.reader import Snapshot, Table

# The columns of a history after those of its table. `valid_to` is null as long as a row is valid.
VALID_FROM, VALID_TO, IS_CURRENT = HISTORY_COLUMNS = ("valid_from", "valid_to", "is_current")
_WHOLE_NUMBERS = {"SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}  # their digits, the narrowest type first
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_MOST_DIGITS = 38


class TakenHistory(Struct, frozen=True):
    """The version of a table that its history took last.

    `checksum` and `shape` are None if the table was gone.
    """

    run_id: str
    moment: datetime
    checksum: str | None
    shape: str | None


class Version(Struct, frozen=True):
    """A version of a table: its rows at a moment, or None if the table was gone then."""

    run_id: str
    moment: datetime
    table: Table | None


@runtime_checkable
class HistoryTarget(Protocol):
    """A target of `load` that keeps histories. It publishes them together with the tables, or not at all.

    `LoadTarget.stage` brings the history of a table up to date if the staged table has `versions`.
    """

    def histories(self) -> Mapping[TableName, TakenHistory]:
        """Return what each history took last. A table without a history is missing."""
        ...

    def stage_closing(self, table: TableName, versions: Sequence[Version]) -> None:
        """Stage the history of a table that is gone; the last version has no rows. Raises FloodmarkError."""
        ...


class HistoryRequest(Struct, frozen=True):
    """The request to keep histories. `earlier` yields the committed snapshots, newest first, also the current one."""

    target: HistoryTarget
    earlier: Callable[[], Iterable[Snapshot]]


def history_name(table: TableName) -> TableName:
    """Return the name of a table's history."""
    return TableName(table.schema, f"{table.name}_history")


def moment_of(entry: TableEntry, snapshot: Snapshot) -> datetime:
    """Return the moment of the snapshot that showed a table's rows first."""
    return datetime.fromisoformat(entry.changed_at or entry.as_of or snapshot.manifest.source.snapshot.taken_at)


def missed_versions(
    taken: Mapping[TableName, TakenHistory], snapshots: Iterable[Snapshot]
) -> dict[TableName, list[Version]]:
    """Return the versions of each table since its history took one, oldest first, as far as manifests still tell.

    `snapshots` are the committed ones, newest first. The first one gives the newest version. A version whose lines
    can't be read as typed values (CSV) is left out.
    """
    found: dict[TableName, list[Version]] = {name: [] for name in taken}
    left = set(taken)
    for snapshot in snapshots:
        left = {name for name in left if taken[name].run_id != snapshot.run_id}
        if not left:
            break
        for name, version in _versions_of(snapshot, left):
            found[name].append(version)
    for name in left:  # prune deleted the run that was taken, or it is another state's: then only time tells
        found[name] = [one for one in found[name] if one.moment > taken[name].moment]
    return {name: _each_once(versions, taken[name].checksum) for name, versions in found.items()}


def due_versions(
    request: HistoryRequest, snapshot: Snapshot, stale: Iterable[Table], gone: Iterable[TableName]
) -> dict[TableName, tuple[Version, ...]]:
    """Return the versions that histories lack, oldest first. The last one is that of `snapshot`.

    `stale` are the tables of the snapshot to bring up to date, `gone` the names of tables that it does not have.
    """
    taken_at = datetime.fromisoformat(snapshot.manifest.source.snapshot.taken_at)
    last = {table.name: Version(snapshot.run_id, moment_of(table.entry, snapshot), table) for table in stale}
    last |= {name: Version(snapshot.run_id, taken_at, None) for name in gone}
    taken = {name: one for name, one in request.target.histories().items() if name in last}
    until_now = dropwhile(lambda one: one.run_id != snapshot.run_id, request.earlier() if taken else ())
    missed = missed_versions(taken, until_now)
    return {name: _ending_with(missed.get(name, []), one) for name, one in last.items()}


def is_kept(taken: TakenHistory | None, table: Table, shape: str, snapshot: Snapshot) -> bool:
    """Return true if a history already took this version of a table. A later one can have the same rows again."""
    if taken is None or (taken.checksum, taken.shape) != (table.entry.checksum, shape):
        return False
    return moment_of(table.entry, snapshot) <= taken.moment


def merged_columns(old: Sequence[tuple[str, str]], new: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the names and types of a history's columns after a version with other columns.

    The names are compared as they are. A column that is gone stays. A column of another type gets a type that holds
    the values of both.
    """
    now = dict(new)
    kept = [(name, common_type(kind, now.get(name, kind))) for name, kind in old]
    return [*kept, *(column for column in new if column[0] not in dict(old))]


def common_type(old: str, new: str) -> str:
    """Return a type of DuckDB that holds the values of both types exactly: the wider one of a kind, or VARCHAR."""
    if old == new:
        return old
    if old in _WHOLE_NUMBERS and new in _WHOLE_NUMBERS:
        return max(old, new, key=list(_WHOLE_NUMBERS).index)
    if {old, new} == {"FLOAT", "DOUBLE"}:
        return "DOUBLE"
    sizes = [size for size in map(_digits, (old, new)) if size is not None]
    if len(sizes) == 2:
        whole, scale = max(one[0] for one in sizes), max(one[1] for one in sizes)
        if whole + scale <= _MOST_DIGITS:
            return f"DECIMAL({whole + scale},{scale})"
    return "VARCHAR"


def _digits(kind: str) -> tuple[int, int] | None:
    """Return the digits before and after the point of a type of exact numbers, or None for another type."""
    if kind in _WHOLE_NUMBERS:
        return _WHOLE_NUMBERS[kind], 0
    found = _DECIMAL.fullmatch(kind)
    return None if found is None else (int(found[1]) - int(found[2]), int(found[2]))


def gone_histories(taken: Mapping[TableName, TakenHistory], existing: Collection[TableName]) -> list[TableName]:
    """Return the tables that have a history with current rows, and that no longer exist."""
    return sorted(name for name, one in taken.items() if one.checksum is not None and name not in existing)


def _versions_of(snapshot: Snapshot, wanted: Collection[TableName]) -> Iterable[tuple[TableName, Version]]:
    taken_at = datetime.fromisoformat(snapshot.manifest.source.snapshot.taken_at)
    for table in snapshot.tables:
        if table.name in wanted and (table.entry.encoding is None or table.entry.encoding.format == "jsonl"):
            yield table.name, Version(snapshot.run_id, moment_of(table.entry, snapshot), table)
    for entry in snapshot.manifest.tables:
        if entry.table in wanted and entry.status == "dropped":
            yield entry.table, Version(snapshot.run_id, taken_at, None)


def _each_once(versions: Sequence[Version], taken: str | None) -> list[Version]:
    """Return versions, given newest first, oldest first: those that differ from the version before them."""
    found: list[Version] = []
    for one in versions:
        if not found or _content(found[-1]) != _content(one):
            found.append(one)
    if found and _content(found[-1])[0] == taken:
        found.pop()
    return found[::-1]


def _ending_with(missed: Sequence[Version], last: Version) -> tuple[Version, ...]:
    """Return the missed versions and the last one, once."""
    before = missed[:-1] if missed and _content(missed[-1]) == _content(last) else missed
    return (*before, last)


def _content(version: Version) -> tuple[str | None, str]:
    """Return the checksum and the digest of the columns."""
    if version.table is None:
        return None, ""
    return version.table.entry.checksum, columns_digest(version.table.columns)
