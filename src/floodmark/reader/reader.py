"""The reader for every consumer: a state location, opened read-only, with its snapshots and their tables.

    import floodmark

    cases = floodmark.open("s3://my-lake/cases")
    snapshot = cases.latest()
    for row in snapshot["public.person"].rows():
        ...

A reader goes from head to manifest to data, and so never sees half a run. It writes nothing. A cursor (`Reader.cursor`)
is written only when its owner advances it. The reader needs neither SQLAlchemy nor a database driver. Arrow and DuckDB
come with the extras `arrow` and `duckdb`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from os import PathLike, fspath
from typing import Any

import msgspec

from floodmark.errors import ConfigError
from floodmark.events import Observer, ignore_event
from floodmark.layout import LAYOUTS
from floodmark.model import Column, Encoding, ObjectEntry, TableEntry, TableName
from floodmark.objects.csv import fields, split_records
from floodmark.objects.verified import blocks
from floodmark.reader import duckdb
from floodmark.reader.arrow import BatchConverter, BatchStream, RowShape
from floodmark.reader.changes import Changes, columns_digest, compare_snapshots
from floodmark.reader.cursor import CursorStore, StoredCursor
from floodmark.reader.row_changes import RowChange, TableChange, find_taken, row_changes
from floodmark.reader.rows import UnreadableValue, not_as_described, rows_reader, too_deep, unreadable_value
from floodmark.reader.types import ColumnType, column_type
from floodmark.state.consumers import TakenTable
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest
from floodmark.storage import StorageOptions, open_storage
from floodmark.storage.base import Storage
from floodmark.storage.retry import RetryingStorage
from floodmark.wording import plural


class Reader:
    """A state location, made by `open`. `data` is the place of the objects, or None to follow the manifest."""

    def __init__(self, state: Storage, data: Storage | None = None, observer: Observer = ignore_event) -> None:
        self._ledger, self._cursors = Ledger(state), CursorStore(state)
        self._data, self._observer = data, observer
        self.url = state.url

    def latest(self) -> Snapshot:
        """Return the committed snapshot. Raises NoState before the first commit, StateUnreadable, StorageError."""
        current = self._ledger.current()
        if current is None:
            raise self._ledger.no_commit()
        return self.snapshot_of(current.manifest, current.head.manifest)

    def run(self, run_id: str) -> Snapshot:
        """Return an earlier run's snapshot. Its objects exist until a prune. Raises ObjectMissing, StateUnreadable."""
        return self.snapshot_of(self._ledger.manifest(run_id))

    def history(self, limit: int | None = None) -> Iterator[Snapshot]:
        """Yield the committed snapshots, newest first, as far back as they were kept."""
        return map(self.snapshot_of, self._ledger.history(limit))

    def cursor(self, name: str) -> StoredCursor:
        """Return what the consumer of that name has taken, nothing before its first time.

        Raises ConfigError for the name.
        """
        return self._cursors.read(name)

    def row_changes(
        self,
        since: Snapshot | StoredCursor | str,
        until: Snapshot | None = None,
        *,
        tables: Collection[TableName] | None = None,
    ) -> Iterator[RowChange | TableChange]:
        """Yield the rows that changed from one snapshot to another, table by table; see docs/consumers.md.

        `since` is a snapshot, a run's id, or the cursor of a consumer. `until` is the current snapshot by default.
        `tables` limits the comparison. Only objects that differ are read. Memory stays bounded; large changes use
        temporary files. Raises ObjectMissing if the snapshot to compare with was pruned, and the errors of `Table`.
        Discard what was handed out of a table before such an error.
        """
        now = self.latest() if until is None else until
        before = self.run(since) if isinstance(since, str) else since
        chosen = [table for table in now.tables if tables is None or table.name in tables]
        if isinstance(before, Snapshot):
            old = {table.name: table for table in before.tables}
        else:
            old = find_taken(before.taken, chosen, (one.tables for one in self.history()))
        gone = [name for name in now.changes(before).gone if tables is None or name in tables]
        return row_changes(old, chosen, gone)

    def snapshot_of(self, manifest: Manifest, key: str | None = None) -> Snapshot:
        """Return the snapshot that a manifest describes. `key` is the manifest's key in the state."""
        return Snapshot(manifest, self._data or open_data(manifest.destination, self._observer), key)


