"""DuckDB files by duckdb-engine, opened read-only: no process can write while they are open, so all see one moment.

Rows come in the table's own order, without a sort, which would take memory. A dense integer key cuts a table into
ranges, or else the positions of its rows. The catalog is read by DuckDB's own functions, because
SQLAlchemy's Inspector asks for PostgreSQL's.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import URL, Connection, CursorResult, Engine, Select, cast, func, literal_column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import String

from floodmark.errors import ConfigError, SourceError, SourceUnavailable
from floodmark.model import SourceIdentity, TableName
from floodmark.source.base import Drawback
from floodmark.source.keys import DeclaredKey
from floodmark.source.missing import missing_column
from floodmark.source.quoting import qualified
from floodmark.source.sql import values
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.engine import error_name, file_digest, file_of, made_engine
from floodmark.source.sql.facts import KeyColumn, Maker, SqlColumn, SqlOptions, SqlRelation, TableFacts
from floodmark.source.sql.ranges import is_dense
from floodmark.wording import iso_time

# Memory for DuckDB's buffers, unless the URL says otherwise. Rows of more than about 40 kB need more.
MEMORY = "96MB"
_MEMORY = re.compile(r"\d+(\.\d+)? *[KMGT]i?B", re.ASCII | re.IGNORECASE)
_MEMORY_HINT = "Write duckdb:///file.db?memory_limit=1GB."
_FETCHED = 64
_TABLES = """
SELECT schema_name, table_name, true, sql, comment FROM duckdb_tables()
WHERE database_name = current_database() AND NOT internal AND NOT temporary
UNION ALL
SELECT schema_name, view_name, false, sql, comment FROM duckdb_views()
WHERE database_name = current_database() AND NOT internal AND NOT temporary
"""
_COLUMNS = """
SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = :schema AND table_name = :name ORDER BY column_index
"""
_KEYS = """
SELECT constraint_column_names, constraint_type = 'PRIMARY KEY' FROM duckdb_constraints()
WHERE database_name = current_database() AND schema_name = :schema AND table_name = :name
AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')
"""
_NO_COLUMN = re.compile(r'Binder Error: Referenced column "([\w$.]+)" not found.*', re.DOTALL)
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})
# Types whose text DuckDB writes exactly, while Python's type for them holds less: infinity, 24:00:00, nanoseconds.
_AS_TEXT = re.compile(r"DATE|TIME|TIMESTAMP(_S|_MS|_NS)?|(TIME|TIMESTAMP) WITH TIME ZONE|INTERVAL|TIMESTAMP_\w+")
_LOSSY = re.compile(r"\b(DATE|TIME|TIMESTAMP\w*|INTERVAL|UNION|VARIANT|BIGNUM)\b")
_MOMENT = re.compile(r"(\d+-\d\d-\d\d)( \(BC\))?(?: (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?)?")
_INTERVAL = re.compile(
    r"(?:(-?\d+) years? ?)?(?:(-?\d+) months? ?)?(?:(-?\d+) days? ?)?(?:(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?))?"
)
_ROWID = KeyColumn("rowid", integer=True)


class DuckDBNote(Struct, frozen=True):
    """The statement that makes a table or a view, and the comment on it."""

    definition: str
    comment: str | None


class DuckDB(Dialect):
    """A DuckDB file. Its identity is its absolute path, as that of an SQLite file."""

    definitions_stay = True
    savepoints = False
    product = "DuckDB"
    streaming: ClassVar = {}

    def __init__(self, url: URL, options: SqlOptions) -> None:
        hint = "Write duckdb:///file.db, or duckdb:////data/file.db for a path from the root."
        memory = url.query.get("memory_limit", MEMORY)
        if url.drivername != "duckdb":
            raise ConfigError("can't use the source URL", why="DuckDB is read by duckdb-engine only", hint=hint)
        if not isinstance(memory, str) or _MEMORY.fullmatch(memory) is None:
            raise ConfigError("can't use the source URL", why="its memory_limit is no size", hint=_MEMORY_HINT)
        self._path = file_of(url.difference_update_query(["memory_limit"]), hint)
        self._memory = memory
        super().__init__(url, options)

    @property
    def label(self) -> str:
        return f"duckdb:///{self._path}"

    def make_engine(self) -> Engine:
        """Return an engine that reads the file only, takes no extension from the network, and spills elsewhere."""
        config = {
            "threads": 1,
            "memory_limit": self._memory,
            "temp_directory": self._spill_folder(),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        arguments = {"read_only": True, "config": config}
        return made_engine(URL.create("duckdb", database=str(self._path)), connect_args=arguments)

    def _spill_folder(self) -> str:
        """Return a folder for what does not fit into memory. It holds rows, so only this user can look into it.

        Without one, a statement that needs it fails.
        """
        try:
            folder = tempfile.mkdtemp(prefix="floodmark-duckdb-")
        except OSError:
            return ""
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def open_snapshot(self, engine: Engine, connections: int) -> OpenSnapshot:
        """Open the file. The other connections open it again, which shows the same while the first one is open."""
        taken_at = iso_time(datetime.now(UTC), "microseconds")
        opened: list[Connection] = []
        try:
            for _ in range(connections):
                opened.append(engine.connect())
                opened[-1].exec_driver_sql("SET TimeZone = 'UTC'")
                opened[-1].commit()
            return OpenSnapshot(
                connections=tuple(opened),
                identity=self.identity(opened[0]),
                taken_at=taken_at,
                consistency="a file that is open for reading only",
                default_schema="main",
                drawbacks=(
                    Drawback(
                        "no other process can write to a DuckDB file while it is open for reading.",
                        "Extract a copy of the file if its writers can't wait.",
                    ),
                ),
            )
        except BaseException:
            for connection in opened:
                connection.close()
            raise

    def identity(self, connection: Connection) -> SourceIdentity:
        version = connection.exec_driver_sql("SELECT version()").scalar_one()
        return SourceIdentity("duckdb", file_digest(self._path), self._path.stem, str(version).removeprefix("v"))

    # The catalog

    def relations(self, connection: Connection) -> list[SqlRelation]:
        found = []
        for schema, name, is_table, *note in connection.execute(text(_TABLES)):
            one = SqlRelation(TableName(schema, name), note=DuckDBNote(*note))
            found.append(one if is_table else replace(one, kind="view", by="exact", what="a view", noun="view"))
        return found

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        named = {"schema": relation.table.schema, "name": relation.table.name}
        rows = connection.execute(text(_COLUMNS), named).all()
        columns = tuple(SqlColumn(name, kind, nullable, comment=comment) for name, kind, nullable, comment in rows)
        keys = [DeclaredKey(tuple(names), primary) for names, primary in connection.execute(text(_KEYS), named)]
        return TableFacts(
            columns=columns,
            definition=[relation.note.definition, [[one.name, one.type, one.nullable] for one in columns]],
            key=() if relation.kind == "view" else self._key(connection, relation, columns, keys),
            ordered=False,
            no_proof="DuckDB keeps no row versions",
            keys=tuple(keys),
            comment=relation.note.comment,
        )

    def _key(
        self, connection: Connection, relation: SqlRelation, columns: Sequence[SqlColumn], keys: Sequence[DeclaredKey]
    ) -> tuple[KeyColumn, ...]:
        """Return the primary key if it is a dense integer, else the position of a row, unless a column has its name.

        Another key would need a sort, or a scan of the whole table for each range.
        """
        integers = {one.name for one in columns if one.type in _INTEGERS}
        position = () if any(one.name.lower() == "rowid" for one in columns) else (_ROWID,)
        primary = next((key.columns for key in keys if key.primary), ())
        if len(primary) != 1 or primary[0] not in integers:
            return position
        key = KeyColumn(primary[0], integer=True)
        column = self.key_expression(key).compile(connection)
        whole = qualified(relation.table)
        least, greatest, rows = connection.exec_driver_sql(
            f"SELECT min({column}), max({column}), count(*) FROM {whole}"
        ).one()
        return (key,) if rows and is_dense(least, greatest, rows) else position

    # Statements

    def expression(self, chosen: SqlColumn) -> ColumnElement[Any]:
        plain = super().expression(chosen)
        if _AS_TEXT.fullmatch(chosen.type) or chosen.type in ("BIGNUM", "JSON"):
            return cast(plain, String)
        return cast(func.to_json(plain), String) if _by_json(chosen.type) else plain

    def maker(self, chosen: SqlColumn) -> Maker | None:
        if chosen.type == "JSON" or _by_json(chosen.type):
            return values.json_value
        if chosen.type == "BIGNUM":
            return number_value
        if chosen.type == "FLOAT":
            return values.float32_value
        if chosen.type == "INTERVAL":
            return interval_text
        moment = chosen.type == "DATE" or chosen.type.startswith("TIMESTAMP")
        return moment_text if moment and _AS_TEXT.fullmatch(chosen.type) else None

    def key_expression(self, key: KeyColumn) -> ColumnElement[Any]:
        return literal_column("rowid") if key == _ROWID else super().key_expression(key)

    def check_filter(self, connection: Connection, statement: Select[Any]) -> Exception | None:
        try:
            connection.exec_driver_sql(f"EXPLAIN {statement.compile(connection)}").close()
        except DBAPIError as error:
            connection.rollback()
            return error
        return None

    def refused_filter(self, error: Exception, columns: Sequence[str]) -> tuple[str, str]:
        missing = _NO_COLUMN.fullmatch(str(error.orig)) if isinstance(error, DBAPIError) else None
        if missing is None:
            return super().refused_filter(error, columns)
        return missing_column(missing[1], missing[1].rpartition(".")[2], columns)

    def end_task(self, connection: Connection) -> None:
        """End the transaction: an error would keep it from going on. The file does not change meanwhile."""
        connection.rollback()

    def rows(self, result: CursorResult[Any]) -> Iterable[Sequence[Any]]:
        """Return the driver's rows, a few at a time. DuckDB itself has some thousand in memory."""
        while some := result.cursor.fetchmany(_FETCHED):
            yield from some

    # Errors

    def hint(self, code: str) -> str | None:
        if code == "OutOfMemoryException":
            return "Give DuckDB more memory: add ?memory_limit=1GB to the URL."
        return None

    def refusal(self, error: Exception) -> SourceError:
        told, code = str(error).lower(), error_name(error)
        what = "can't open the source"
        if not self._path.exists():
            return SourceError(what, on=self.label, why=f"the file does not exist ({code})")
        if self._path.is_dir():
            return SourceError(what, on=self.label, why="it is a folder")
        if "lock" in told:
            why, hint = f"another process writes to the file ({code})", "Run again when it is done, or copy the file."
            return SourceUnavailable(what, on=self.label, why=why, hint=hint)
        if "different configuration" in told:
            return SourceError(what, on=self.label, why="this process has the file open already, for writing")
        hint = "The file must be a DuckDB database that this DuckDB can read, and this user too."
        return SourceError(what, on=self.label, why=code, hint=hint)


