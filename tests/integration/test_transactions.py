"""Transactions that serve more than one task: what is left after a failure, and for a task that waits for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fix_command import until
from fix_postgres import PgDatabase
from floodmark.config import Limits, Secret
from floodmark.errors import TableError
from floodmark.source.postgres.address import address
from floodmark.source.postgres.coordinator import Coordinator
from floodmark.source.postgres.transactions import SnapshotTransactions, _Worker


@pytest.fixture
def transactions(pg: PgDatabase) -> Iterator[SnapshotTransactions]:
    where = address(Secret(pg.url))
    coordinator = Coordinator(where, Limits(), {})
    made = SnapshotTransactions(coordinator, where, Limits(), {})
    yield made
    made.close()
    coordinator.close()


@pytest.mark.parametrize("shared", [True, False], ids=["a worker", "the coordinator"])
def test_a_last_question_that_fails_ends_its_task_only(transactions: SnapshotTransactions, shared: bool) -> None:
    """With one connection, its transaction is the snapshot: a table's failure must not end it."""
    transactions.is_shared = shared
    with (
        pytest.raises(TableError, match="SQLSTATE 22012"),
        transactions.begin("can't read", "t") as task,
    ):
        task.last("SELECT 1/0")
    with transactions.begin("can't read", "t") as task:
        assert task.last("SELECT 1") == [(1,)]


def test_a_task_that_waits_gets_the_connection_of_a_pooler(
    pg: PgDatabase, transactions: SnapshotTransactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler in transaction mode gives the server's connection to another client when a transaction ends."""
    waits, new_worker = threading.Event(), transactions._new_worker

    def new_worker_later() -> _Worker:
        """Wait for the first worker's connection, as a pooler with no other one does."""
        waits.set()
        until(lambda: pg.value("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid]) == "idle")
        return new_worker()

    def second_task() -> int:
        with transactions.begin("can't read", "t") as task:
            return task.connection.info.backend_pid

    with ThreadPoolExecutor(1) as thread:
        with transactions.begin("can't read", "t") as task:
            pid = task.connection.info.backend_pid
            monkeypatch.setattr(transactions, "_new_worker", new_worker_later)
            second = thread.submit(second_task)
            assert waits.wait(30)
        assert second.result() != pid
    with transactions.begin("can't read", "t") as task:
        assert task.last("SELECT 1") == [(1,)]
