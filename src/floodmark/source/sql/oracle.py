"""Oracle by SQLAlchemy: one read-only transaction, and texts where Python's types hold less.

No server was at hand when this was written: the statements are compiled by SQLAlchemy's dialect and compared with texts
(tests/unit/test_sql_statements.py), and nothing of it was tried. docs/sources.md says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import CHAR, Connection, Engine, column, func, inspect, literal_column, text
from sqlalchemy.dialects import oracle
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import JSON, NCHAR, DateTime

from floodmark.errors import SnapshotLost, SourceError
from floodmark.model import TableName
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.facts import Maker, SqlColumn, SqlRelation, TableFacts
from floodmark.source.sql.mssql import without_zeros
from floodmark.source.sql.reflection import reflected_facts, relations_of
from floodmark.source.sql.values import float32_value
from floodmark.wording import iso_time

# The order of texts must be the one that comparisons use, and times are written in one way.
SETTINGS = ("ALTER SESSION SET NLS_SORT = BINARY NLS_COMP = BINARY", "ALTER SESSION SET TIME_ZONE = '+00:00'")
BEGIN = "SET TRANSACTION READ ONLY"
# The schemas of users, without those that Oracle maintains.
SCHEMAS = "SELECT username FROM all_users WHERE oracle_maintained = 'N' ORDER BY username"
_ISO = "'YYYY-MM-DD\"T\"HH24:MI:SS.FF9'"
_NUMBER = re.compile(r"ORA-(\d{5})")
# A definition changed under the snapshot, or the row versions for it are gone.
_LOST = {"01466": "a definition was changed meanwhile", "01555": "the database has no row versions for it"}


class Oracle(Dialect):
    """A database of Oracle. A statement that fails ends nothing but itself, so no savepoints are needed."""

    product = "Oracle"
    savepoints = False

    def open_snapshot(self, engine: Engine, connections: int) -> OpenSnapshot:
        connection = engine.connect()
        try:
            schema = inspect(connection).default_schema_name or ""
            for setting in SETTINGS:
                connection.exec_driver_sql(setting)
            connection.rollback()  # the next statement must be the first one of its transaction
            taken_at = iso_time(datetime.now(UTC), "microseconds")
            connection.exec_driver_sql(BEGIN)
            return OpenSnapshot(
                connections=(connection,),
                identity=self.identity(connection),
                taken_at=taken_at,
                consistency="one read-only transaction",
                default_schema=schema,
            )
        except BaseException:
            connection.close()
            raise

    def relations(self, connection: Connection) -> list[SqlRelation]:
        return list(self._relations(connection))

    def _relations(self, connection: Connection) -> Iterator[SqlRelation]:
        inspector = inspect(connection)
        for name in connection.execute(text(SCHEMAS)).scalars().all():
            yield from relations_of(inspector, connection.dialect.normalize_name(name))

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        """Return the facts by reflection. A key with padded texts or times cuts no ranges.

        The Inspector does not tell a key that is disabled or not validated, so no key counts as enforced.
        """
        found = reflected_facts(connection, relation)
        unsure = any(isinstance(key.note, CHAR | NCHAR | DateTime) for key in found.key)
        return replace(found, cuttable=found.cuttable and not unsure, keys=())

    def expression(self, chosen: SqlColumn) -> ColumnElement[Any]:
        """Return text for what the driver shortens."""
        plain: ColumnElement[Any] = column(self.quoted(chosen.name))
        kind = chosen.note
        if isinstance(kind, JSON):
            return func.json_serialize(plain)
        if isinstance(kind, oracle.TIMESTAMP):
            zoned = kind.timezone or kind.local_timezone
            return func.to_char(func.sys_extract_utc(plain) if zoned else plain, literal_column(_ISO))
        return func.to_char(plain) if isinstance(kind, oracle.INTERVAL) else plain

    def maker(self, chosen: SqlColumn) -> Maker | None:
        if isinstance(chosen.note, oracle.TIMESTAMP):
            return utc_moment if chosen.note.timezone or chosen.note.local_timezone else without_zeros
        return float32_value if isinstance(chosen.note, oracle.BINARY_FLOAT) else super().maker(chosen)

    def code(self, error: Exception) -> str:
        found = _NUMBER.search(str(getattr(error, "orig", None) or error))
        return f"ORA-{found[1]}" if found else super().code(error)

    def failure(self, error: Exception, what: str, table: TableName, where: str | None) -> SourceError:
        why = _LOST.get(self.code(error).removeprefix("ORA-"))
        if why is not None:
            return SnapshotLost(what, on=table.label, why=why)
        return super().failure(error, what, table, where)


def utc_moment(told: str) -> str:
    """Return a moment in UTC with its offset, without the zeros at the end of its fraction."""
    return f"{without_zeros(told)}+00:00"
