"""The connections of one snapshot, each used by one task at a time, and the translation of their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Condition

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from floodmark.errors import FloodmarkError, SnapshotLost, SourceError, SourceUnavailable, TableError
from floodmark.source.sql.dialect import Dialect, OpenSnapshot
from floodmark.source.sql.facts import SqlTable
from floodmark.source.sql.values import NoJsonForm, TooDeep
from floodmark.wording import plural


class UnreadableRow(Exception):
    """A row that the driver or a maker can't turn into values. It holds the name of the error's class only."""


class Sessions:
    """A pool that shrinks if connections break. When none is left, the snapshot is lost."""

    def __init__(self, dialect: Dialect, opened: OpenSnapshot) -> None:
        self._dialect = dialect
        self._opened = opened
        self._live = list(opened.connections)
        self._free = list(opened.connections)
        self._changed = Condition()
        dbapi = opened.connections[0].dialect.loaded_dbapi
        self._errors: tuple[type[Exception], ...] = (SQLAlchemyError, dbapi.Error)

    @property
    def parallelism(self) -> int:
        return max(1, len(self._live))

    @contextmanager
    def task(self, what: str, tables: Sequence[SqlTable] = ()) -> Iterator[Connection]:
        """Lend a connection for one task. A driver's error is translated, and a broken connection is thrown away."""
        connection = self._take(what)
        try:
            yield from self._work(connection, what, tables)
        finally:
            self._give_back(connection)

    def _work(self, connection: Connection, what: str, tables: Sequence[SqlTable]) -> Iterator[Connection]:
        try:
            self._dialect.begin_task(connection, tables)
            try:
                yield connection
                self._dialect.check_task(connection, self._opened, tables)
            finally:
                self._end(connection)
        except self._errors as error:
            raise self._translated(connection, error, what, tables) from None
        except (UnreadableRow, NoJsonForm) as error:
            raise _unreadable(error, what, tables) from None

    def _end(self, connection: Connection) -> None:
        """End the task. If that fails, the connection is of no more use, and the task's own error counts."""
        try:
            self._dialect.end_task(connection)
        except self._errors:
            self._drop(connection)

    @property
    def driver_errors(self) -> tuple[type[Exception], ...]:
        return self._errors

    def is_alive(self) -> bool:
        """Return True if a connection can still begin a task. It asks the database and does not rely on memory."""
        while True:
            try:
                with self.task("can't ask the database"):
                    return True
            except SourceUnavailable:  # that connection broke: ask the next one
                continue
            except FloodmarkError:
                return False

    def close(self) -> None:
        """Close all connections. Never raises."""
        self._dialect.close_snapshot(self._opened)
        with self._changed:
            self._free.clear()
            self._live.clear()
            self._changed.notify_all()
        for connection in self._opened.connections:
            with suppress(Exception):
                connection.close()

    def _take(self, what: str) -> Connection:
        while True:
            with self._changed:
                while self._live and not self._free:
                    self._changed.wait()
                if not self._live:
                    raise _lost(what, self._dialect.label)
                connection = self._free.pop()
            if self._dialect.is_usable(connection):
                return connection
            self._drop(connection)

    def _give_back(self, connection: Connection) -> None:
        with self._changed:
            if connection in self._live:
                self._free.append(connection)
            self._changed.notify_all()

    def _drop(self, connection: Connection) -> None:
        with self._changed:
            if connection in self._live:
                self._live.remove(connection)
        with suppress(Exception):
            connection.invalidate()
            connection.close()

    def _translated(
        self, connection: Connection, error: Exception, what: str, tables: Sequence[SqlTable]
    ) -> FloodmarkError:
        if self._dialect.lost_connection(error):
            self._drop(connection)
        with self._changed:
            dropped, left = connection not in self._live, len(self._live)
        if not dropped and len(tables) == 1:
            return self._dialect.failure(error, what, tables[0].info.table, tables[0].where)
        code = self._dialect.code(error)
        if not dropped:
            return SourceError(what, on=self._dialect.label, why=code)
        if not left:
            return _lost(what, self._dialect.label)
        why = f"the connection broke ({code}); {plural(left, 'other')} of the snapshot remain"
        return SourceUnavailable(what, on=self._dialect.label, why=why)


def _lost(what: str, label: str) -> SnapshotLost:
    return SnapshotLost(what, on=label, why="no connection of the snapshot is left")


def _unreadable(error: Exception, what: str, tables: Sequence[SqlTable]) -> TableError:
    why = f"a value can't be read ({error})"
    if isinstance(error, TooDeep):
        why = "it has a JSON value that is nested too deeply"
    elif isinstance(error, NoJsonForm):
        why = f"it has a value of type {error}, for which there is no form in JSON"
    hint = "Leave the column out (columns.exclude), or read a view that casts it to text."
    return TableError(what, on=tables[0].info.table.label if tables else None, why=why, hint=hint)
