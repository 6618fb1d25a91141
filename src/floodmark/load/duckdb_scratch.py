"""A private DuckDB file that computes the next rows of a history which is kept elsewhere.

It holds the rows that are current until now, and then those of the versions. The columns are those of Iceberg: what
Iceberg has as text is text here, so that it is the same text. An infinite date does not fit, as in an Iceberg table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from floodmark.load.duckdb_errors import DuckDBErrors
from floodmark.load.duckdb_history import DuckDBHistoryFile
from floodmark.load.duckdb_history_sql import table_columns
from floodmark.load.history import HISTORY_COLUMNS, TakenHistory, history_name
from floodmark.load.target import StagedTable
from floodmark.model import Column, TableName
from floodmark.reader.arrow import BatchStream
from floodmark.reader.duckdb import folded_name, insert, quoted
from floodmark.reader.types import ColumnType, column_type

# The number of rows in a vector of DuckDB. It reads no fewer.
_BATCH_ROWS = 2048
_IS_CURRENT = HISTORY_COLUMNS[-1]
_TEXT = ColumnType("text")
_AS_TEXT = ("json", "time", "uuid")


class NextColumn(Struct, frozen=True):
    """A column of the next history, with DuckDB's name of its type."""

    name: str
    duckdb: str

    @property
    def kind(self) -> ColumnType:
        return column_type(Column(self.name, self.duckdb, nullable=True), "duckdb")


class HistoryScratch(DuckDBHistoryFile):
    """The file for one history of one table. `stage` or `stage_closing` computes it."""

    def __init__(self, path: Path, memory: str, table: TableName) -> None:
        super().__init__(path, memory)
        self._errors = DuckDBErrors(self.url, memory, elsewhere="set TMPDIR to a folder elsewhere")
        self._table, self._history = table, history_name(table)
        self.prepare()
        with self._errors.translated("prepare the file"):
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._catalog}.{quoted(table.schema)}")

    def hold(self, current: BatchStream, taken: TakenHistory) -> None:
        """Take the current rows of the history, and its record."""
        self._copy(self._history, current)
        self.free_memory()
        self._kept = {self._table: taken}

    def hold_closed(self, closed: BatchStream) -> None:
        """Take the rows of the history that were closed before."""
        self._copy(self._closed, closed)

    def free_memory(self) -> None:
        """Give DuckDB's buffers back, by opening the file again. The next step needs other ones."""
        self._reopen(self._row_group)

    def taken(self) -> TakenHistory | None:
        """Return the record of the next history, or None if no version had a table."""
        found = self._next.get(self._table)
        return None if found is None else found[1]

    def columns(self) -> list[NextColumn]:
        """Return the columns of the next history."""
        return self._columns_of(self._next[self._table][0])

    def counts(self) -> tuple[int, int]:
        """Return the numbers of current rows and of those that the versions closed."""
        with self._errors.translated("count the rows"):
            counted = f"count(*) FILTER ({_IS_CURRENT}), count(*) FILTER (NOT {_IS_CURRENT})"
            current, closed = self._connection.execute(f"SELECT {counted} FROM {self._next_table}").fetchone()
            return current, closed

    def rows(self, *, current: bool) -> Iterator[Any]:
        """Yield the current rows, or those that the versions closed, as record batches."""
        return self._batches(f"SELECT * FROM {self._next_table} WHERE {_IS_CURRENT} = {current}")

    def closed_before(self) -> Iterator[Any]:
        """Yield the rows of `hold_closed`, in the columns of the next history."""
        there = {folded_name(one.name) for one in self._columns_of(self._closed)}
        chosen = ", ".join(
            f"CAST({quoted(one.name) if folded_name(one.name) in there else 'NULL'} AS {one.duckdb}) "
            f"AS {quoted(one.name)}"
            for one in self.columns()
        )
        return self._batches(f"SELECT {chosen} FROM {self._qualified_name(self._closed)}")

    @property
    def _next_table(self) -> str:
        return self._qualified_name(self._next[self._table][0])

    @property
    def _closed(self) -> TableName:
        return TableName(self._history.schema, f"{self._history.name}_closed")

    def _fill(self, new: TableName, staged: StagedTable) -> None:
        types = [_TEXT if kind.kind in _AS_TEXT else kind for kind in staged.types]
        into = f"CREATE TABLE {self._qualified_name(new)} AS"
        insert(self._connection, into, staged.stream(infinite=False), types)

    def _copy(self, into: TableName, stream: BatchStream) -> None:
        types: Sequence[ColumnType] = [_TEXT] * len(stream.reader.schema)  # as Arrow has them
        with self._errors.translated("copy the history"):
            insert(self._connection, f"CREATE TABLE {self._qualified_name(into)} AS", stream, types)

    def _columns_of(self, table: TableName) -> list[NextColumn]:
        with self._errors.translated("read the columns"):
            return [NextColumn(*column) for column in table_columns(self._connection, table)]

    def _batches(self, query: str) -> Iterator[Any]:
        with self._errors.translated("read the history"):
            relation = self._connection.cursor().sql(query)  # a connection has one unfinished result at a time
            reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch  # before DuckDB 1.5
            with reader(_BATCH_ROWS) as batches:
                yield from batches
