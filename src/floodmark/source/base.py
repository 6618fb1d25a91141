"""Where rows come from: the protocol of a source, and what it owes its callers.

Obligations, tested for every implementation by tests/contract/test_source.py:

- A `Snapshot` shows one moment of the source, for every table and from every thread, until it is closed.
- `observe` and `extract` may be called from as many threads as `parallelism` says, and lock no writer out.
- `extract` gives the same bytes whenever the same rows are read with the same settings.
- When the source can't be sure that it reads what the snapshot shows (a table rewritten or dropped since,
  the snapshot gone), it raises `SnapshotLost` and what `extract` wrote must be thrown away.
- A table that can't be read raises `TableError`; a lost connection `SourceUnavailable`. Neither holds a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from floodmark.config import Selection
from floodmark.model import (
    Chunk,
    Extracted,
    Observation,
    Part,
    Point,
    Question,
    SourceIdentity,
    TableInfo,
    TableName,
)

Write = Callable[[bytes], object]


class Namesake(Struct, frozen=True):
    """What has a table's name in a snapshot. `what` it is, for messages, as in "a view".

    `kind` says what it is to a selection: a table, one that an extension owns, a part of another table, or
    a relation of another kind, which must be named in full.
    """

    kind: Literal["table", "owned", "part", "other"] = "table"
    what: str = "a table"


class Drawback(Struct, frozen=True):
    """A limit of a snapshot that the operator should know about, as a sentence, and a hint at what lifts it."""

    found: str
    hint: str

    def __str__(self) -> str:
        return f"{self.found} {self.hint}"


class Snapshot(Protocol):
    """One moment of a source."""

    @property
    def identity(self) -> SourceIdentity: ...

    @property
    def point(self) -> Point: ...

    @property
    def default_schema(self) -> str:
        """The schema that a pattern without one means."""
        ...

    @property
    def parallelism(self) -> int:
        """How many threads may work on this snapshot at once."""
        ...

    @property
    def drawbacks(self) -> Sequence[Drawback]:
        """The limits of this snapshot that the operator should know about."""
        ...

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        """The selected tables, ordered by name. `encoding_digest` goes into each config fingerprint.

        Raises ConfigError for a pattern that matches nothing or a rule that names a missing column.
        """
        ...

    def existing(self, names: Sequence[TableName]) -> Mapping[TableName, Namesake]:
        """Return what the snapshot shows under these names, selected or not."""
        ...

    def redefined(self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str) -> list[TableName]:
        """Those whose definition is not what the snapshot shows any more: lines read of them are not to be used."""
        ...

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        """Answer the questions, in order, in one short transaction."""
        ...

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        """Write a chunk's rows, in blocks of whole lines, each ending in a newline.

        They are JSON lines, or, where the source was opened for that, CSV records after a header line (docs/format.md).
        What was written for a chunk that gave no row is not to be kept.
        """
        ...

    def stands(self) -> bool:
        """Whether it can still be read: False once the server was restarted, say, or ended our session."""
        ...

    def close(self) -> None:
        """Let the snapshot go. Never raises."""
        ...


class Source(Protocol):
    """A database that can be extracted."""

    @property
    def label(self) -> str:
        """Where this is, as a person would write it; holds no secret."""
        ...

    def snapshot(self) -> Snapshot:
        """Take a snapshot, at once. Raises SourceUnavailable where waiting may help, SourceError."""
        ...
