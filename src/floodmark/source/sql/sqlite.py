"""SQLite by Python's own driver: one read transaction on one connection, and tables in their own order.

SQLite keeps no row versions, so nothing can be proven unchanged. A value has a storage class of its own, whatever type
its column declares, and lines hold it by that. SQLite's own messages can quote a value, so errors hold only the name of
its code.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from msgspec import Struct
from sqlalchemy import URL, Connection, CursorResult, Engine, FromClause, Select, TextClause, literal_column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement

from floodmark.errors import ConfigError, SourceError, SourceUnavailable, TableError
from floodmark.model import SourceIdentity, TableName
from floodmark.source.base import Drawback
from floodmark.source.keys import DeclaredKey
from floodmark.source.missing import missing_column
from floodmark.source.quoting import qualified, quoted
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.engine import file_digest, file_of, made_engine
from floodmark.source.sql.facts import KeyColumn, SqlColumn, SqlOptions, SqlRelation, SqlTable, TableFacts
from floodmark.wording import iso_time

SCHEMA = "main"
OLDEST = (3, 37, 0)  # PRAGMA table_list
_WAITING_HELPS = ("SQLITE_BUSY", "SQLITE_LOCKED")
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?P<name>(?:[^"]|"")*)"|`(?:[^`]|``)*`|\[[^\]]*\]""")
_NO_COLUMN = re.compile(r"no such column: ([\w$.]+).*", re.DOTALL)
_NOT_TEXT = "a text is not valid UTF-8"
_HINTS = {
    "SQLITE_NOTADB": "The file is not an SQLite database, or it is encrypted.",
    "SQLITE_CORRUPT": "The file is damaged: run PRAGMA integrity_check.",
    "SQLITE_BUSY": "Another program has locked the database: run again when it is done.",
    "SQLITE_READONLY_ROLLBACK": "A program died while it wrote. Open the database once for writing: SQLite repairs it.",
    "SQLITE_READONLY": "In WAL mode SQLite needs -wal and -shm files next to the database, or the right to make them.",
    "SQLITE_CANTOPEN": "This user must be able to read the file and its folder.",
    _NOT_TEXT: "Leave the column out (columns.exclude), or repair it with CAST(… AS BLOB).",
}
# What a row of PRAGMA table_list is to the user: kind, and the words of SqlRelation.
_KINDS: dict[str, tuple[str, Literal["any", "exact"], str, str]] = {
    "table": ("table", "any", "a table", "table"),
    "view": ("view", "exact", "a view", "view"),
    "virtual": ("virtual table", "exact", "a virtual table", "virtual table"),
    "shadow": ("table", "exact", "a part of a virtual table", "shadow table"),
}


class SQLiteNote(Struct, frozen=True):
    """A row of PRAGMA table_list."""

    table: TableName
    kind: str
    without_rowid: bool


class SQLiteAttribute(Struct, frozen=True, array_like=True):
    """A row of PRAGMA table_xinfo. `hidden` is 1 for a column that `SELECT *` of a virtual table leaves out."""

    number: int
    name: str
    type: str
    not_null: int
    default: str | None
    key: int
    hidden: int


