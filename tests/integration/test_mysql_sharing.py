"""Connections that are said to show one moment do so, however many transactions commit meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pymysql
import pytest
from sqlalchemy import Connection, create_engine, make_url

from fix_mariadb import MariaCluster, MyDatabase
from fix_mysql import reader, source_of
from floodmark.errors import SourceError, SourceUnavailable
from floodmark.source.mysql import transactions
from floodmark.source.mysql.transactions import start_shared

_ROUNDS = 60


def test_connections_with_one_position_of_the_binary_log_show_one_moment(my: MyDatabase) -> None:
    """The server mixes up the positions of sessions that ask at once, so they ask one after the other."""
    my.execute("CREATE TABLE a (id int PRIMARY KEY, v int)", "CREATE TABLE b (id int PRIMARY KEY, v int)")
    for name in "ab":
        my.execute(f"INSERT INTO {name} SELECT seq, 0 FROM seq_1_to_50")
    engine = create_engine(make_url(my.url.replace("mysql:", "mysql+pymysql:")), isolation_level="AUTOCOMMIT")
    workers, holder = [engine.connect() for _ in range(4)], engine.connect()
    shared = 0
    with transfers(my):
        for _ in range(_ROUNDS):
            found = start_shared(workers, holder, True)
            seen = {sums(one) for one in found.connections}
            shared += len(found.connections) > 1
            assert len(seen) == 1, found.how
            ((left, right),) = seen
            assert left + right == 0
    for one in (*workers, holder):
        one.close()
    engine.dispose()
    assert shared > _ROUNDS / 2


def sums(connection: Connection) -> tuple[int, int]:
    ((left, right),) = connection.exec_driver_sql("SELECT (SELECT SUM(v) FROM a), (SELECT SUM(v) FROM b)").all()
    connection.exec_driver_sql("ROLLBACK")
    return int(left), int(right)


@contextmanager
def transfers(my: MyDatabase, writers: int = 5) -> Iterator[None]:
    """Move one from a row of a table to one of another, again and again, in several sessions."""
    end = threading.Event()
    threads = [threading.Thread(target=transfer, args=(my.connect(), number, end)) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(30)


def transfer(connection: pymysql.Connection[pymysql.cursors.Cursor], first: int, end: threading.Event) -> None:
    row = first
    with connection.cursor() as cursor:
        while not end.is_set():
            row = row % 50 + 1
            for statement in ("BEGIN", f"UPDATE a SET v = v - 1 WHERE id = {row}"):
                cursor.execute(statement)
            cursor.execute(f"UPDATE b SET v = v + 1 WHERE id = {row}")
            cursor.execute("COMMIT")


def test_a_session_that_is_cut_off_keeps_the_lock_for_seconds(
    make_mariadb: Callable[..., MariaCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's start takes so long as if the network were gone: the server ends the session with the lock."""
    monkeypatch.setattr(transactions, "_SECONDS_WITH_THE_LOCK", 1)
    monkeypatch.setattr(transactions, "_START", "DO SLEEP(4)")
    with closing(make_mariadb(log_bin=False).database()) as my:
        my.execute("CREATE TABLE t (id int PRIMARY KEY)")
        taken: list[type[Exception]] = []
        thread = threading.Thread(target=take_snapshot, args=(reader(my, "RELOAD ON *.*"), taken))
        begun = time.monotonic()
        thread.start()
        time.sleep(0.5)
        my.execute("INSERT INTO t VALUES (1)")
        assert 1 < time.monotonic() - begun < 4, "the lock was there, and then it was not"
        thread.join(30)
        assert taken == [SourceUnavailable]


def take_snapshot(url: str, errors: list[type[Exception]]) -> None:
    try:
        source_of(url).snapshot().close()
    except SourceError as error:
        errors.append(type(error))
