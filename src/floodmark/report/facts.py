"""The facts of a report: small frozen structs, made from manifests that are not kept. No I/O.

A database can have thousands of tables. So a night keeps one byte per table, and more only about the tables with news.
Both, and the tables of the newest manifest, are kept packed. `StateHistory` of 5,000 tables and 60 nights then takes a
few megabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from floodmark.errors import FloodmarkError
from floodmark.model import Column, TableName

ChangeKind = Literal[
    "table_new",
    "table_dropped",
    "table_renamed",
    "column_added",
    "column_removed",
    "column_type",
    "column_null",
    "key",
]

# One byte for a table in one run.
UNCHANGED, IDENTICAL, CHANGED, NEW = "u", "i", "c", "n"
FAILED, DROPPED, NOT_LOOKED_AT, ABSENT = "f", "d", "-", " "

Packed = TypeVar("Packed")


class ObjectNow(Struct, frozen=True, array_like=True):
    """One object of a table's newest snapshot. `key` is relative to the destination."""

    key: str
    rows: int
    raw_bytes: int
    stored_bytes: int


class Layer(Struct, frozen=True, array_like=True):
    """The objects of a table's newest snapshot that one run wrote. `timestamp` is as in keys."""

    timestamp: str
    objects: int
    stored_bytes: int


class ReadDay(Struct, frozen=True, array_like=True):
    """The provable chunks whose lines were last read on one day. `day` is YYYYMMDD, or empty for never."""

    day: str
    chunks: int
    stored_bytes: int


class TableNow(Struct, frozen=True, kw_only=True, array_like=True):
    """A table as one manifest describes it, without what only a run needs.

    `state` is the table's byte in that run. `oid` is 0 if unknown. `oldest_read` is the day of the oldest last reading
    of its chunks, as in ReadDay. `objects` are its first objects, and only of the newest manifest.
    """

    name: TableName
    state: str
    code: str
    detail: str
    rows: int | None
    raw_bytes: int | None
    stored_bytes: int | None
    as_of: str | None
    changed_at: str | None
    seconds: float
    chunks: int
    chunks_read: int
    moved_bytes: int
    oid: int
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    comment: str = ""
    encoding: str = ""
    oldest_read: str = ""
    object_count: int = 0
    layers: tuple[Layer, ...] = ()
    objects: tuple[ObjectNow, ...] = ()


class TableNight(Struct, frozen=True, kw_only=True, array_like=True):
    """The news about a table in one run: it changed, failed or disappeared, or its size is another one.

    `rows_before`, `stored_before` and `chunks_before` are those of the run before, if it is known.
    """

    name: TableName
    rows: int | None
    rows_before: int | None
    stored_bytes: int | None
    stored_before: int | None
    chunks: int
    chunks_before: int | None
    chunks_read: int
    moved_bytes: int
    seconds: float
    code: str
    detail: str


class SchemaChange(Struct, frozen=True, kw_only=True):
    """One change of a table's definition between two runs. `before` and `after` are types, names or key columns."""

    kind: ChangeKind
    table: TableName
    column: str = ""
    before: str = ""
    after: str = ""


class RunFacts(Struct, frozen=True, kw_only=True):
    """One run. `key` is that of its manifest, None if it committed nothing.

    `outcome` is success, partial, failed, stopped or unfinished. Bytes and rows are sums over all tables of the
    manifest, and `moved_bytes` is what the run itself put. `names` are packed TableNames, and `states` has one byte
    for each of them, compressed. `news` holds packed TableNights.
    """

    run_id: str
    outcome: str
    started_at: str
    finished_at: str | None
    seconds: float | None
    key: str | None = None
    exit_code: int | None = None
    error: str = ""
    chunks: int | None = None
    chunks_done: int | None = None
    moved_bytes: int = 0
    rows: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    counts: dict[str, int] = {}
    consistent: bool = True
    drift: int = 0
    names: bytes = b""
    states: bytes = b""
    news: bytes = b""
    changes: tuple[SchemaChange, ...] = ()

    @property
    def moment(self) -> str:
        """Return when the run ended, or when it began if its end is not known."""
        return self.finished_at or self.started_at

    def table_names(self) -> list[TableName]:
        """Return the tables of the manifest."""
        return unpacked(self.names, list[TableName]) if self.names else []

    def table_states(self) -> str:
        """Return one character for each of the names."""
        return zlib.decompress(self.states).decode("ascii") if self.states else ""

    def table_nights(self) -> list[TableNight]:
        """Return the news of this run about tables."""
        return unpacked(self.news, list[TableNight]) if self.news else []


class StateHistory(Struct, frozen=True, kw_only=True):
    """The history of one state, newest run first.

    `as_of` and `oldest_as_of` are the newest and the oldest moment that a table of the newest manifest shows.
    `committed` is False before the first commit: then only runs that failed, stopped or are at work are known. `tables`
    are the packed TableNows of the newest manifest. `audit_mismatches` counts those of the last run that left a record.
    """

    url: str
    database: str = ""
    dialect: str = ""
    server_version: str = ""
    destination: str = ""
    nights: int = 0
    as_of: str | None = None
    oldest_as_of: str | None = None
    committed: bool = False
    runs: tuple[RunFacts, ...] = ()
    tables: bytes = b""
    table_count: int = 0
    read_days: tuple[ReadDay, ...] = ()
    succeeded_at: str | None = None
    audited_chunks: int = 0
    audit_mismatches: int = 0

    @property
    def published(self) -> tuple[RunFacts, ...]:
        """Return the runs that committed, newest first."""
        return tuple(run for run in self.runs if run.key is not None)

    def tables_now(self) -> list[TableNow]:
        """Return the tables as the newest manifest describes them."""
        return unpacked(self.tables, list[TableNow]) if self.tables else []


class UnreadState(Struct, frozen=True):
    """A state that could not be read, and the error that says why."""

    url: str
    error: FloodmarkError


def packed(values: Sequence[Struct]) -> bytes:
    """Return structs as compressed bytes."""
    return zlib.compress(msgspec.msgpack.encode(values), 6)


def unpacked(data: bytes, kind: type[Packed]) -> Packed:
    """Return the inverse of `packed`."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=kind)