class SQLite(Dialect):
    """An SQLite database file, opened read-only.

    Its identity is its absolute path, symbolic links kept. A file that moved is another database, and a file put in its
    place (such as a restored backup) is the same one. `busy_seconds` is the time to wait for a program that locks the
    database.
    """

    definitions_stay = True
    savepoints = False
    streaming: ClassVar = {}
    product = "SQLite"

    def __init__(self, url: URL, options: SqlOptions, busy_seconds: float = 30.0) -> None:
        self._path = _file_path(url)
        self._busy_seconds = busy_seconds
        super().__init__(url, options)

    @property
    def label(self) -> str:
        return f"sqlite:///{self._path}"

    def make_engine(self) -> Engine:
        return made_engine(URL.create("sqlite"), creator=self._connect)

    def _connect(self) -> sqlite3.Connection:
        """Return a connection without automatic transactions, for use by one thread after another."""
        return sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=self._busy_seconds,
            check_same_thread=False,
        )

    def open_snapshot(self, engine: Engine, connections: int) -> OpenSnapshot:
        """Begin a read transaction. Its first read fixes what it shows, so the time is taken before."""
        if sqlite3.sqlite_version_info < OLDEST:
            why = f"Python's SQLite is {sqlite3.sqlite_version}; 3.37 or later is needed"
            raise SourceError("can't read SQLite databases", on=self.label, why=why)
        connection = engine.connect()
        try:
            taken_at = iso_time(datetime.now(UTC), "microseconds")
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT count(*) FROM main.sqlite_schema").one()
            return OpenSnapshot(
                connections=(connection,),
                identity=self.identity(connection),
                taken_at=taken_at,
                consistency="one read transaction",
                default_schema=SCHEMA,
                drawbacks=_drawbacks(connection),
            )
        except BaseException:
            connection.close()
            raise

    def identity(self, connection: Connection) -> SourceIdentity:
        return SourceIdentity("sqlite", file_digest(self._path), self._path.stem, sqlite3.sqlite_version)

    # The catalog

    def relations(self, connection: Connection) -> list[SqlRelation]:
        """Return every table and view except SQLite's own."""
        rows = connection.exec_driver_sql("PRAGMA main.table_list").all()
        notes = [
            SQLiteNote(TableName(SCHEMA, name), kind, bool(without_rowid))
            for _, name, kind, _, without_rowid, _ in rows
            if not name.lower().startswith("sqlite_")
        ]
        return [SqlRelation(note.table, *_KINDS[note.kind], note=note) for note in notes]

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        rows = connection.exec_driver_sql(f"PRAGMA main.table_xinfo({quoted(relation.table.name)})")
        attributes = [SQLiteAttribute(*row) for row in rows]
        return TableFacts(
            columns=tuple(
                SqlColumn(a.name, a.type, not a.not_null, listed=a.hidden != 1, distinct=_is_converted(a.type))
                for a in attributes
            ),
            definition=[sqlite3.sqlite_version, relation.note, attributes],
            key=_key(connection, relation.note, attributes),
            no_proof="SQLite keeps no row versions",
            keys=tuple(_declared_keys(connection, relation.note, attributes)),
        )

    def measure(self, connection: Connection, table: SqlTable) -> tuple[int, int] | None:
        """Return the size of the file if that is no more than a chunk."""
        (pages,) = connection.exec_driver_sql("PRAGMA main.page_count").one()
        (page,) = connection.exec_driver_sql("PRAGMA main.page_size").one()
        return (1, pages * page) if pages * page <= self.options.chunk_bytes else None

    # Statements

    def from_clause(self, relation: SqlRelation, facts: TableFacts) -> FromClause | TextClause:
        """Return the table. Without an order SQLite might read a covering index instead of it."""
        return text(qualified(relation.table).replace(":", r"\:") + ("" if facts.key else " NOT INDEXED"))

    def key_expression(self, key: KeyColumn) -> ColumnElement[Any]:
        return literal_column(key.name) if key.integer else super().key_expression(key)

    def check_filter(self, connection: Connection, statement: Select[Any]) -> Exception | None:
        try:
            connection.exec_driver_sql(f"EXPLAIN {_strict(str(statement.compile(connection)))}").close()
        except DBAPIError as error:
            return error
        return None

    def refused_filter(self, error: Exception, columns: Sequence[str]) -> tuple[str, str]:
        missing = _NO_COLUMN.fullmatch(str(_cause(error)))
        if missing is None:
            return super().refused_filter(error, columns)
        return missing_column(missing[1], missing[1].rpartition(".")[2], columns)

    def rows(self, result: CursorResult[Any]) -> Iterable[Sequence[Any]]:
        """Return the driver's rows one by one: a row can be as large as a gigabyte."""
        return iter(result.cursor.fetchone, None)

    # Errors

    def lost_connection(self, error: Exception) -> bool:
        return False

    def code(self, error: Exception) -> str:
        """Return the name of SQLite's code. Python decodes texts itself, and has no code if one is not valid UTF-8."""
        cause = _cause(error)
        name = getattr(cause, "sqlite_errorname", None)
        if isinstance(name, str):
            return name
        return _NOT_TEXT if isinstance(cause, sqlite3.OperationalError) else type(cause).__name__

    def hint(self, code: str) -> str | None:
        return next((hint for start, hint in _HINTS.items() if code.startswith(start)), None)

    def refusal(self, error: Exception) -> SourceError:
        code = self.code(error)
        kind = SourceUnavailable if code.startswith(_WAITING_HELPS) else SourceError
        if self._path.is_dir():
            return kind("can't open the source", on=self.label, why="it is a folder")
        if code.startswith("SQLITE_CANTOPEN") and not self._path.exists():
            return kind("can't open the source", on=self.label, why=f"the file does not exist ({code})")
        return kind("can't open the source", on=self.label, why=code, hint=self.hint(code))

    def failure(self, error: Exception, what: str, table: TableName, where: str | None) -> SourceError:
        code = self.code(error)
        if code == "SQLITE_ERROR":
            return super().failure(error, what, table, where)
        return TableError(what, on=table.label, why=code, hint=self.hint(code))


