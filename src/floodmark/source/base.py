"""The protocol of a source, and its obligations to callers.

tests/contract/test_source.py tests these obligations for every implementation:

- A `Snapshot` shows one moment of the source, for every table and from every thread, until it is closed.
- Up to `parallelism` threads can call `observe` and `extract` at once, and neither blocks a writer.
- `extract` gives the same bytes whenever the same rows are read with the same settings.
- If the source can't be sure that it reads what the snapshot shows (a table rewritten or dropped since, or the
  snapshot gone), it raises `SnapshotLost`. The caller must then throw away what `extract` wrote.
- A table that can't be read raises `TableError`; a lost connection `SourceUnavailable`. Neither holds a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from floodmark.config import Selection, Settings
from floodmark.errors import FloodmarkError
from floodmark.model import Chunk, Point, SourceIdentity, TableName, WalBase
from floodmark.native import EncoderName
from floodmark.observed import BlockQuestion, Extracted, Observation, Part, Question, TableInfo, WrittenBlocks
from floodmark.source.selection import TableChoice
from floodmark.stop import Stop

# A block is valid only during the call: the source writes the next one into the same memory.
Write = Callable[[bytes | bytearray | memoryview], object]


class NamedRelation(Struct, frozen=True):
    """A relation that has a table's name in a snapshot. `what` describes it in messages, as in "a view".

    `kind` is its role for a selection: a table, one that an extension owns, a part of another table, or a relation of
    another kind, which must be named in full.
    """

    kind: Literal["table", "owned", "part", "other"] = "table"
    what: str = "a table"


class Drawback(Struct, frozen=True):
    """A limit of a snapshot that the operator should know about, as a sentence, and a hint that removes it.

    `topic` is the check of `floodmark doctor` that reports it. "snapshot" means that connections can't share it.
    """

    found: str
    hint: str
    topic: str = "snapshot"

    def __str__(self) -> str:
        return f"{self.found} {self.hint}"


class Diagnosis(Struct, frozen=True):
    """A fact about a server that `floodmark doctor` reports under its `topic`.

    `hint` says what to change, None if all is well. If the fact is `fatal`, no run can read this server.
    """

    topic: str
    found: str
    hint: str | None = None
    fatal: bool = False


class LineMaker(Struct, frozen=True):
    """The maker of a snapshot's lines. `why` says why the server makes them."""

    name: EncoderName
    why: str = ""


Coverage = Literal["complete", "pending", "broken"]


class BlockLog(Protocol):
    """The source's own list of the blocks that were written before a snapshot. It never tells less than was written.

    A method that can't ask raises nothing: it answers as if the list was broken. Only the thread of the run calls it.
    """

    @property
    def may_checkpoint(self) -> bool:
        """Return True if `checkpoint` may be called: it makes the source complete the list soon."""
        ...

    def coverage(self, base: WalBase) -> Coverage:
        """Return if the list covers all writes from a base to the snapshot, or will soon (`pending`), or never."""
        ...

    def seconds_until_complete(self) -> float | None:
        """Return in how many seconds a pending list is expected to be complete, None if nobody knows."""
        ...

    def checkpoint(self) -> None:
        """Make the source complete the list. It costs the source a checkpoint."""
        ...

    def written(self, question: BlockQuestion, seconds: float) -> WrittenBlocks:
        """Return the written blocks, or a doubt. It takes no longer than `seconds`."""
        ...


class ChunkSource(Protocol):
    """A source of chunks of one snapshot. Several threads can use it."""

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        """Write a chunk's rows, in blocks of whole lines, each ending in a newline.

        They are JSON lines, or, if the source was opened for CSV, CSV records after a header line (docs/format.md). If
        a chunk gave no row, the caller must not keep what was written for it.
        """
        ...


class SharedPart(Protocol):
    """A part of a table in a snapshot, for a process on another machine. It is pickled, without secret and row.

    `info` is the table, with this part only.
    """

    @property
    def info(self) -> TableInfo: ...

    def open(self, settings: Settings, stop: Stop) -> ChunkSource:
        """Return the part's chunks, read with the credentials in `settings`: this machine's own.

        When `stop` is set, a reading ends soon, with a SourceError, even if it waits for a lock.
        Raises ConfigError if they lead to another source, or would give other lines than the coordinator's. `extract`
        can find that out, too.
        """
        ...


class SharedSnapshot(Protocol):
    """A snapshot that processes on other machines can read at the same time."""

    def part(self, table: TableInfo, part: Part) -> SharedPart: ...

    def close_idle(self) -> None:
        """Close the connections that wait for work: the limit of connections is one for all machines."""
        ...

    def error_here(self, table: TableName, error: FloodmarkError) -> FloodmarkError:
        """Return the error that `extract` raises here, for one of another machine: that one can't see the snapshot."""
        ...


class SourceSnapshot(ChunkSource, Protocol):
    """One moment of a source."""

    @property
    def identity(self) -> SourceIdentity: ...

    @property
    def point(self) -> Point: ...

    @property
    def default_schema(self) -> str:
        """Return the schema that a pattern without a schema refers to."""
        ...

    @property
    def parallelism(self) -> int:
        """Return how many threads can work on this snapshot at once."""
        ...

    @property
    def drawbacks(self) -> Sequence[Drawback]:
        """Return the limits of this snapshot that the operator should know about."""
        ...

    @property
    def line_maker(self) -> LineMaker | None:
        """Return the maker of the lines, None if this kind of source has only one."""
        ...

    @property
    def shared(self) -> SharedSnapshot | None:
        """Return what other machines need to read this snapshot, None if only this process can."""
        ...

    @property
    def choice(self) -> TableChoice:
        """Return what the patterns of the last call of `tables` picked, and what they did not pick."""
        ...

    @property
    def block_log(self) -> BlockLog | None:
        """Return the source's list of written blocks, None if it keeps none."""
        ...

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        """Return the selected tables, ordered by name. `encoding_digest` goes into each config fingerprint.

        Raises ConfigError for a pattern that matches nothing, for a rule that names a missing column, and for a filter
        or a mask that the source refuses. To find that out, no row is read.
        """
        ...

    def existing_relations(self, names: Sequence[TableName]) -> Mapping[TableName, NamedRelation]:
        """Return the relations that the snapshot shows under these names, selected or not."""
        ...

    def redefined_tables(
        self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str
    ) -> list[TableName]:
        """Return the tables whose definition differs from the snapshot's: lines read from them must not be used."""
        ...

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        """Answer the questions, in order, in one short transaction."""
        ...

    def is_alive(self) -> bool:
        """Return True if the snapshot can still be read.

        It is False after a server restart, or after the session ended.
        """
        ...

    def close(self) -> None:
        """Release the snapshot. Never raises."""
        ...


class Source(Protocol):
    """A database that can be extracted."""

    @property
    def label(self) -> str:
        """Return the location, as a person would write it. It holds no secret."""
        ...

    def diagnose(self) -> Sequence[Diagnosis]:
        """Connect, and return what can be said of the server and of the role's rights. Raises SourceError."""
        ...

    def snapshot(self) -> SourceSnapshot:
        """Take a snapshot immediately. Raises SourceUnavailable if waiting may help, else SourceError."""
        ...
