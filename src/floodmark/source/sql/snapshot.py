"""A database as a source, by its dialect: one snapshot on one or more connections, and the questions it can answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace
from sqlalchemy import Connection, Executable
from sqlalchemy.exc import SQLAlchemyError

from floodmark.config import Selection
from floodmark.errors import ConfigError, TableError
from floodmark.model import Chunk, Point, SourceIdentity, TableName
from floodmark.observed import Extracted, Observation, Part, Question, TableInfo
from floodmark.source.base import BlockLog, Diagnosis, Drawback, NamedRelation, Write
from floodmark.source.selection import TableChoice
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.facts import SqlTable
from floodmark.source.sql.lines import write_rows
from floodmark.source.sql.ranges import Division, conditions, cut_by_hash, grid, rows_in_range
from floodmark.source.sql.sessions import Sessions, UnreadableRow
from floodmark.source.sql.statements import (
    Condition,
    count_rows,
    select_bounds,
    select_keys,
    select_rows,
)
from floodmark.source.sql.tables import TableReader, named_relation
from floodmark.wording import plural

_SAMPLE_ROWS = 256
# Rows that a driver hands on at once: about this many bytes of them, if their size is known.
_BUFFER_BYTES = 256 * 1024
_FEWEST_ROWS, _MOST_ROWS = 16, 1000
_KEY_BYTES = 256


class SqlSource:
    """A database that a dialect reads. Raises ConfigError if its driver is missing."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._engine = dialect.make_engine()

    @property
    def label(self) -> str:
        return self._dialect.label

    def diagnose(self) -> Sequence[Diagnosis]:
        try:
            with self._engine.connect() as connection:
                return self._dialect.diagnose(connection)
        except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error, OSError) as error:
            raise self._dialect.refusal(error) from None

    def snapshot(self) -> SqlSnapshot:
        """Take a snapshot. Raises SourceUnavailable if waiting may help, else SourceError."""
        return self._taken(self._dialect.options.limits.connections)

    def present(self) -> SqlSnapshot:
        """Take a snapshot on one connection, to see what changed since another one."""
        return self._taken(1)

    def _taken(self, connections: int) -> SqlSnapshot:
        try:
            opened = self._dialect.open_snapshot(self._engine, connections)
        except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error, OSError) as error:
            raise self._dialect.refusal(error) from None
        return SqlSnapshot(self, self._dialect, opened)


