"""An SQLite file as a source: one read transaction on one connection, with change detected only by digest.

SQLite keeps no row versions, so nothing can be proven unchanged: every table is read, and a table whose lines have the
same hash as before is `identical`. SQLite's own messages can quote a value, so errors hold only the name of its code.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from floodmark.config import Selection
from floodmark.errors import ConfigError, SourceError, SourceUnavailable, TableError
from floodmark.model import (
    Chunk,
    Extracted,
    Format,
    Observation,
    Part,
    Point,
    Question,
    SourceIdentity,
    TableInfo,
    TableName,
)
from floodmark.source.base import Drawback, NamedRelation, Write
from floodmark.source.quoting import qualified
from floodmark.source.selection import TableChoice
from floodmark.source.sqlite.lines import write_rows
from floodmark.source.sqlite.tables import SCHEMA, SQLiteTable, named_relation, read_relations, read_tables
from floodmark.wording import iso_time

OLDEST = (3, 37, 0)  # PRAGMA table_list
_WAITING_HELPS = ("SQLITE_BUSY", "SQLITE_LOCKED")
_NOT_TEXT = "a text is not valid UTF-8"
_HINTS = {
    "SQLITE_NOTADB": "The file is not an SQLite database, or it is encrypted.",
    "SQLITE_CORRUPT": "The file is damaged: run PRAGMA integrity_check.",
    "SQLITE_BUSY": "Another program has locked the database: run again when it is done.",
    "SQLITE_READONLY": "In WAL mode SQLite needs -wal and -shm files next to the database, or the right to make them.",
    "SQLITE_CANTOPEN": "This user must be able to read the file and its folder.",
    _NOT_TEXT: "Leave the column out (columns.exclude), or repair it with CAST(… AS BLOB).",
}


class SQLiteSource:
    """An SQLite database file, opened read-only.

    Its identity is its absolute path, symbolic links kept. A file that moved is another database, and a file put in its
    place (such as a restored backup) is the same one. `busy_seconds` is the time to wait for a program that locks the
    database.
    """

    def __init__(self, url: str, busy_seconds: float = 30.0, row_format: Format = "jsonl") -> None:
        self._path = _file_path(url)
        self._format = row_format
        self._busy_seconds = busy_seconds
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)

    @property
    def label(self) -> str:
        return f"sqlite:///{self._path}"

    def snapshot(self) -> SQLiteSnapshot:
        """Begin a read transaction. Raises SourceUnavailable if the database is locked, else SourceError."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise SourceError(
                "can't read SQLite databases",
                on=self.label,
                why=f"Python's SQLite is {sqlite3.sqlite_version}; 3.37 or later is needed",
            )
        opened = None
        try:
            opened = self._engine.raw_connection()
            return SQLiteSnapshot(opened, self._identity, self._format)
        except (sqlite3.Error, DBAPIError) as error:
            if opened is not None:
                opened.close()
            raise self._refusal(error) from None

    def _connect(self) -> sqlite3.Connection:
        """Return a connection without automatic transactions, for use by one thread after another."""
        return sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=self._busy_seconds,
            check_same_thread=False,
        )

    @property
    def _identity(self) -> SourceIdentity:
        path = hashlib.sha256(os.fsencode(self._path)).hexdigest()
        return SourceIdentity("sqlite", path[:32], self._path.stem, sqlite3.sqlite_version)

    def _refusal(self, error: Exception) -> SourceError:
        code = _code(error)
        kind = SourceUnavailable if code.startswith(_WAITING_HELPS) else SourceError
        if code.startswith("SQLITE_CANTOPEN") and not self._path.exists():
            return kind("can't open the source", on=self.label, why=f"the file does not exist ({code})")
        return kind("can't open the source", on=self.label, why=code, hint=_hint(code))