class Snapshot(Mapping[str, "Table"]):
    """One run's snapshot of every table, by `schema.table`. Tables that never had a good snapshot are absent.

    `manifest_key` is the manifest's key in the state, set only for the committed snapshot.
    """

    def __init__(self, manifest: Manifest, data: Storage, manifest_key: str | None = None) -> None:
        self.manifest, self.manifest_key, self._data = manifest, manifest_key, data

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    @property
    def data(self) -> Storage:
        """Return the storage that holds the objects, by the manifest's keys."""
        return self._data

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Return every table with a good snapshot, in the manifest's order."""
        layout = LAYOUTS.get(self.manifest.layout)  # type: ignore[call-overload]
        if layout is None or not layout.objects_stay:
            raise ConfigError(
                "can't read this destination",
                on=self.manifest.destination,
                why=f"the receiver of the layout {self.manifest.layout} moves objects away as they arrive",
                hint="Land in a bucket of your own, read that, and let `deliver` fill the landing zone.",
            )
        good = [entry for entry in self.manifest.tables if entry.checksum is not None and entry.status != "dropped"]
        return tuple(Table(entry, self.manifest.source.dialect, self._data) for entry in good)

    @property
    def unread(self) -> frozenset[TableName]:
        """Return the source's tables that could not be read so far. Do not treat them as dropped."""
        known = (entry for entry in self.manifest.tables if entry.checksum is None and entry.status != "dropped")
        return frozenset(entry.table for entry in known)

    def changes(self, since: Snapshot | StoredCursor | None) -> Changes[Table]:
        """Return the changes since an earlier snapshot or a consumer's cursor: tables, and chunks within them."""
        taken = () if since is None else since.taken
        return compare_snapshots([(table, table.taken) for table in self.tables], taken, self.unread)

    @property
    def taken(self) -> tuple[TakenTable, ...]:
        """Return the marks of a consumer that loaded all of this snapshot."""
        return tuple(table.taken for table in self.tables)

    def __getitem__(self, label: str) -> Table:
        """Return a table by `schema.table`, or by only its name if that is unique. Raises KeyError."""
        exact = [table for table in self.tables if table.label == label]
        found = exact or [table for table in self.tables if table.name.name == label]
        if len(found) > 1:
            raise KeyError(f"{label} is ambiguous: {', '.join(table.label for table in found)}")
        if not found:
            raise KeyError(label)
        return found[0]

    def __repr__(self) -> str:
        tables = plural(len(self.manifest.tables), "table")
        return f"<Snapshot {self.run_id} of {self.manifest.source.database}: {tables}>"

    def __iter__(self) -> Iterator[str]:
        return (table.label for table in self.tables)

    def __len__(self) -> int:
        return len(self.tables)


