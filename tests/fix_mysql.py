"""Snapshots of MariaDB in tests: opened for a user with given rights, and read line by line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pymysql

from fix_mariadb import MyDatabase
from fix_sql import chunks_in, text_of
from floodmark.config import Limits, Secret, Selection
from floodmark.source.base import SourceSnapshot
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source
from floodmark.source.sql.snapshot import SqlSource

# What lets a role see, share and let go of everything.
ALL_RIGHTS = ("PROCESS ON *.*", "BINLOG MONITOR ON *.*", "BINLOG ADMIN ON *.*")


def source_of(url: str, connections: int = 2, **options: Any) -> SqlSource:
    return open_sql_source(SqlOptions(Secret(url), Limits(connections=connections, lock_timeout=3), **options))


@contextmanager
def snapshot_of(url: str, connections: int = 2, **options: Any) -> Iterator[SourceSnapshot]:
    with closing(source_of(url, connections, **options).snapshot()) as snapshot:
        yield snapshot


def lines_in(snapshot: SourceSnapshot, table: str, **selection: Any) -> list[str]:
    """The lines of a table. Its name is looked up in the snapshot's catalog first."""
    (info,) = snapshot.tables(Selection(include=(table,), **selection), "")
    return [line for chunk in chunks_in(info) for line in text_of(snapshot, info, chunk).splitlines()]


def reader(my: MyDatabase, *rights: str) -> str:
    """The URL of a user who may read the database, and has these rights on top of it."""
    return my.role("reader", f"SELECT, SHOW VIEW ON `{my.name}`.*", *rights)


def age() -> None:
    """Wait until the second is over in which tables were made: what is written in it later can't be told apart."""
    time.sleep(1.1)


class Session:
    """A session of the superuser whose statements run in a thread of their own."""

    def __init__(self, my: MyDatabase, lock_wait: int = 30) -> None:
        self.connection = my.connect()
        self.execute(f"SET lock_wait_timeout = {lock_wait}")
        self.error: pymysql.Error | None = None
        self._thread: threading.Thread | None = None

    def execute(self, *statements: str) -> None:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def start(self, *statements: str) -> None:
        self._thread = threading.Thread(target=self._run, args=(statements,))
        self._thread.start()

    def _run(self, statements: tuple[str, ...]) -> None:
        try:
            self.execute(*statements)
        except pymysql.Error as error:
            self.error = error

    @property
    def waits(self) -> bool:
        assert self._thread is not None
        self._thread.join(0.3)
        return self._thread.is_alive()

    def join(self, seconds: float = 30) -> None:
        """Wait for the statements, which must succeed."""
        assert self._thread is not None
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it still waits"
        assert self.error is None, self.error


class Writer:
    """A session that calls a function over and over in a thread, until the block ends."""

    def __init__(self, write: Callable[[int], None]) -> None:
        self._write, self._end = write, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def _run(self) -> None:
        while not self._end.is_set():
            self._write(self.count)
            self.count += 1

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)
