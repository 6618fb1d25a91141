"""SQL Server by SQLAlchemy: one transaction under SNAPSHOT isolation, and texts where Python's types hold less.

No server was at hand when this was written: the statements are compiled by SQLAlchemy's dialect and compared with texts
(tests/unit/test_sql_statements.py), and nothing of it was tried. docs/sources.md says so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, LargeBinary, String, bindparam, cast, func, inspect, literal_column, text
from sqlalchemy.dialects import mssql
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import NullType

from floodmark.errors import SnapshotLost, SourceError
from floodmark.model import TableName
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.facts import KeyColumn, Maker, SqlColumn, SqlRelation, TableFacts
from floodmark.source.sql.reflection import reflected_facts, reflected_relations
from floodmark.source.sql.values import float32_value
from floodmark.wording import iso_time

LEVEL = "SNAPSHOT"
# The state of the database's option: 1 is on. It is asked in the transaction, so this read fixes the moment.
SNAPSHOT_ALLOWED = "SELECT snapshot_isolation_state FROM sys.databases WHERE name = DB_NAME()"
_SYSTEM = frozenset({"sys", "information_schema", "guest"})
# Style 126 is ISO 8601 with all the digits that the type has.
_ISO: ColumnElement[Any] = literal_column("126")
_MOMENTS = (mssql.DATETIME2, mssql.DATETIME, mssql.SMALLDATETIME, mssql.TIME)
# ODBC ends a message with the error's number and the function that met it.
_NUMBER = re.compile(r"\((\d{1,6})\) \(SQL\w+\)")
# A table changed under the snapshot: by DDL, or its versions are gone.
_LOST = {"3961": "a definition was changed meanwhile", "3966": "the database has no row versions for it"}
_BINARY = ("geography", "geometry", "hierarchyid")
_DIGITS = re.compile(r"(\.\d*?)0+(?=$|[+-])")


class SQLServer(Dialect):
    """A database of SQL Server. It must allow snapshot isolation, or every table would block its writers."""

    product = "SQL Server"

    def open_snapshot(self, engine: Engine, connections: int) -> OpenSnapshot:
        connection = engine.connect()
        try:
            connection = connection.execution_options(isolation_level=LEVEL)
            taken_at = iso_time(datetime.now(UTC), "microseconds")
            state = connection.execute(text(SNAPSHOT_ALLOWED)).scalar_one_or_none()
            if state != 1:
                raise SourceError(
                    "can't read one moment of the database",
                    on=self.label,
                    why="it does not allow snapshot isolation",
                    hint="An administrator can type ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON.",
                )
            return OpenSnapshot(
                connections=(connection,),
                identity=self.identity(connection),
                taken_at=taken_at,
                consistency="one transaction under snapshot isolation",
                default_schema=inspect(connection).default_schema_name or "dbo",
            )
        except BaseException:
            connection.close()
            raise

    def relations(self, connection: Connection) -> list[SqlRelation]:
        return reflected_relations(connection, _SYSTEM)

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        """Return the facts by reflection. A time that Python holds with fewer digits cuts no ranges."""
        found = reflected_facts(connection, relation)
        times = any(isinstance(key.note, (*_MOMENTS, mssql.DATETIMEOFFSET)) for key in found.key)
        return replace(found, cuttable=found.cuttable and not times)

    def expression(self, chosen: SqlColumn) -> ColumnElement[Any]:
        """Return text for what the driver shortens or does not know."""
        plain, kind = super().expression(chosen), chosen.note
        if isinstance(kind, mssql.DATETIMEOFFSET):
            return func.convert(literal_column("varchar(33)"), func.switchoffset(plain, literal_column("0")), _ISO)
        if isinstance(kind, _MOMENTS):
            return func.convert(literal_column("varchar(33)"), plain, _ISO)
        if isinstance(kind, mssql.SQL_VARIANT):
            return cast(plain, mssql.NVARCHAR())
        return cast(plain, LargeBinary()) if chosen.type.lower() in _BINARY else plain

    def maker(self, chosen: SqlColumn) -> Maker | None:
        if isinstance(chosen.note, (*_MOMENTS, mssql.DATETIMEOFFSET)):
            return without_zeros
        if isinstance(chosen.note, mssql.UNIQUEIDENTIFIER):
            return lower_case
        return float32_value if isinstance(chosen.note, mssql.REAL) else super().maker(chosen)

    def bound(self, key: KeyColumn, value: Any) -> ColumnElement[Any]:
        """Return a parameter of the column's own type: as a text of another kind it could be ordered otherwise."""
        plain = bindparam(None, value, type_=NullType())
        return cast(plain, type(key.note)(key.note.length)) if isinstance(key.note, String) else plain

    def code(self, error: Exception) -> str:
        """Return the error's number, or else the driver's name for it."""
        found = _NUMBER.findall(str(getattr(error, "orig", error)))
        return f"SQL Server error {found[-1]}" if found else super().code(error)

    def failure(self, error: Exception, what: str, table: TableName, where: str | None) -> SourceError:
        why = _LOST.get(self.code(error).rpartition(" ")[2])
        if why is not None:
            return SnapshotLost(what, on=table.label, why=why)
        return super().failure(error, what, table, where)


def without_zeros(told: str) -> str:
    """Return a time without the zeros at the end of its fraction."""
    return _DIGITS.sub(lambda found: found[1].rstrip("."), told)


def lower_case(told: Any) -> str:
    return str(told).lower()