def _strict(statement: str) -> str:
    """Return a statement with its quoted names in backticks. SQLite takes a name in " that it does not know as a text.

    So a filter on a column whose name is misspelt would be accepted, and leave out all rows.
    """
    return _QUOTED.sub(_in_backticks, statement)


def _in_backticks(match: re.Match[str]) -> str:
    if match["name"] is None:
        return match[0]
    name = match["name"].replace('""', '"').replace("`", "``")
    return f"`{name}`"


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _file_path(url: URL) -> Path:
    """Return the absolute path of the file a URL names. Raises ConfigError, which never holds the URL."""
    hint = "Write sqlite:///file.db, or sqlite:////data/file.db for a path from the root."
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        why = "SQLite is read with Python's own driver only"
        raise ConfigError("can't use the source URL", why=why, hint=hint)
    return file_of(url, hint)


def _drawbacks(connection: Connection) -> tuple[Drawback, ...]:
    (mode,) = connection.exec_driver_sql("PRAGMA main.journal_mode").one()
    if mode == "wal":
        return ()
    found = f"the database's journal mode is {mode}: writers wait until all tables are read."
    return (Drawback(found, "Run PRAGMA journal_mode = WAL once: then writers don't wait."),)


def _key(connection: Connection, note: SQLiteNote, attributes: Sequence[SQLiteAttribute]) -> tuple[KeyColumn, ...]:
    """Return the key of the table's own b-tree: its order costs nothing, and no row has NULL in it.

    A declared key of a table with rowids is not: it can hold NULLs. A view has the order of its definition.
    """
    if note.kind in ("view", "virtual"):
        return ()
    if note.without_rowid:
        return _declared_key(connection, note.table)
    taken = {a.name.lower() for a in attributes}
    free = [alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken]
    return (KeyColumn(free[0], integer=True),) if free else ()


def _declared_keys(
    connection: Connection, note: SQLiteNote, attributes: Sequence[SQLiteAttribute]
) -> Iterator[DeclaredKey]:
    """Yield the keys that SQLite enforces. A primary key has an index, unless it is the rowid.

    Only the rowid and the key of a table without one are never NULL by themselves.
    """
    if note.kind in ("view", "virtual"):
        return
    nullable = {a.name for a in attributes if not a.not_null and not (note.without_rowid and a.key)}
    own_index = False
    for _, index, unique, origin, partial in connection.exec_driver_sql(
        f"PRAGMA main.index_list({quoted(note.table.name)})"
    ).all():
        own_index = own_index or origin == "pk"
        if not unique or partial:
            continue
        rows = connection.exec_driver_sql(f"PRAGMA main.index_xinfo({quoted(index)})").all()
        names = [name for _, _, name, _, _, in_key in rows if in_key]
        if None not in names:  # an expression has no name
            yield DeclaredKey(tuple(names), origin == "pk" and nullable.isdisjoint(names))
    if not own_index and (alias := next((a.name for a in attributes if a.key), None)):
        yield DeclaredKey((alias,), primary=True)


def _is_converted(declared: str) -> bool:
    """Return True if a column keeps no two values whose texts are the same: SQLite converts numbers or their texts.

    A column without a type, or of type BLOB, keeps 1 and '1'.
    """
    kind = declared.upper()
    return kind not in ("", "ANY") and (
        "BLOB" not in kind or any(one in kind for one in ("INT", "CHAR", "CLOB", "TEXT"))
    )


def _declared_key(connection: Connection, table: TableName) -> tuple[KeyColumn, ...]:
    """Return the primary key's columns with their collation and direction, so that the order needs no sort."""
    indexes = connection.exec_driver_sql(f"PRAGMA main.index_list({quoted(table.name)})").all()
    (index,) = [name for _, name, _, origin, _ in indexes if origin == "pk"]
    rows = connection.exec_driver_sql(f"PRAGMA main.index_xinfo({quoted(index)})").all()
    return tuple(
        KeyColumn(name, collation=collation, descending=bool(descending))
        for _, _, name, descending, collation, in_key in rows
        if in_key
    )
