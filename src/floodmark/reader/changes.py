"""Differences between what was taken and what exists now: tables, and chunks within them. Pure.

Digests decide, not times. If a table's lines and columns are the same, it is unchanged, no matter who wrote it or when.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct

from floodmark.model import Column, ObjectEntry, TableName
from floodmark.state.consumers import TakenTable


class ChunkedTable(Protocol):
    """A table with its chunks."""

    @property
    def objects(self) -> tuple[ObjectEntry, ...]: ...


T = TypeVar("T", bound=ChunkedTable)


class Changed(Struct, Generic[T], frozen=True):
    """A table that differs from what was taken. `new` holds the added chunks, `gone` the digests of the removed chunks.

    If `whole` is true, read the whole table again, because it is new or its columns changed. Chunks that stayed keep
    their rows. The taken chunks, minus the removed ones, plus the new ones, make up the table.
    """

    table: T
    new: tuple[ObjectEntry, ...]
    gone: tuple[str, ...]
    whole: bool


class Changes(Struct, Generic[T], frozen=True):
    """The comparison of a snapshot with what was taken.

    `gone` holds tables that were taken and that the snapshot no longer contains: dropped, renamed or excluded. A table
    that exists but could not be read is in none of the three fields.
    """

    changed: tuple[Changed[T], ...]
    unchanged: tuple[T, ...]
    gone: tuple[TableName, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


def columns_digest(columns: Sequence[Column]) -> str:
    """Return the SHA-256 of the names and types in a table's lines. A domain also counts with its base type."""
    facts = [(one.name, one.type) if one.base is UNSET else (one.name, one.type, one.base) for one in columns]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def compare_snapshots(
    now: Iterable[tuple[T, TakenTable]], taken: Iterable[TakenTable], unread: Collection[TableName]
) -> Changes[T]:
    """Compare the current tables with what was taken.

    Each table in `now` comes with the mark that taking it would leave. The tables in `unread` also exist, but their
    content is unknown.
    """
    before = {(one.schema, one.name): one for one in taken}
    changed: list[Changed[T]] = []
    unchanged: list[T] = []
    for table, mark in now:
        old = before.pop((mark.schema, mark.name), None)
        if old is not None and (old.checksum, old.shape) == (mark.checksum, mark.shape):
            unchanged.append(table)
        else:
            changed.append(_changed_table(table, mark, old))
    gone = (TableName(*key) for key in before)
    return Changes(tuple(changed), tuple(unchanged), tuple(name for name in gone if name not in unread))


def _changed_table(table: T, mark: TakenTable, old: TakenTable | None) -> Changed[T]:
    if old is None or old.shape != mark.shape:
        return Changed(table, table.objects, () if old is None else old.chunks, True)
    left = Counter(old.chunks)
    new: list[ObjectEntry] = []
    for one in table.objects:
        if left[one.content_sha256]:
            left[one.content_sha256] -= 1
        else:
            new.append(one)
    return Changed(table, tuple(new), tuple(left.elements()), False)
