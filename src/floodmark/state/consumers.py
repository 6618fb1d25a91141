"""The documents that consumers keep: a cursor in the state location, an index next to Parquet files.

Like all durable documents they have a format and a version, are encoded and decoded in `state.manifest`, and are
specified in docs/format.md.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from floodmark.model import Column


class TakenTable(Struct, frozen=True, kw_only=True):
    """A table in the form a consumer took it.

    It holds the manifest's checksum, `shape` (SHA-256 of its columns' names and types), and the content_sha256 of each
    chunk, in order. `timestamp` is the extraction_timestamp that it was delivered under.
    """

    schema: str
    name: str
    checksum: str
    shape: str
    chunks: tuple[str, ...] = ()
    timestamp: str | UnsetType = UNSET


class Delivery(Struct, frozen=True, kw_only=True):
    """The target of a delivery, its `form`, and the tables that it began to send and has not finished.

    Their timestamps were chosen before the first put. So a delivery that died midway is repeated under exactly the same
    keys.
    """

    url: str
    form: str
    sending: tuple[TakenTable, ...] = ()


class Cursor(Struct, frozen=True, kw_only=True):
    """The record of a consumer: the run it has taken, and the state of each table.

    The consumer moves it by compare-and-swap.

    `delivery` is set if the consumer is `floodmark deliver`.
    """

    format: Literal["floodmark.cursor"] = "floodmark.cursor"
    version: Literal[1] = 1
    name: str
    run_id: str
    updated_at: str
    tables: tuple[TakenTable, ...]
    delivery: Delivery | UnsetType = UNSET


class ParquetFile(Struct, frozen=True, kw_only=True):
    """A Parquet file: its key below the index's place, and the content_sha256 of the chunk it holds."""

    key: str
    rows: int
    stored_bytes: int
    sha256: str
    content_sha256: str


class ParquetTable(Struct, frozen=True, kw_only=True):
    """A table and the files that together hold its rows as of `run_id`. Columns have Arrow's types."""

    schema: str
    name: str
    run_id: str
    checksum: str
    shape: str
    rows: int
    columns: tuple[Column, ...]
    files: tuple[ParquetFile, ...]


class SupersededFile(Struct, frozen=True, kw_only=True):
    """A file that the index named until `superseded_at`, kept for readers that began before that."""

    key: str
    superseded_at: str


class ParquetIndex(Struct, frozen=True, kw_only=True):
    """The list of the current Parquet files of each table.

    Readers use it, never a listing. Moved by compare-and-swap.
    """

    format: Literal["floodmark.parquet"] = "floodmark.parquet"
    version: Literal[1] = 1
    run_id: str
    loaded_at: str
    dialect: str
    system_identifier: str
    database: str
    tables: tuple[ParquetTable, ...]
    superseded: tuple[SupersededFile, ...] = ()