class SqlSnapshot:
    """One moment of a database; `floodmark.source.base.SourceSnapshot` states its obligations."""

    line_maker = None  # this package makes all lines

    def __init__(self, source: SqlSource, dialect: Dialect, opened: OpenSnapshot) -> None:
        self._source, self._dialect, self._opened = source, dialect, opened
        self._sessions = Sessions(dialect, opened)
        self._tables: dict[TableName, SqlTable] = {}
        self.identity: SourceIdentity = opened.identity
        self.point = Point(opened.taken_at, consistency=opened.consistency, mixed=opened.mixed or UNSET)
        self.default_schema = opened.default_schema
        self.choice = TableChoice()
        try:
            with self._sessions.task("can't read the catalog") as connection:
                self._relations = dialect.relations(connection)
        except BaseException:
            self.close()
            raise

    @property
    def shared(self) -> None:
        return None

    @property
    def block_log(self) -> BlockLog | None:
        return None

    @property
    def parallelism(self) -> int:
        return self._sessions.parallelism

    @property
    def drawbacks(self) -> Sequence[Drawback]:
        return (*self._opened.drawbacks, *self._dialect.table_drawbacks(list(self._tables.values())))

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        self.choice, read = self._read(selection, encoding_digest)
        if self._opened.mixed:
            read = [replace(table, info=_without_keys(table.info)) for table in read]
        found = [self._divided(table) for table in read]
        self._tables = {table.info.table: table for table in found}
        if not all(table.facts.snapshot for table in found):
            self.point = replace(self.point, mixed=True)
        return [table.info for table in found]

    def _read(self, selection: Selection, encoding_digest: str) -> tuple[TableChoice, list[SqlTable]]:
        with self._sessions.task("can't read the catalog") as connection:
            reader = TableReader(self._dialect, connection, self.default_schema, self._sessions.driver_errors)
            return reader.read(self._relations, selection, encoding_digest)

    def existing_relations(self, names: Sequence[TableName]) -> Mapping[TableName, NamedRelation]:
        wanted = set(names)
        return {one.table: named_relation(one) for one in self._relations if one.table in wanted}

    def redefined_tables(
        self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str
    ) -> list[TableName]:
        """Return the tables whose definition a new snapshot shows otherwise, if definitions can change under one."""
        if not tables or self._dialect.definitions_stay:
            return []
        present = self._source.present()
        try:
            if present.identity != self.identity:
                return [table.table for table in tables]
            now = {table.info.table: table.info for table in present._read(selection, encoding_digest)[1]}
        except ConfigError:  # a table that a pattern or rule names is gone: a new snapshot will show which
            return [table.table for table in tables]
        finally:
            present.close()
        return [table.table for table in tables if not _same_definition(table, now.get(table.table))]

    # Ranges

    def _divided(self, table: SqlTable) -> SqlTable:
        """Return the table with the ranges that it is read in. A table that can't be read now is left whole."""
        if table.facts.unreadable is not None or not table.facts.key or not table.facts.cuttable:
            return table
        try:
            with self._sessions.task("can't find the ranges", [table]) as connection:
                return self._measured(connection, table)
        except TableError:  # its extraction will say so, and the other tables go on
            return table

    def _measured(self, connection: Connection, table: SqlTable) -> SqlTable:
        measured = self._dialect.measure(connection, table) or self._sampled(connection, table)
        rows, size = measured
        (part,) = table.info.parts
        part = replace(part, total_bytes=size)
        limit = self._dialect.options.chunk_bytes
        division = self._division(connection, table, rows, size) if size > limit else Division()
        keys = [(self._dialect.key_expression(key), key) for key in table.facts.key]
        ranges = tuple(conditions(keys, division.bounds, self._dialect.bound))
        info = replace(table.info, parts=(replace(part, ranges=len(ranges)),))
        counted = division.rows if ranges else ()
        return replace(table, info=info, ranges=ranges, range_rows=counted, row_bytes=size // max(1, rows))

    def _sampled(self, connection: Connection, table: SqlTable) -> tuple[int, int]:
        """Return the number of rows, and the size of their lines if all are as long as the first ones."""
        (rows,) = connection.execute(count_rows(self._dialect, table, filtered=False)).one()
        unfiltered = replace(table, where=None)
        size = _Size()
        first = self._stream(connection, select_rows(self._dialect, unfiltered).limit(_SAMPLE_ROWS))
        sampled = write_rows(first, table.shape, "jsonl", size.add)
        return rows, size.bytes * rows // max(1, sampled)

    def _division(self, connection: Connection, table: SqlTable, rows: int, size: int) -> Division:
        per_range = rows_in_range(rows, size, self._dialect.options.chunk_bytes)
        if [key.integer for key in table.facts.key] == [True]:
            least, greatest = connection.execute(select_bounds(self._dialect, table)).one()
            if least is None:
                return Division()
            found = grid(int(least), int(greatest), rows, per_range)
            if found is not None:
                return replace(found, bounds=found.bounds[::-1]) if table.facts.key[0].descending else found
        return cut_by_hash(self._stream(connection, select_keys(self._dialect, table), _KEY_BYTES), per_range)

    def _stream(self, connection: Connection, statement: Executable, row_bytes: int = 0) -> Iterator[Sequence[Any]]:
        """Yield the rows of a statement. An error of the driver's own decoding tells no value."""
        options = dict(self._dialect.streaming)
        if options.get("stream_results"):
            options["max_row_buffer"] = max(
                _FEWEST_ROWS, min(_MOST_ROWS, _BUFFER_BYTES // (row_bytes or _BUFFER_BYTES))
            )
        result = connection.execute(statement, execution_options=options)
        try:
            rows = iter(self._dialect.rows(result))
            while True:
                try:
                    row = next(rows, None)
                except (ValueError, ArithmeticError) as error:
                    raise UnreadableRow(type(error).__name__) from None
                if row is None:
                    return
                yield row
        finally:
            result.close()

    # Rows

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        """Answer with digests. Without them count rows, all as young: so nothing is ever proven."""
        tables = list({asked.table: self._tables[asked.table] for asked in questions}.values())
        if not questions:
            return []
        with self._sessions.task("can't observe", tables) as connection:
            return [self._answer_one(connection, asked) for asked in questions]

    def _answer_one(self, connection: Connection, asked: Question) -> Observation:
        table, condition = self._tables[asked.table], self._condition(asked.table, asked.chunk)
        if asked.part.digests:
            return self._digest(connection, table, condition)
        (rows,) = connection.execute(count_rows(self._dialect, table, condition, filtered=False)).one()
        return Observation(rows, rows, 0, 0)

    def _digest(self, connection: Connection, table: SqlTable, condition: Condition) -> Observation:
        rows, digest = self._dialect.digest(connection, table, condition)
        return Observation(rows, 0, 0, 0, digest=digest)

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        known = self._tables[table.table]
        if table.denied is not None:
            raise TableError("can't extract", code="denied", on=table.table.label, why=table.denied)
        condition = self._condition(table.table, chunk)
        with self._sessions.task("can't extract", [known]) as connection:
            rows = self._stream(connection, select_rows(self._dialect, known, condition), known.row_bytes)
            lines = write_rows(rows, known.shape, self._dialect.options.row_format, write)
            seen = self._digest(connection, known, condition) if part.digests else None
        expected = _expected_rows(known, chunk, seen)
        if expected is not None and expected != lines:
            why = f"it gave {plural(lines, 'line')}, but {plural(expected, 'row')} were counted"
            raise TableError("can't extract", on=table.table.label, why=why)
        return Extracted(lines, seen)

    def _condition(self, table: TableName, chunk: Chunk) -> Condition:
        return None if chunk.stop is None else self._tables[table].ranges[chunk.start]

    def is_alive(self) -> bool:
        return self._sessions.is_alive()

    def close(self) -> None:
        self._sessions.close()


def _without_keys(table: TableInfo) -> TableInfo:
    """Return a table of a source without one moment: a row that moves meanwhile can be read twice."""
    return replace(table, primary_key=None, unique_keys=())


class _Size:
    """A consumer of lines that only adds up their sizes."""

    def __init__(self) -> None:
        self.bytes = 0

    def add(self, block: bytes | bytearray | memoryview) -> None:
        self.bytes += len(block)


def _expected_rows(table: SqlTable, chunk: Chunk, seen: Observation | None) -> int | None:
    """Return the number of lines that a chunk must give, None if it is not known."""
    if seen is not None:
        return seen.rows
    counted = table.where is None and chunk.stop is not None and table.range_rows
    return table.range_rows[chunk.start] if counted else None


def _same_definition(then: TableInfo, now: TableInfo | None) -> bool:
    """Return True if nothing that shapes the lines changed, not even temporarily."""
    if now is None or now.oid != then.oid or now.fingerprint != then.fingerprint:
        return False
    return [part.stamp for part in now.parts] == [part.stamp for part in then.parts]
