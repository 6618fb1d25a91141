"""The wait for a table that another session keeps locked: once in a run, for all operations on it together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from floodmark.config import Selection
from floodmark.errors import FloodmarkError, TableLocked
from floodmark.model import Chunk, Point, SourceIdentity, TableName
from floodmark.observed import Extracted, Observation, Part, Question, TableInfo
from floodmark.source.base import (
    BlockLog,
    Drawback,
    LineMaker,
    NamedRelation,
    SharedPart,
    SharedSnapshot,
    SourceSnapshot,
    Write,
)
from floodmark.source.selection import TableChoice


class WaitsOnce:
    """A snapshot that gives a table up for the rest of the run, after it stayed locked for `seconds`.

    `locked` are the tables given up so far; the snapshots of a run share it. The waits of threads that wait at the same
    time overlap, so a run waits for a table for no longer than twice that time.
    """

    def __init__(self, snapshot: SourceSnapshot, locked: set[TableName], seconds: int) -> None:
        self._snapshot, self._locked, self._seconds = snapshot, locked, seconds

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        tables = {question.table for question in questions}
        self._require_free(tables)
        try:
            return self._snapshot.observe(questions)
        except TableLocked as error:
            named = [table for table in tables if table.label == error.on]
            if len(named) != 1:  # asked one at a time, each table reports for itself
                raise
            raise self.given_up(named[0]) from None

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        self._require_free([table.table])
        try:
            return self._snapshot.extract(table, part, chunk, open_end, write)
        except TableLocked:
            raise self.given_up(table.table) from None

    @property
    def shared(self) -> SharedSnapshot | None:
        shared = self._snapshot.shared
        return None if shared is None else _SharedOnce(shared, self.given_up)

    def _require_free(self, tables: Iterable[TableName]) -> None:
        given_up = self._locked.intersection(tables)
        if given_up:
            raise self._locked_error(min(given_up))

    def given_up(self, table: TableName) -> TableLocked:
        """Give a table up, and return the error that says so."""
        self._locked.add(table)
        return self._locked_error(table)

    def _locked_error(self, table: TableName) -> TableLocked:
        return TableLocked(
            "can't read a table",
            on=table.label,
            why=f"another session, such as a migration, kept it locked for {self._seconds} s (SQLSTATE 55P03)",
            hint="Rerun the table when that session is done, or raise limits.lock_timeout.",
        )

    # Passed through unchanged

    @property
    def identity(self) -> SourceIdentity:
        return self._snapshot.identity

    @property
    def point(self) -> Point:
        return self._snapshot.point

    @property
    def default_schema(self) -> str:
        return self._snapshot.default_schema

    @property
    def parallelism(self) -> int:
        return self._snapshot.parallelism

    @property
    def drawbacks(self) -> Sequence[Drawback]:
        return self._snapshot.drawbacks

    @property
    def line_maker(self) -> LineMaker | None:
        return self._snapshot.line_maker

    @property
    def choice(self) -> TableChoice:
        return self._snapshot.choice

    @property
    def block_log(self) -> BlockLog | None:
        return self._snapshot.block_log

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        return self._snapshot.tables(selection, encoding_digest)

    def existing_relations(self, names: Sequence[TableName]) -> Mapping[TableName, NamedRelation]:
        return self._snapshot.existing_relations(names)

    def redefined_tables(
        self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str
    ) -> list[TableName]:
        return self._snapshot.redefined_tables(tables, selection, encoding_digest)

    def is_alive(self) -> bool:
        return self._snapshot.is_alive()

    def close(self) -> None:
        self._snapshot.close()


class _SharedOnce(Struct, frozen=True):
    """A shared snapshot that gives a table up if it stayed locked for a worker of another machine."""

    snapshot: SharedSnapshot
    given_up: Callable[[TableName], TableLocked]

    def part(self, table: TableInfo, part: Part) -> SharedPart:
        return self.snapshot.part(table, part)

    def close_idle(self) -> None:
        self.snapshot.close_idle()

    def error_here(self, table: TableName, error: FloodmarkError) -> FloodmarkError:
        return self.given_up(table) if isinstance(error, TableLocked) else self.snapshot.error_here(table, error)
