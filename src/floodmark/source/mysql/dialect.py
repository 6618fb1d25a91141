"""MariaDB and MySQL: what they do in their own way, as a dialect of the one SQL source.

The parts: `connect` (URL, driver, TLS, pinned settings), `moment` and `transactions` (one moment on several
connections), `locks` (metadata locks and migrations), `identity` (the table behind a name), `catalog`, `columns`
(values), `filters` and `digest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from msgspec.structs import replace
from sqlalchemy import URL, Connection, CursorResult, Engine, FromClause, Select, TextClause, literal_column, text
from sqlalchemy.sql import ColumnElement

from floodmark.errors import ConfigError, SnapshotLost, SourceError, TableLocked
from floodmark.model import SourceIdentity, TableName
from floodmark.source.base import Diagnosis, Drawback
from floodmark.source.missing import missing_column
from floodmark.source.mysql.catalog import facts_of, read_relations
from floodmark.source.mysql.columns import maker_of, quoted, selected
from floodmark.source.mysql.connect import engine_of
from floodmark.source.mysql.diagnosis import diagnose
from floodmark.source.mysql.digest import covers_order, digest_rows
from floodmark.source.mysql.expressions import is_settled
from floodmark.source.mysql.filters import refused_text
from floodmark.source.mysql.identity import read_counters, read_one
from floodmark.source.mysql.moment import Moment, take_moment
from floodmark.source.mysql.refusals import (
    code_of,
    driver_error,
    is_lost,
    number_of,
    refused_connection,
    table_failure,
)
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.engine import place_digest
from floodmark.source.sql.facts import Maker, SqlColumn, SqlOptions, SqlRelation, SqlTable, TableFacts
from floodmark.source.sql.statements import count_rows
from floodmark.source.sql.tables import digest_of
from floodmark.wording import iso_time

_SAVEPOINT = "floodmark_task"
_STATEMENT = "floodmark_filter"
_FEW_ROWS = 1000
_UNKNOWN_COLUMN = re.compile(r"Unknown column '(.*)' in ", re.DOTALL)
_FILTER_HINT = "tables.rules.*.where must be a condition that the server accepts for every row."


class MySQL(Dialect):
    """A database of a MariaDB or MySQL server. Its schema is the database that the URL names."""

    product = "The server"
    streaming: ClassVar = {}  # the driver's cursor keeps no rows: see `connect`

    def __init__(self, url: URL, options: SqlOptions) -> None:
        if not url.database:
            hint = "Write mysql://user@host:3306/database."
            raise ConfigError("can't use the source URL", why="it names no database", hint=hint)
        super().__init__(url, options)
        self._moments: WeakKeyDictionary[Connection, Moment] = WeakKeyDictionary()

    @property
    def database(self) -> str:
        return self.url.database or ""

    def make_engine(self) -> Engine:
        return engine_of(self.url, self.options.limits)

    def diagnose(self, connection: Connection) -> Sequence[Diagnosis]:
        return diagnose(connection, self.url, self.label, self.options.limits.connections)

    # The snapshot

    def open_snapshot(self, engine: Engine, connections: int) -> OpenSnapshot:
        moment = take_moment(engine, connections, self.database, self.options.limits)
        for one in moment.connections:
            self._moments[one] = moment
        name = "mariadb" if moment.server.maria else "mysql"
        place = place_digest(self.url.set(drivername="mysql", port=self.url.port or 3306))
        return OpenSnapshot(
            connections=moment.connections,
            identity=SourceIdentity(name, place, self.database, moment.server.version),
            taken_at=iso_time(moment.taken_at, "microseconds"),
            consistency=moment.consistency,
            default_schema=self.database,
            drawbacks=moment.drawbacks,
            note=moment,
        )

    def is_usable(self, connection: Connection) -> bool:
        watch = self._moments[connection].watch
        return watch is None or watch.is_usable(connection)

    def close_snapshot(self, snapshot: OpenSnapshot) -> None:
        moment: Moment = snapshot.note
        if moment.watch is not None:
            moment.watch.stop()

    # The catalog

    def relations(self, connection: Connection) -> list[SqlRelation]:
        """Return the tables that were there before the snapshot, and the views."""
        known = self._moments[connection].evidence
        found = read_relations(connection, self.database)
        return [one for one in found if one.note.is_view or one.table.name in known]

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        moment = self._moments[connection]
        found = facts_of(relation, moment.server.maria)
        known = moment.evidence.get(relation.table.name)
        unknown = known is not None and known.written is None and relation.note.transactional
        if unknown or relation.table.name in moment.unsettled:
            why = "another session, such as a migration, is at work on its definition"
            return TableFacts(unreadable=why, snapshot=found.snapshot)
        return replace(found, stamp=digest_of(known))

    def measure(self, connection: Connection, table: SqlTable) -> tuple[int, int] | None:
        """Return InnoDB's estimates for a table of few rows. Larger ones are counted, and their first rows measured.

        The estimates differ from day to day, and lag behind after a bulk load. With them, boundaries would move.
        """
        rows, size = table.facts.rows or 0, table.facts.bytes or 0
        if rows > _FEW_ROWS or size > self.options.chunk_bytes:
            return None
        name = f"{quoted(table.info.table.schema)}.{quoted(table.info.table.name)}".replace("%", "%%")
        more = connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1 OFFSET {_FEW_ROWS}").first()
        return (rows, size) if more is None else None

    # Statements

    def from_clause(self, relation: SqlRelation, facts: TableFacts) -> FromClause | TextClause:
        """Return the table, read by its key or else as it lies. The optimizer might read another index instead."""
        name = f"{quoted(relation.table.schema)}.{quoted(relation.table.name)}"
        if not relation.note.is_view:
            name += f" FORCE INDEX ({quoted(facts.note)})" if facts.key else " USE INDEX ()"
        return text(name.replace(":", r"\:"))

    def expression(self, chosen: SqlColumn) -> ColumnElement[Any]:
        return literal_column(selected(chosen))

    def key_expression(self, key: Any) -> ColumnElement[Any]:
        return literal_column(quoted(key.name))

    def maker(self, chosen: SqlColumn) -> Maker | None:
        return maker_of(chosen)

    def check_filter(self, connection: Connection, statement: Select[Any]) -> Exception | None:
        """Prepare the statement, which reads no row and keeps no lock."""
        compiled = str(statement.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
        try:
            connection.exec_driver_sql(f"PREPARE {_STATEMENT} FROM %s", (compiled,))
            connection.exec_driver_sql(f"DEALLOCATE PREPARE {_STATEMENT}")
        except Exception as error:
            if is_lost(error):
                raise
            return error
        return None

    def undigestible(self, facts: TableFacts, chosen: Sequence[SqlColumn], where: str | None) -> str | None:
        times = {one.name for one in facts.columns if one.note.data_type == "time"}
        if where is not None and not is_settled(where, times):
            return "its filter can depend on more than the row, such as the time"
        if all(is_settled(one.note.generated, times) for one in chosen):
            return None
        return "a generated column can depend on more than the row, such as the time"

    def refused_filter_text(self, connection: Connection, where: str) -> tuple[str, str] | None:
        return refused_text(where, self._moments[connection].server.sql_mode)

    def refused_filter(self, error: Exception, columns: Sequence[str]) -> tuple[str, str]:
        arguments = driver_error(error).args
        missing = _UNKNOWN_COLUMN.match(str(arguments[1])) if number_of(error) == 1054 and len(arguments) > 1 else None
        if missing is None:
            return super().refused_filter(error, columns)
        return missing_column(missing[1], missing[1].rpartition(".")[2], columns)

    # Reading

    def begin_task(self, connection: Connection, tables: Sequence[SqlTable] = ()) -> None:
        watch = self._moments[connection].watch
        if watch is not None:
            watch.begin(connection, [table.info.table for table in tables])
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")

    def check_task(self, connection: Connection, snapshot: OpenSnapshot, tables: Sequence[SqlTable]) -> None:
        """Raise SnapshotLost if a name can mean another table now. `identity` has the reasons for each question."""
        moment: Moment = snapshot.note
        if not tables:
            return
        now = read_counters(connection)
        for table in tables:
            if table.relation.note.is_view or not moment.server.maria:
                if now != moment.counters:
                    raise _lost(table.info.table, "tables or views on the server were changed meanwhile")
            elif table.relation.note.transactional:
                self._check_table(connection, moment, table.info.table, now.tables != moment.counters.tables)

    def _check_table(self, connection: Connection, moment: Moment, table: TableName, changes: bool) -> None:
        """Compare a table's evidence with that of the snapshot: with its ids, if the server had `changes` of tables."""
        if changes and not moment.shows_ids:
            why = "tables on the server were altered or renamed meanwhile, and without PROCESS the role can't see which"
            raise _lost(table, why)
        then = moment.evidence[table.name]
        now = read_one(connection, table.schema, table.name, moment.server.maria, changes)
        if now is not None and now.written is None and then.written is not None:  # the server could not open it
            why = "another session, such as a migration, waits for it"
            raise TableLocked("can't read a table", on=table.label, why=why, hint="Rerun the table later.")
        if now is not None and not changes:
            now = replace(now, ids=then.ids)
        if now != then or (changes and table.name in moment.fresh):
            raise _lost(table, "the table was altered, renamed or exchanged")

    def end_task(self, connection: Connection) -> None:
        try:
            connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
        finally:
            watch = self._moments[connection].watch
            if watch is not None:
                watch.end(connection)

    def rows(self, result: CursorResult[Any]) -> Iterable[Sequence[Any]]:
        """Return the driver's rows one by one: it keeps none of them."""
        return iter(result.cursor.fetchone, None)

    def digest(
        self, connection: Connection, table: SqlTable, condition: ColumnElement[bool] | None
    ) -> tuple[int, str | None]:
        rows, digest = digest_rows(connection, table, count_rows(self, table, condition))
        return rows, digest if covers_order(table) else None

    def table_drawbacks(self, tables: Sequence[SqlTable]) -> tuple[Drawback, ...]:
        shown = [table.info.table.label for table in tables if not table.facts.snapshot]
        if not shown:
            return ()
        names = ", ".join(shown)
        found = f"a snapshot does not show these tables, so each has the rows of the time when it is read: {names}."
        hint = "ALTER TABLE … ENGINE = InnoDB, or leave them out (tables.exclude)."
        return (Drawback(found, hint, topic="engines"),)

    # Errors

    def lost_connection(self, error: Exception) -> bool:
        return is_lost(error)

    def code(self, error: Exception) -> str:
        return code_of(error)

    def refusal(self, error: Exception) -> SourceError:
        return refused_connection(error, self.label)

    def failure(self, error: Exception, what: str, table: TableName, where: str | None) -> SourceError:
        return table_failure(error, what, table, None if where is None else _FILTER_HINT)


def _lost(table: TableName, why: str) -> SnapshotLost:
    return SnapshotLost("the table is not the snapshot's any more", on=table.label, why=why)
