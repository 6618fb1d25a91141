"""What has changed between what was taken and what is there: tables, and chunks within them. Pure.

Digests decide, not times: a table whose lines and columns are what they were is unchanged, whoever wrote it when.
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


class Entry(Protocol):
    """A table with its chunks."""

    @property
    def objects(self) -> tuple[ObjectEntry, ...]: ...


T = TypeVar("T", bound=Entry)


class Changed(Struct, Generic[T], frozen=True):
    """A table that is not as it was taken. `new` are the chunks that were not in it; `gone` says how many are no more.

    `whole`: all of it must be read anew, since it is new or its columns changed. Chunks that stayed keep their rows:
    what was taken, less the chunks that went, plus the new ones, is the table.
    """

    table: T
    new: tuple[ObjectEntry, ...]
    gone: tuple[str, ...]
    whole: bool


class Changes(Struct, Generic[T], frozen=True):
    """`gone` are tables that were taken and are no longer part of the snapshot: dropped, renamed or excluded. One that
    is there and could not be read is in none of the three."""

    changed: tuple[Changed[T], ...]
    unchanged: tuple[T, ...]
    gone: tuple[TableName, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


def shape(columns: Sequence[Column]) -> str:
    """SHA-256 of the names and types that a table's lines have; of a domain with what lies beneath it."""
    told = [(one.name, one.type) if one.base is UNSET else (one.name, one.type, one.base) for one in columns]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def changes(
    now: Iterable[tuple[T, TakenTable]], taken: Iterable[TakenTable], unread: Collection[TableName]
) -> Changes[T]:
    """Compare tables, each with what taking it would mean, with what was taken. `unread` are there as well, though no
    one knows what is in them."""
    before = {(one.schema, one.name): one for one in taken}
    changed: list[Changed[T]] = []
    unchanged: list[T] = []
    for table, mark in now:
        old = before.pop((mark.schema, mark.name), None)
        if old is not None and (old.checksum, old.shape) == (mark.checksum, mark.shape):
            unchanged.append(table)
        else:
            changed.append(_changed(table, mark, old))
    gone = (TableName(*key) for key in before)
    return Changes(tuple(changed), tuple(unchanged), tuple(name for name in gone if name not in unread))


def _changed(table: T, mark: TakenTable, old: TakenTable | None) -> Changed[T]:
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