class SQLiteSnapshot:
    """One moment of an SQLite database; `floodmark.source.base.Snapshot` states its obligations."""

    def __init__(self, opened: PoolProxiedConnection, identity: SourceIdentity, row_format: Format) -> None:
        assert isinstance(opened.driver_connection, sqlite3.Connection)
        self._opened = opened
        self._format = row_format
        self._connection = opened.driver_connection
        # The time comes before the snapshot, which the first read takes: the snapshot holds everything committed by
        # then.
        self.point = Point(iso_time(datetime.now(UTC), "microseconds"))
        self._connection.execute("BEGIN")
        self._relations = read_relations(self._connection)
        self.identity = identity
        self.default_schema = SCHEMA
        self.parallelism = 1
        self.drawbacks = _drawbacks(self._connection)
        self._tables: dict[TableName, SQLiteTable] = {}
        self.choice = TableChoice()

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        self.choice, found = read_tables(self._connection, self._relations, selection, encoding_digest)
        self._tables = {table.info.table: table for table in found}
        return [table.info for table in found]

    def existing_relations(self, names: Sequence[TableName]) -> Mapping[TableName, NamedRelation]:
        wanted = set(names)
        return {relation.table: named_relation(relation) for relation in self._relations if relation.table in wanted}

    def redefined_tables(
        self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str
    ) -> list[TableName]:
        """Return no table: in SQLite a read transaction keeps definitions as it keeps rows."""
        return []

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        """Count rows, and count all of them as young, since SQLite can't tell: so nothing is ever proven."""
        return [self._answer_one(question.table) for question in questions]

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        known = self._tables[table.table]
        if table.denied is not None:
            raise TableError("can't extract", code="denied", on=table.table.label, why=table.denied)
        try:
            rows = self._connection.execute(known.statement)
            return Extracted(write_rows(rows, known.shape, self._format, write), None)
        except sqlite3.Error as error:
            raise _table_error(error, "can't extract", table.table, known.where) from None

    def is_alive(self) -> bool:
        """Return True: there is no server between Floodmark and the file."""
        return True

    def close(self) -> None:
        """Close the connection. SQLAlchemy logs any error and raises nothing."""
        self._opened.close()

    def _answer_one(self, table: TableName) -> Observation:
        try:
            (rows,) = self._connection.execute(f"SELECT count(*) FROM {qualified(table)}").fetchone()
        except sqlite3.Error as error:
            raise _table_error(error, "can't observe", table, None) from None
        return Observation(rows, rows, 0, 0)


def _file_path(url: str) -> Path:
    """Return the absolute path of the file a URL names. Raises ConfigError, which never holds the URL."""
    what = "can't use the source URL"
    hint = "Write sqlite:///file.db, or sqlite:////data/file.db for a path from the root."
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(what, why="it is not a valid URL", hint=hint) from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ConfigError(what, why="SQLite is read with Python's own driver only", hint=hint)
    if parsed.host or parsed.username or parsed.query:
        raise ConfigError(what, why="it contains more than the path of a file", hint=hint)
    if not parsed.database or parsed.database == ":memory:" or "\x00" in parsed.database:
        raise ConfigError(what, why="it names no file", hint=hint)
    return Path(os.path.abspath(parsed.database))  # noqa: PTH100 - resolve() would follow links


def _drawbacks(connection: sqlite3.Connection) -> tuple[Drawback, ...]:
    (mode,) = connection.execute("PRAGMA main.journal_mode").fetchone()
    if mode == "wal":
        return ()
    found = f"the database's journal mode is {mode}: writers wait until all tables are read."
    return (Drawback(found, "Run PRAGMA journal_mode = WAL once: then writers don't wait."),)


def _table_error(error: sqlite3.Error, what: str, table: TableName, where: str | None) -> TableError:
    code = _code(error)
    hint = (
        "tables.rules.*.where must be a condition that SQLite accepts."
        if where and code == "SQLITE_ERROR"
        else _hint(code)
    )
    return TableError(what, on=table.label, why=code, hint=hint)


def _code(error: Exception) -> str:
    """Return the name of SQLite's code. Python decodes texts itself, and gives no code if one is not valid UTF-8."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", None)
    if isinstance(name, str):
        return name
    return _NOT_TEXT if isinstance(cause, sqlite3.OperationalError) else type(cause).__name__


def _hint(code: str) -> str | None:
    return next((hint for start, hint in _HINTS.items() if code.startswith(start)), None)