class Table:
    """One table in one snapshot. Every way to read it verifies each object's SHA-256 and raises VerificationFailed.

    Discard what was handed out before that error. The last block of an object's rows is handed out only after the
    object was verified. So a caller that reached the end without an error has read exactly what the run wrote. All read
    methods take `chunks`, a subset of `objects`, to read only these (see `Snapshot.changes`). Memory use stays flat.
    """

    def __init__(self, entry: TableEntry, dialect: str, data: Storage) -> None:
        self.entry, self._dialect, self._data = entry, dialect, data

    def __repr__(self) -> str:
        rows, chunks = plural(self.entry.rows or 0, "row"), plural(len(self.objects), "chunk")
        return f"<Table {self.label}: {rows} in {chunks}>"

    @property
    def name(self) -> TableName:
        return self.entry.table

    @property
    def label(self) -> str:
        return self.entry.table.label

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.entry.columns

    @property
    def objects(self) -> tuple[ObjectEntry, ...]:
        """Return the table's chunks in order. Each is an object at the destination."""
        return self.entry.objects

    @cached_property
    def taken(self) -> TakenTable:
        """Return the mark of a consumer that loaded this table."""
        entry = self.entry
        return TakenTable(
            schema=entry.schema,
            name=entry.name,
            checksum=entry.checksum or "",
            shape=columns_digest(entry.columns),
            chunks=tuple(one.content_sha256 for one in entry.objects),
        )

    @property
    def dialect(self) -> str:
        """Return the dialect of the source, which gives the columns their types."""
        return self._dialect

    @property
    def place(self) -> str:
        """Return the URL of the objects' place."""
        return self._data.url

    def types(self, text: Collection[str] = ()) -> tuple[ColumnType, ...]:
        """Return the type of each column; see docs/consumers.md.

        `text` names columns to read as they are in the lines.
        """
        unknown = set(text) - {column.name for column in self.columns}
        if unknown:
            why = f"the table has no column {sorted(unknown)[0]}"
            raise ConfigError("can't read a column as text", on=self.label, why=why)
        return tuple(column_type(column, self._dialect, column.name in text) for column in self.columns)

    def blocks(self, chunks: Sequence[ObjectEntry] | None = None) -> Iterator[bytes]:
        """Yield the lines as blocks of whole lines, a few hundred KiB each. This is the fastest way to copy them."""
        entry = self.entry
        return chain.from_iterable(
            blocks(self._data, one, entry.encoding or Encoding())
            for one in (entry.objects if chunks is None else chunks)
        )

    def lines(self, chunks: Sequence[ObjectEntry] | None = None) -> Iterator[bytes]:
        """Yield each row's line as it was landed, without its newline; for CSV each record."""
        for block in self.blocks(chunks):
            yield from split_records(block) if self._csv else block.removesuffix(b"\n").split(b"\n")

    def rows(self, chunks: Sequence[ObjectEntry] | None = None) -> Iterator[dict[str, Any]]:
        """Yield rows as dicts of JSON values. Numeric columns are Decimal, NaN and Infinity are numbers.

        Dates, times, uuids and bytea stay PostgreSQL's text. A domain's values are those of its base type. Numbers
        inside json, arrays and composites are ints, floats if these print as the same number, or else Decimals. For CSV
        every value is its text, or None. Raises DoesNotFit.
        """
        names = tuple(column.name for column in self.columns)
        rows_of = self._csv_rows if self._csv else rows_reader(names, self.types())
        for block in self.blocks(chunks):
            try:
                rows = rows_of(block)
            except UnreadableValue as error:
                raise unreadable_value(self.label, error.column) from None
            except (msgspec.MsgspecError, ValueError):
                raise not_as_described(self.label) from None
            except RecursionError:
                raise too_deep(self.label) from None
            yield from rows

    def batches(
        self, chunks: Sequence[ObjectEntry] | None = None, *, text: Collection[str] = (), infinite: bool = False
    ) -> Iterator[Any]:
        """Yield the rows as typed pyarrow.RecordBatch; see docs/consumers.md. Needs the extra `arrow`.

        Raises DoesNotFit for a value without an exact counterpart. `text` reads such a column as text.
        """
        return self.converter(text, infinite).batches(self.blocks(chunks))

    def arrow(
        self, chunks: Sequence[ObjectEntry] | None = None, *, text: Collection[str] = (), infinite: bool = False
    ) -> Any:
        """Return the rows as a pyarrow.RecordBatchReader, which knows its schema and can be read once."""
        return self.stream(chunks, text=text, infinite=infinite).reader

    def stream(
        self, chunks: Sequence[ObjectEntry] | None = None, *, text: Collection[str] = (), infinite: bool = False
    ) -> BatchStream:
        """Return the RecordBatchReader together with the error that broke it, for C++ readers."""
        return self.converter(text, infinite).stream(self.blocks(chunks))

    def converter(self, text: Collection[str] = (), infinite: bool = False) -> BatchConverter:
        """Return the converter from blocks of this table's lines to record batches."""
        if self._csv:
            raise ConfigError(
                "can't read CSV as typed values",
                on=self.label,
                why="its fields are the source's own text, so an array looks like a string",
                hint="Land JSON Lines (destination.format: jsonl), or read the text: rows() of the reader.",
            )
        names = tuple(column.name for column in self.columns)
        return BatchConverter(RowShape(self.label, names, self.types(text), infinite))

    def relation(self, connection: Any, *, name: str | None = None, text: Collection[str] = ()) -> Any:
        """Return the table as a DuckDB relation on a connection, over a temporary table with its verified rows.

        `name` is the temporary table's name and must be free. By default it is the table's own name, with a number if
        that is taken; the relation's `alias` tells it. Needs the extra `duckdb`. Raises ConfigError.
        """
        return duckdb.relation(connection, self.name, name, self.stream(text=text, infinite=True), self.types(text))

    @property
    def _csv(self) -> bool:
        return self.entry.encoding is not None and self.entry.encoding.format == "csv"

    def _csv_rows(self, block: bytes) -> list[dict[str, Any]]:
        names = tuple(column.name for column in self.columns)
        values = (fields(record) if names or record else [] for record in split_records(block))
        return [dict(zip(names, one, strict=True)) for one in values]


def open(
    destination: str | PathLike[str] | None = None,
    *,
    state: str | PathLike[str] | None = None,
    observer: Observer = ignore_event,
) -> Reader:
    """Open the runs that landed at a destination: `s3://bucket/prefix`, or a folder's path. Makes no request.

    `state` is the state location, if it is not DESTINATION/_floodmark. With `state` only, the manifest says where the
    data is. If a destination is also given, it says the new place of a moved bucket. Raises ConfigError.
    """
    if destination is None and state is None:
        raise ConfigError("can't open the landed data", why="neither a destination nor a state is given")
    place = fspath(state) if state is not None else f"{fspath(destination or '').rstrip('/')}/_floodmark"
    data = None if destination is None else open_data(fspath(destination), observer)
    return Reader(open_data(place, observer), data, observer)


def open_data(url: str, observer: Observer) -> Storage:
    """Open a place to read from, or to write a target's own files to, with retries. Raises ConfigError."""
    return RetryingStorage(open_storage(url, StorageOptions()), observer)
