"""The differences between two committed manifests: tables, their columns, rows, sizes and objects. Pure.

Tables are compared as consumers do it (docs/format.md): a table is unchanged if its `checksum` and its columns are the
same, no matter which run wrote its objects. The field names are those of `floodmark diff --output json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from floodmark.model import Column, Encoding, ObjectEntry, TableEntry, TableName
from floodmark.pipeline.columns import column_changes, list_names, same_columns
from floodmark.state.manifest import Manifest
from floodmark.state.rebase import database_of
from floodmark.wording import plural

Change = Literal["added", "dropped", "changed", "unchanged", "unread"]


class ComparedRun(Struct, frozen=True, kw_only=True):
    """One of the two runs. `as_of` is the moment of its snapshot. The last three fields identify the database."""

    run_id: str
    finished_at: str
    as_of: str
    dialect: str
    system_identifier: str
    database: str


class TableContent(Struct, frozen=True, kw_only=True):
    """The content of a table in one of the two snapshots. `objects` is the number of its objects."""

    rows: int
    raw_bytes: int
    stored_bytes: int
    objects: int
    encoding: Encoding


class ChangedColumn(Struct, frozen=True):
    """A column that both snapshots have, with another type, or null where it was not allowed, or the reverse."""

    name: str
    old: Column
    new: Column


class TableDifference(Struct, frozen=True, kw_only=True):
    """A table in both snapshots. `old` or `new` is None if that snapshot does not hold it.

    An `unread` table exists in the source, and the new snapshot does not hold it because no run could read it. The
    objects that are new or gone are counted by the digests of their lines. `detail` says the same for people.
    """

    schema: str
    name: str
    change: Change
    detail: str
    old: TableContent | None = None
    new: TableContent | None = None
    columns_added: tuple[Column, ...] = ()
    columns_removed: tuple[Column, ...] = ()
    columns_changed: tuple[ChangedColumn, ...] = ()
    objects_new: int = 0
    objects_gone: int = 0

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)

    @property
    def is_different(self) -> bool:
        """Return True unless the content is the same, or unknown in both snapshots."""
        return self.change != "unchanged" and (self.old, self.new) != (None, None)


class ManifestDifference(Struct, frozen=True, kw_only=True):
    """The comparison of two manifests. `old` is None if `new` is the first run's.

    `other_database` is True if the two runs read different databases: `--adopt-source` was given in between.
    """

    old: ComparedRun | None
    new: ComparedRun
    other_database: bool
    tables: tuple[TableDifference, ...]

    @property
    def is_different(self) -> bool:
        return self.other_database or any(one.is_different for one in self.tables)


class NoDifference(Struct, frozen=True, kw_only=True):
    """The keys of a ManifestDifference, in a place without a state."""

    old: None = None
    new: None = None
    other_database: None = None
    tables: tuple[TableDifference, ...] = ()


def compare_manifests(old: Manifest | None, new: Manifest) -> ManifestDifference:
    """Return what is different in `new`. Without `old`, every table is added."""
    before = {} if old is None else {entry.table: entry for entry in old.tables}
    now = {entry.table: entry for entry in new.tables}
    found = (_compare_table(name, before.get(name), now.get(name)) for name in sorted({**before, **now}))
    return ManifestDifference(
        old=None if old is None else _compared_run(old),
        new=_compared_run(new),
        other_database=old is not None and database_of(old.source) != database_of(new.source),
        tables=tuple(one for one in found if one is not None),
    )


def _compared_run(manifest: Manifest) -> ComparedRun:
    source = manifest.source
    return ComparedRun(
        run_id=manifest.run_id,
        finished_at=manifest.finished_at,
        as_of=source.snapshot.taken_at,
        dialect=source.dialect,
        system_identifier=source.system_identifier,
        database=source.database,
    )


def _compare_table(name: TableName, old: TableEntry | None, new: TableEntry | None) -> TableDifference | None:
    """Return the difference of one table, or None if neither snapshot knows it as an existing table."""
    before, now = _held(old), _held(new)
    if now is not None:
        return _added_table(now) if before is None else compare_entries(before, now)
    content = None if before is None else _content(before)
    if new is not None and new.status != "dropped":
        return _difference(name, "unread", f"no run could read it: {new.reason.detail}", old=content)
    if before is None:
        return None
    why = "not in the new manifest: dropped before that run, excluded, or not yet created"
    detail = why if new is None else new.reason.detail
    return _difference(name, "dropped", detail, old=content, objects_gone=len(before.objects))


def _held(entry: TableEntry | None) -> TableEntry | None:
    """Return the entry if it holds a snapshot of an existing table."""
    return None if entry is None or entry.checksum is None or entry.status == "dropped" else entry


def _added_table(entry: TableEntry) -> TableDifference:
    number = len(entry.objects)
    return _difference(entry.table, "added", plural(number, "object"), new=_content(entry), objects_new=number)


def compare_entries(old: TableEntry, new: TableEntry) -> TableDifference:
    """Return the difference of a table that both manifests hold."""
    then_content, content = _content(old), _content(new)
    if old.checksum == new.checksum and _same_columns(old.columns, new.columns):
        return _difference(new.table, "unchanged", "the same lines and columns", then_content, content)
    then, there = {one.name: one for one in old.columns}, {one.name: one for one in new.columns}
    both = [(then[name], one) for name, one in there.items() if name in then]
    changed = [ChangedColumn(a.name, a, b) for a, b in both if not _same_columns([a], [b])]
    fresh, gone = _digests(new.objects) - _digests(old.objects), _digests(old.objects) - _digests(new.objects)
    return TableDifference(
        schema=new.schema,
        name=new.name,
        change="changed",
        detail=_changed_detail(old, new, changed, fresh.total(), gone.total()),
        columns_added=tuple(one for name, one in there.items() if name not in then),
        columns_removed=tuple(one for name, one in then.items() if name not in there),
        columns_changed=tuple(changed),
        objects_new=fresh.total(),
        objects_gone=gone.total(),
        old=then_content,
        new=content,
    )


def _changed_detail(old: TableEntry, new: TableEntry, changed: list[ChangedColumn], fresh: int, gone: int) -> str:
    """Return in words: the columns, then the encoding, then the objects."""
    parts = [column_changes(old.columns, new.columns)]
    nullable = [one.name for one in changed if one.old.nullable != one.new.nullable]
    if nullable:
        parts.append(f"other nullability: {list_names(nullable)}")
    names, before = [one.name for one in new.columns], [one.name for one in old.columns]
    if names != before and sorted(names) == sorted(before):
        parts.append("the columns have another order")
    if _encoding(old) != _encoding(new):
        parts.append(f"encoding {_encoding(old).digest} to {_encoding(new).digest}")
    if fresh or gone:
        parts.append(f"{fresh:,} of {plural(len(new.objects), 'object')} new, {gone:,} gone")
    elif old.checksum != new.checksum:
        parts.append("the objects have another order")
    return "; ".join(part for part in parts if part)


def _same_columns(old: Sequence[Column], new: Sequence[Column]) -> bool:
    """Return True if the columns are the same, whichever of the two manifests an older release wrote."""
    pairs = zip(old, new, strict=False)
    return len(old) == len(new) and all(same_columns([a], [b]) or same_columns([b], [a]) for a, b in pairs)


def _difference(
    name: TableName,
    change: Change,
    detail: str,
    old: TableContent | None = None,
    new: TableContent | None = None,
    objects_new: int = 0,
    objects_gone: int = 0,
) -> TableDifference:
    """Return the difference of a table whose columns need no comparison."""
    return TableDifference(
        schema=name.schema,
        name=name.name,
        change=change,
        detail=detail,
        old=old,
        new=new,
        objects_new=objects_new,
        objects_gone=objects_gone,
    )


def _content(entry: TableEntry) -> TableContent:
    return TableContent(
        rows=entry.rows or 0,
        raw_bytes=entry.raw_bytes or 0,
        stored_bytes=entry.stored_bytes or 0,
        objects=len(entry.objects),
        encoding=_encoding(entry),
    )


def _encoding(entry: TableEntry) -> Encoding:
    return entry.encoding or Encoding()


def _digests(objects: Iterable[ObjectEntry]) -> Counter[str]:
    """Count the objects by the digest of their lines."""
    return Counter(one.content_sha256 for one in objects)
