"""Workers' transactions: each one imports the coordinator's snapshot, and does one task after the other.

A task begins with a savepoint. A rollback to the savepoint ends the task and releases its locks, so no lock is held for
long. On a standby, or if workers can't reach the very same server (a balancing proxy), the coordinator's connection
does all the work, in savepoints too.

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

import psycopg
from msgspec import Struct

from floodmark.config import Limits
from floodmark.errors import FloodmarkError, SnapshotLost, SourceError, SourceUnavailable
from floodmark.source.base import Drawback
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.connect import close_and_wait, close_quietly, connect, translated
from floodmark.source.postgres.coordinator import Connection, Coordinator, joined
from floodmark.source.postgres.imports import TASK_BEGINS, Task, import_snapshot
from floodmark.source.postgres.versions import newer_than_tested

_STANDBY = Drawback(
    "the source is a standby: one connection reads everything, in one transaction, since PostgreSQL can't safely share "
    "a standby's snapshot.",
    "Read the primary, or a restored copy, if this is too slow.",
)
_ANOTHER_SERVER = (
    "A balancing proxy or pooler is the usual cause: PGHOST and PGPORT (source.url) must name the server itself."
)
_SECONDS_FOR_AN_IDLE_ONE = 30
# A transaction is used again for this time. So a snapshot that is gone is noticed soon: it can't be imported any more.
_SECONDS_IN_USE = 1.0


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
        self.is_shared = coordinator.exported.id is not None
        if self.is_shared:
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
        self.is_shared = False
        self.drawbacks = (*self.drawbacks, why)

    @contextmanager
    def begin(self, what: str, on: str, first: str = "") -> Iterator[Task]:
        """Open a transaction for one task. A driver's error inside becomes Floodmark's, which names `what` and `on`.

        `first` are SET LOCAL statements, which then cost no round trip of their own.
        """
        try:
            with self._own(first) if self.is_shared else self._coordinator_transaction(first) as task:
                yield task
        except psycopg.Error as error:
            raise self.error_to_raise(translated(error, what, on)) from None

    def error_to_raise(self, error: FloodmarkError) -> FloodmarkError:
        """Return the error to raise: a broken connection is worth a retry only while the snapshot exists."""
        if isinstance(error, SourceUnavailable) and not self._coordinator.alive():
            return SnapshotLost("the snapshot is gone", on=self._where.label, why=error.why)
        return error

    def is_alive(self) -> bool:
        return self._coordinator.alive()

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
            connection.execute(joined(TASK_BEGINS, first))
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
            raise self.error_to_raise(error) from None

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
        import_snapshot(
            worker.connection,
            self._coordinator.exported,
            self._settings,
            self._where.label,
            ends="" if worker.begun is None else "COMMIT",
            first=first,
            alone=self.parallelism == 1,
        )
        worker.begun, worker.until = first, time.monotonic() + _SECONDS_IN_USE

    def close(self) -> None:
        """Close the connections that no task uses."""
        while True:
            try:
                close_and_wait(self._idle.get_nowait().connection)
            except Empty:
                return
