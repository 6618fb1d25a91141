"""Transactions that share one snapshot: the coordinator's, and one for each worker.

The coordinator's transaction stays open for the whole run and locks no user table. A worker's transaction imports its
snapshot, and does each task after a savepoint. A rollback to the savepoint ends the task and releases its locks, so no
lock is held for long. On a standby, or if workers can't reach the very same server (a balancing proxy), the
coordinator's connection does all the work, in savepoints too.

A standby's snapshot is never imported, for two reasons. The first concerns a suboverflowed snapshot (a transaction of
the primary has more than 64 subtransactions). PostgreSQL exports it without any running transaction. The importer would
take those transactions for aborted, and write that into the pages (hint bits). The second concerns replay, which waits
only for transactions that had the snapshot when a conflict began. Under a transaction that imports it later, rows
vanish.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue
from typing import Any

import psycopg
from msgspec import UNSET, Struct

from floodmark.config import Limits
from floodmark.errors import FloodmarkError, SnapshotLost, SourceError, SourceUnavailable
from floodmark.lineage import Lineage
from floodmark.model import Point, SourceIdentity
from floodmark.source.base import Drawback
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.connect import (
    close_quietly,
    connect,
    pinned_settings,
    settings_to_pin,
    translated,
)
from floodmark.source.postgres.statements import PLANNING, literal
from floodmark.source.postgres.versions import (
    is_newer,
    lacks_something,
    newer_than_tested,
    require_supported,
    settings_to_leave_out,
)

Connection = psycopg.Connection[Any]

_STANDBY = Drawback(
    "the source is a standby: one connection reads everything, in one transaction, since PostgreSQL can't safely share "
    "a standby's snapshot.",
    "Read the primary, or a restored copy, if this is too slow.",
)
_ANOTHER_SERVER = (
    "A balancing proxy or pooler is the usual cause: PGHOST and PGPORT (source.url) must name the server itself."
)
_SECONDS_FOR_AN_IDLE_ONE = 30
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# From 18 on, a scan lets other processes read its blocks. To hand blocks over costs a quarter of a count's processor
# time, and workers read in parallel anyway. A connection that reads everything keeps the server's own setting, and so
# does a newer server, which may not know it.
_OWN_READS = "SET LOCAL effective_io_concurrency = 0"
_TASK, _TASK_ENDS = "SAVEPOINT task", "ROLLBACK TO SAVEPOINT task"

# Another server can have a snapshot of the same name, and even one that looks the same.
_VIEW = "pg_current_snapshot()::text || ' ' || pg_postmaster_start_time()"
# Texts become numbers here, not on the server: a cast from text to integer can be the user's own.
_MOMENT = f"""
    SELECT {_VIEW},
           pg_snapshot_xmin(pg_current_snapshot())::text,
           pg_snapshot_xmax(pg_current_snapshot())::text,
           to_char(transaction_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           (SELECT system_identifier FROM pg_control_system())::text,
           d.oid::bigint,
           d.xmin::text,
           pg_postmaster_start_time()::text,
           (SELECT stats_reset FROM pg_stat_bgwriter)::text,
           pg_is_in_recovery(),
           d.datname,
           current_setting('server_version'),
           (SELECT stats_reset FROM pg_stat_archiver)::text,
           (SELECT stats_reset FROM pg_stat_wal)::text,
           current_setting('summarize_wal', true)
    FROM pg_database d WHERE d.datname = current_database()
"""


class ExportedSnapshot(Struct, frozen=True):
    """The coordinator's snapshot.

    `id` is the name for imports, None on a standby. `view` identifies the snapshot and its server, and imports are
    compared with it. `database` is the database's oid. `summarizes` says that the server is a primary that keeps WAL
    summaries.
    """

    id: str | None
    view: str
    database: int
    point: Point
    identity: SourceIdentity
    summarizes: bool


class Coordinator:
    """The transaction that holds a run's snapshot."""

    def __init__(self, where: ServerAddress, limits: Limits, settings: dict[str, str]) -> None:
        self._where = where
        self._limits = limits
        self.connection = connect(where, settings)
        try:
            self.server_version = self.connection.info.server_version
            require_supported(self.server_version, where.label)
            self.pinned = self._settings_to_pin()
            self.exported = self._begin(settings)
        except psycopg.Error as error:
            close_quietly(self.connection)
            lacking = lacks_something(error, self.server_version, where.label)
            raise lacking or _run_error(translated(error, "can't take a snapshot", where.label)) from None
        except BaseException:
            close_quietly(self.connection)
            raise

    def _settings_to_pin(self) -> str:
        version = self.server_version
        names = [*settings_to_pin(self._limits, version), *PLANNING]
        gone = settings_to_leave_out(self.connection, version, names, self._where.label)
        return pinned_settings(self._limits, version, gone)

    def _require_whole_pages(self) -> None:
        if self._text("SELECT current_setting('zero_damaged_pages', true)") == "on":
            raise SourceError(
                "this server is not supported",
                on=self._where.label,
                why="zero_damaged_pages is on: the rows of a damaged page silently disappear",
                hint="Set zero_damaged_pages = off (its default), and check the tables with pg_amcheck.",
            )

    def _require_whole_snapshots(self) -> None:
        row = self.connection.execute("SELECT current_setting('old_snapshot_threshold', true)").fetchone()
        if row is not None and row[0] not in (None, "", "-1"):
            raise SourceError(
                "this server is not supported",
                on=self._where.label,
                why=f"old_snapshot_threshold is {row[0]}: an imported snapshot can silently lose rows",
                hint="Set old_snapshot_threshold = -1 (its default) and restart the server.",
            )

    def _begin(self, settings: dict[str, str]) -> ExportedSnapshot:
        self.connection.execute(_joined(_BEGIN, self.pinned))
        # SHOW takes no snapshot. So a standby that is being promoted still counts as one, like its snapshot.
        in_recovery = self._text("SHOW in_hot_standby") == "on"
        self._require_whole_pages()
        self._require_whole_snapshots()
        set_local(self.connection, settings)
        row = self.connection.execute(_MOMENT).fetchone()
        assert row is not None
        view, xmin, xmax, taken_at, system, database, database_xmin, started = row[:8]
        stats_reset, recovering, name, version, *resets, summarize = row[8:]
        in_recovery = in_recovery or recovering
        resets = [UNSET if reset is None else reset for reset in resets]
        lineage = Lineage(system, database, database_xmin, started, stats_reset, in_recovery, *resets)
        return ExportedSnapshot(
            id=None if in_recovery else self._text("SELECT pg_export_snapshot()"),
            view=view,
            database=database,
            point=Point(taken_at, int(xmin), int(xmax), lineage),
            identity=SourceIdentity("postgresql", system, name, version.split(" ")[0]),
            summarizes=summarize == "on" and not in_recovery,
        )

    def _text(self, statement: str) -> str:
        row = self.connection.execute(statement).fetchone()
        assert row is not None
        return str(row[0])

    def alive(self) -> bool:
        """Return True if the snapshot still exists. It asks the server and does not rely on memory."""
        try:
            return self._text(f"SELECT {_VIEW}") == self.exported.view
        except psycopg.Error:
            return False

    def close(self) -> None:
        close_quietly(self.connection)


# A transaction is used again for this time. So a snapshot that is gone is noticed soon: it can't be imported any more.
_SECONDS_IN_USE = 1.0


class Task(Struct):
    """One task's turn in a transaction. It ends with a rollback to its savepoint, which releases its locks."""

    connection: Connection
    ended: bool = False

    def last(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of the last query under the task's locks. The task ends with it, in one round trip."""
        rows = self.connection.execute(_joined(query, _TASK_ENDS)).fetchall()
        self.ended = True  # if the query failed, the rollback is still to be done
        return rows

    def end(self) -> None:
        if not self.ended:
            self.connection.execute(_TASK_ENDS)


class _Worker(Struct):
    """A worker's connection. `begun` are the statements that its open transaction began with, None if none is open.

    `until` is the time (of the monotonic clock) after which a task needs a new transaction.
    """

    connection: Connection
    begun: str | None = None
    until: float = 0.0

    def suits(self, first: str) -> bool:
        return self.begun == first and time.monotonic() < self.until

    def end(self) -> None:
        """End the transaction, in a round trip of its own: only then has a pooler the server's connection back."""
        self.connection.execute("COMMIT")
        self.begun = None


class SnapshotTransactions:
    """A pool of transactions that see the coordinator's snapshot, for up to `parallelism` threads."""

    def __init__(
        self, coordinator: Coordinator, where: ServerAddress, limits: Limits, settings: dict[str, str]
    ) -> None:
        self._coordinator = coordinator
        self._where = where
        self._settings = settings
        self._idle: LifoQueue[_Worker] = LifoQueue()
        self._alone = threading.Lock()
        self._counting, self._waiting_tasks = threading.Lock(), 0
        newer = newer_than_tested(coordinator.server_version)
        self.drawbacks: tuple[Drawback, ...] = (newer,) if newer is not None else ()
        self.parallelism = limits.connections
        self._shared = coordinator.exported.id is not None
        if self._shared:
            self._try_import()
        else:
            self._use_one_connection(_STANDBY)

    def _try_import(self) -> None:
        """Find out once if a second connection can see the snapshot."""
        try:
            worker = self._new_worker()
            self._import_snapshot(worker, "")
            self._idle.put(worker)
        except (psycopg.Error, SourceError) as error:
            why = type(error).__name__ if isinstance(error, psycopg.Error) else (error.why or error.what)
            found = f"other connections can't share the snapshot ({why}): one connection reads everything, slowly."
            self._use_one_connection(Drawback(found, _ANOTHER_SERVER))

    def _use_one_connection(self, why: Drawback) -> None:
        self.parallelism = 1
        self._shared = False
        self.drawbacks = (*self.drawbacks, why)

    @contextmanager
    def begin(self, what: str, on: str, first: str = "") -> Iterator[Task]:
        """Open a transaction for one task. A driver's error inside becomes Floodmark's, which names `what` and `on`.

        `first` are SET LOCAL statements, which then cost no round trip of their own.
        """
        try:
            with self._own(first) if self._shared else self._coordinator_transaction(first) as task:
                yield task
        except psycopg.Error as error:
            raise self._error_to_raise(translated(error, what, on)) from None

    def _error_to_raise(self, error: FloodmarkError) -> FloodmarkError:
        """Return the error to raise: a broken connection is worth a retry only while the snapshot exists."""
        if isinstance(error, SourceUnavailable) and not self._coordinator.alive():
            return SnapshotLost("the snapshot is gone", on=self._where.label, why=error.why)
        return error

    @contextmanager
    def _own(self, first: str) -> Iterator[Task]:
        """Do a task in a worker's transaction, which later tasks that begin with the same statements use again.

        If another task waits for a transaction, this one ends: a pooler can have no other connection for it.
        """
        with self._waiting():
            worker = self._idle_worker()
            if not worker.suits(first):
                self._import_snapshot(worker, first)
        try:
            task = Task(worker.connection)
            yield task
            task.end()
            if self._waiting_tasks:
                worker.end()
        except BaseException:
            close_quietly(worker.connection)
            raise
        self._idle.put(worker)

    @contextmanager
    def _coordinator_transaction(self, first: str) -> Iterator[Task]:
        connection = self._coordinator.connection
        with self._alone:
            connection.execute(_joined(_TASK, first))
            task = Task(connection)
            try:
                yield task
            finally:
                if not connection.closed:
                    task.end()
                    connection.execute("RELEASE SAVEPOINT task")

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Count a task that has no transaction yet."""
        with self._counting:
            self._waiting_tasks += 1
        try:
            yield
        finally:
            with self._counting:
                self._waiting_tasks -= 1

    def _idle_worker(self) -> _Worker:
        """Return an idle worker, or a new one. If the server accepts no more, wait for one that becomes free."""
        with suppress(Empty):
            return self._idle.get_nowait()
        try:
            return self._new_worker()
        except SourceUnavailable:
            with suppress(Empty):
                return self._idle.get(timeout=_SECONDS_FOR_AN_IDLE_ONE)
            raise

    def _new_worker(self) -> _Worker:
        try:
            return _Worker(connect(self._where, self._settings))
        except SourceUnavailable as error:
            raise self._error_to_raise(error) from None

    def _import_snapshot(self, worker: _Worker, first: str) -> None:
        """Begin a transaction in the coordinator's snapshot, instead of the worker's present one if it has one.

        If that fails, the worker's connection is closed.
        """
        try:
            self._begin_transaction(worker, first)
        except BaseException:
            close_quietly(worker.connection)
            raise

    def _begin_transaction(self, worker: _Worker, first: str) -> None:
        exported = self._coordinator.exported
        assert exported.id is not None
        ends, connection = "" if worker.begun is None else "COMMIT", worker.connection
        imports = f"SET TRANSACTION SNAPSHOT {literal(exported.id)}"
        version = self._coordinator.server_version
        reads = _OWN_READS if self.parallelism > 1 and version >= 180000 and not is_newer(version) else ""
        try:
            found = connection.execute(
                _joined(ends, _BEGIN, imports, self._coordinator.pinned, reads, first, f"SELECT {_VIEW}")
            )
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):  # the latter from 17 on
            raise SnapshotLost("can't import the snapshot", on=self._where.label) from None
        while found.nextset():
            pass  # only the last statement gives a row
        row = found.fetchone()
        if row is None or row[0] != exported.view:
            raise SnapshotLost("another server answered", on=self._where.label, why="its snapshot differs")
        set_local(connection, self._settings)
        connection.execute(_TASK)
        worker.begun, worker.until = first, time.monotonic() + _SECONDS_IN_USE

    def close(self) -> None:
        while True:
            try:
                close_quietly(self._idle.get_nowait().connection)
            except Empty:
                return


def _joined(*statements: str) -> str:
    return "; ".join(filter(None, statements))


def set_local(connection: Connection, settings: dict[str, str]) -> None:
    """Set settings whose values must not appear in a statement, because logs and pg_stat_activity show statements.

    They came with the startup packet, unless a pooler gave another client's session, or refused them. Then they go as
    parameters, and a server that logs each statement logs them too.
    """
    for name, value in settings.items():
        if connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone() != (value,):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))


def _run_error(error: FloodmarkError) -> FloodmarkError:
    """Return the coordinator's error: it concerns the whole run, not a table."""
    if isinstance(error, SourceUnavailable):
        return error
    return SourceError(error.what, on=error.on, why=error.why)