def _by_json(kind: str) -> bool:
    """Return True for a nested type in which Python would lose some of a value."""
    return (kind.endswith(("]", ")")) and _LOSSY.search(kind) is not None) or kind == "VARIANT"


def moment_text(told: str) -> str:
    """Return DuckDB's text of a date or a timestamp as PostgreSQL writes it. Infinity stays as it is."""
    match = _MOMENT.fullmatch(told)
    if match is None:
        return told
    day, era, clock, offset = match.groups()
    time = "" if clock is None else f"T{clock}"
    return f"{day}{time}{'' if offset is None else f'{offset}:00'}{' BC' if era else ''}"


def interval_text(told: str) -> str:
    """Return DuckDB's text of an interval in ISO 8601."""
    match = _INTERVAL.fullmatch(told)
    if match is None:
        return told
    years, months, days = (int(part or 0) for part in match.group(1, 2, 3))
    sign, hours, minutes, seconds = match.group(4, 5, 6, 7)
    if hours is None:
        return values.iso_interval(years, months, days, 0, 0, "0")
    whole, dot, fraction = seconds.partition(".")
    told = f"{sign}{int(whole)}{dot}{fraction}"
    return values.iso_interval(years, months, days, int(f"{sign}{hours}"), int(f"{sign}{minutes}"), told)


def number_value(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode("ascii"))
