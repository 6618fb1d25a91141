"""Metadata locks that last as long as a snapshot, and a watch that gives them up for a migration.

A transaction that has read a table keeps a metadata lock on it, and an ALTER TABLE waits for that lock, and with it
everyone who comes after. So each task runs in a savepoint, and the rollback to it releases the lock, as mysqldump does.
Seen on MariaDB 10.11: this works only if the session writes no binary log. If the server has one, the session must
switch its own off (`sql_log_bin = 0`), for which the role needs BINLOG ADMIN.

Without that right the locks stay. Then a watch asks, some times a second, for each table that was read, if its lock can
still be had. If it can't, someone waits for us: all connections that hold that lock are closed, as soon as their task
is done. The others go on, and if none is left, the snapshot is lost, and the run takes a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

from sqlalchemy import Connection

from floodmark.model import TableName
from floodmark.source.mysql.columns import quoted
from floodmark.source.mysql.refusals import number_of

_INTERVAL = 0.25  # seconds
_LOCKED = 1205


class LockWatch:
    """Watches the tables that the connections of a snapshot have read. `probe` is a connection of its own."""

    def __init__(self, connections: Sequence[Connection], probe: Connection) -> None:
        self._held: dict[Connection, set[TableName]] = {connection: set() for connection in connections}
        self._busy: set[Connection] = set()
        self._doomed: set[Connection] = set()
        self._probe = probe
        self._state = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="floodmark-locks", daemon=True)
        self._thread.start()

    def is_usable(self, connection: Connection) -> bool:
        """Return False if the connection was closed, or will be, because someone waits for its locks."""
        with self._state:
            return connection not in self._doomed

    def begin(self, connection: Connection, tables: Iterable[TableName]) -> None:
        """Note the tables that a task will read."""
        with self._state:
            self._busy.add(connection)
            self._held[connection].update(tables)

    def end(self, connection: Connection) -> None:
        """Close the connection of a task that is done, if it is doomed."""
        with self._state:
            self._busy.discard(connection)
            if connection in self._doomed:
                _close(connection)

    def stop(self) -> None:
        """End the watch and its connection. Never raises."""
        self._end.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._end.wait(_INTERVAL):
            with self._state:
                live = [one for one in self._held if one not in self._doomed and not one.closed]
                tables = set().union(*(self._held[one] for one in live))
            if not live:
                break
            for table in sorted(tables):
                if self._end.is_set():
                    break
                if self._is_wanted(table):
                    self._give_up(table)
        _close(self._probe)

    def _is_wanted(self, table: TableName) -> bool:
        """Return True if a shared lock can't be had at once, or if nothing can be asked any more."""
        name = f"{quoted(table.schema)}.{quoted(table.name)}"
        try:
            self._probe.exec_driver_sql(f"SET STATEMENT lock_wait_timeout = 0 FOR SELECT 1 FROM {name} LIMIT 0").close()
        except Exception as error:
            number = number_of(error)
            return number == _LOCKED or self._probe.invalidated or number is None
        return False

    def _give_up(self, table: TableName) -> None:
        with self._state:
            for connection, held in self._held.items():
                if table in held and connection not in self._doomed:
                    self._doomed.add(connection)
                    if connection not in self._busy:
                        _close(connection)


def _close(connection: Connection) -> None:
    """End the connection's transaction and close it, whatever state it is in."""
    with suppress(Exception):
        connection.invalidate()
    with suppress(Exception):
        connection.close()
