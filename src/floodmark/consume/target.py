"""What `load` and its targets have in common: what a target holds, and a table on its way there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from floodmark.consume.arrow import Stream
from floodmark.consume.reader import Table
from floodmark.consume.types import ColumnType
from floodmark.errors import FloodmarkError
from floodmark.events import ChunkDone, Observer, silent
from floodmark.model import ObjectEntry, TableName
from floodmark.stop import NEVER, Stop

# What to do about a table that can never be there, so that not every load ends with its error.
LEAVE_OUT = "Leave it out with --exclude."


class Source(Struct, frozen=True):
    """The database that a target's tables come from. One target holds tables of one database."""

    dialect: str
    database: str
    system_identifier: str


class Loaded(Struct, frozen=True):
    """What a target holds: of each table its checksum and its shape there."""

    source: Source
    tables: Mapping[TableName, tuple[str, str]]


class Watch(Struct, frozen=True):
    """Who follows a load, and what may end it: before it is published, at any block of lines."""

    observer: Observer = silent
    stop: Stop = NEVER


class Staged(Struct, frozen=True):
    """A table to load as these types. `shape` is the digest of what it will look like in the target.

    `snapshot` are all tables of the snapshot that it is from. `anew`: nothing that is there already is relied upon.
    """

    table: Table
    types: tuple[ColumnType, ...]
    shape: str
    text: tuple[str, ...] = ()
    watch: Watch = Watch()
    snapshot: frozenset[TableName] = frozenset()
    anew: bool = False

    def stream(
        self, *, infinite: bool, chunks: Sequence[ObjectEntry] | None = None, after: Sequence[ObjectEntry] = ()
    ) -> Stream:
        """Its rows, or those of some chunks. `infinite`: the target knows infinite dates by DuckDB's numbers. `after`:
        chunks that would be read after these; where a value does not fit, the error speaks for them, too.

        Reading it raises Stopped as well.
        """
        blocks = self._watched(self.table.objects if chunks is None else chunks)
        return self.table.converter(self.text, infinite).stream(blocks, self._watched(after))

    def is_there(self, one: ObjectEntry) -> None:
        """Say that a chunk need not be read: the target holds it."""
        self.watch.stop.require_not_asked()
        self.watch.observer(ChunkDone(self.table.name, 0, 0, 0, 0.0))

    def _watched(self, chunks: Iterable[ObjectEntry]) -> Iterator[bytes]:
        for one in chunks:
            begun = time.monotonic()
            for block in self.table.blocks([one]):
                self.watch.stop.require_not_asked()
                yield block
            seconds = time.monotonic() - begun
            self.watch.observer(ChunkDone(self.table.name, one.rows, one.raw_bytes, 0, seconds))


class Target(Protocol):
    """Where tables are loaded. What its readers see changes in `publish` alone, and there all at once.

    A load that ends before that, however it ends, leaves the old tables readable; what it left behind `abandon` takes
    away or, where it could not, a later load. Two loads at once end with a Conflict for one of them, or one after the
    other.
    """

    @property
    def url(self) -> str:
        """Where this is, as a person would write it."""
        ...

    def loaded(self, source: Source) -> Loaded | None:
        """What is there, None for nothing yet. `source` is what will be loaded from; what is there may be another's.

        Raises ConfigError where something else is there.
        """
        ...

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        """The target's own names of these types."""
        ...

    def prepare(self) -> None:
        """Called once before anything is staged. Raises where nothing could be: ConfigError, Conflict, StorageError."""
        ...

    def stage(self, staged: Staged) -> int:
        """Bring a table's rows there, unseen. Returns how many. Raises FloodmarkError: the table keeps its old rows."""
        ...

    def require_droppable(self, name: TableName) -> None:
        """Called for each table to drop, before `publish`. Raises FloodmarkError: the table has to stay."""
        ...

    def publish(
        self, source: Source, run_id: str, staged: Sequence[Staged], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Show all that was staged, drop tables, and say whose all tables are from now on; there may be neither.

        Returns what kept a table as its readers knew it: `loaded` does not give such a one as it was to be, so that the
        next load tries again. Raises Conflict, StorageError.
        """
        ...

    def abandon(self) -> None:
        """Take back what was staged. Only where nothing was published. Raises StorageError."""
        ...

    def close(self) -> None: ...


def shape_in(target: Target, table: Table, types: Sequence[ColumnType]) -> str:
    """The digest of a table's columns as the target has them, and of how their values are read."""
    names = [column.name for column in table.columns]
    facts = list(zip(names, target.shape(types), (kind.kind for kind in types), strict=True))
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
