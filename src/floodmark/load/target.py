"""Common types of `load` and its targets: the content of a target, and a table to load."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from floodmark.engine.base import Engine
from floodmark.engine.local import LocalThreads
from floodmark.errors import ConfigError, Conflict, DoesNotFit, FloodmarkError, StorageUnavailable
from floodmark.events import ChunkDone, Observer, ignore_event
from floodmark.load.history import Version
from floodmark.load.read_ahead import read_ahead
from floodmark.meter import ChunkMeter
from floodmark.model import ObjectEntry, TableName
from floodmark.reader.arrow import BatchStream, RowShape, does_not_fit
from floodmark.reader.reader import Table
from floodmark.reader.types import ColumnType
from floodmark.stop import NEVER, Stop

# The threads that convert chunks in this process. With the row groups of two, a load needed 290 MiB.
CONVERTERS = 1
# Hint for a table that can never be loaded, so that the error does not repeat with every load.
LEAVE_OUT = "Leave it out with --exclude."


class LoadSource(Struct, frozen=True):
    """The database that a target's tables come from. One target holds tables of one database."""

    dialect: str
    database: str
    system_identifier: str


class TargetContent(Struct, frozen=True):
    """The content of a target: for each table its checksum and its shape there."""

    source: LoadSource
    tables: Mapping[TableName, tuple[str, str]]


class LoadWatch(Struct, frozen=True):
    """The observer of a load, and the stop signal that can end it before it publishes, at any block of lines.

    `engine` writes the files of a target that consists of files.
    """

    observer: Observer = ignore_event
    stop: Stop = NEVER
    engine: Engine = LocalThreads(CONVERTERS)


class StagedTable(Struct, frozen=True):
    """A table to load with these types. `shape` is the digest of its form in the target.

    `snapshot` holds all tables of its snapshot, and `manifest` is the key of its manifest, if it is known. `versions`
    are those that its history lacks, oldest first: the table itself is the last one. It is empty if no history is kept.
    If `full` is true, the load relies on nothing that the target already holds.
    """

    table: Table
    types: tuple[ColumnType, ...]
    shape: str
    text: tuple[str, ...] = ()
    watch: LoadWatch = LoadWatch()
    snapshot: frozenset[TableName] = frozenset()
    full: bool = False
    manifest: str | None = None
    versions: tuple[Version, ...] = ()

    def stream(self, *, infinite: bool, chunks: Sequence[ObjectEntry] | None = None) -> BatchStream:
        """Stream the table's rows, or those of some chunks.

        If `infinite` is true, the target knows infinite dates by DuckDB's numbers. Reading the stream also raises
        Stopped.
        """
        blocks = self._watched(self.table.objects if chunks is None else chunks)
        return self.table.converter(self.text, infinite).stream(blocks)

    def does_not_fit(self, columns: Collection[str]) -> DoesNotFit:
        """Return the error for columns with a value that their types can't keep."""
        names = tuple(column.name for column in self.table.columns)
        shape = RowShape(self.table.label, names, self.types)
        return does_not_fit(shape, [name for name in names if name in columns])

    def report_unchanged(self, one: ObjectEntry) -> None:
        """Report that the target already holds a chunk, so it need not be read."""
        self.watch.stop.require_not_asked()
        with self._meter(one):
            self.watch.observer(ChunkDone(self.table.name, 0, 0, 0, 0.0, one.stored_bytes))

    def _watched(self, chunks: Iterable[ObjectEntry]) -> Iterator[bytes]:
        for one in chunks:
            begun = time.monotonic()
            with self._meter(one) as meter:
                for block in read_ahead(self.table.blocks([one])):
                    self.watch.stop.require_not_asked()
                    yield block
                    meter.add(len(block))
                seconds = time.monotonic() - begun
                done = ChunkDone(self.table.name, one.rows, one.raw_bytes, 0, seconds, one.stored_bytes)
                self.watch.observer(done)

    def _meter(self, one: ObjectEntry) -> ChunkMeter:
        return ChunkMeter(self.watch.observer, self.table.name, one.chunk, one.stored_bytes, one.raw_bytes)


class LoadTarget(Protocol):
    """A place where tables are loaded. Only `publish` changes what its readers see, and all at once.

    A load that ends before `publish`, for any reason, leaves the old tables readable. `abandon` removes what it left
    behind. If that fails, a later load does. Of two concurrent loads, either one gets a Conflict or they run one after
    the other.
    """

    @property
    def url(self) -> str:
        """Return the place as a person would write it."""
        ...

    def loaded(self, source: LoadSource) -> TargetContent | None:
        """Return the target's content, or None before the first load.

        `source` is the database to load from. The existing content can be another database's. Raises ConfigError if the
        place holds something else.
        """
        ...

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        """Return the target's own names of these types."""
        ...

    def prepare(self) -> None:
        """Prepare for staging; called once, before it.

        Raises ConfigError, Conflict, StorageError if staging is impossible.
        """
        ...

    def stage(self, staged: StagedTable) -> int:
        """Stage a table's rows, invisible to readers.

        Returns the row count. On FloodmarkError the table keeps its old rows.
        """
        ...

    def require_droppable(self, name: TableName) -> None:
        """Check that a table can be dropped; called for each one before `publish`.

        Raises FloodmarkError if it must stay.
        """
        ...

    def publish(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Publish all staged tables, drop tables, and record their source database. Both lists can be empty.

        Returns the errors of tables that readers still see in their old version. `loaded` does not report these as up
        to date, so the next load tries again. Raises Conflict, StorageError.
        """
        ...

    def abandon(self) -> None:
        """Undo the staging. Call it only if nothing was published. Raises StorageError."""
        ...

    def close(self) -> None: ...


def shape_in(target: LoadTarget, table: Table, types: Sequence[ColumnType]) -> str:
    """Return the digest of a table's columns as the target has them, and of how their values are read."""
    names = [column.name for column in table.columns]
    facts = list(zip(names, target.shape(types), (kind.kind for kind in types), strict=True))
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def require_distinct_columns(staged: StagedTable, catalog: str) -> None:
    """Check that all columns still differ if their names are read without case. Raises ConfigError."""
    lower = [column.name.lower() for column in staged.table.columns]
    if len(set(lower)) < len(lower):
        why = "two columns differ only in case"
        raise ConfigError(f"can't load a table into {catalog}", on=staged.table.label, why=why, hint=LEAVE_OUT)


def same_name_error(catalog: str, there: str, holder: TableName, name: TableName, hint: str) -> ConfigError:
    """Return the error for a table whose name in the catalog, `there`, is another table's as well."""
    why = f"{holder.label} and {name.label} have one name in {catalog}"
    return ConfigError(f"can't load a table into {catalog}", on=f"{name.label} as {there}", why=why, hint=hint)


def own_trouble(act: Callable[[], None]) -> FloodmarkError | None:
    """Return the error that keeps one table of a catalog from being written.

    Errors that concern more than this table are raised: another load's success, an unreachable catalog.
    """
    try:
        act()
    except (Conflict, StorageUnavailable):
        raise
    except FloodmarkError as error:
        return error
    return None
