"""Real MariaDB servers for tests, from Debian's mariadb-server. Without it, their tests are skipped by name.

`my` is a fresh database on a server that a worker shares and that keeps a binary log; `make_mariadb` makes servers of
the test's own, which it may restart, crash and configure. Everything is gone when the test (or the process) is.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from fix_ports import own_port
from fix_postgres import BASE
from floodmark.demo.mariadb import CLIENT, INSTALLER, SERVER, SUPERUSER, MariaDBServer, program

MISSING = [name for name in (SERVER, CLIENT, INSTALLER) if program(name) is None]
_numbers = itertools.count(1)


class MyDatabase:
    """One database of a server. All connections it gave are closed with it.

    `execute`, `query` and `value` go through one autocommit connection of the superuser, made anew when the server was
    started again.
    """

    def __init__(self, server: MariaCluster, name: str) -> None:
        self.server, self.name = server, name
        self._users: list[str] = []
        self._connections: list[Any] = []
        self._own: tuple[int, Any] | None = None

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def connect(self, user: str = SUPERUSER, password: str = "") -> Any:
        """An autocommit connection of one's own, as superuser unless told otherwise."""
        connection = self.server.connect(self.name, user, password)
        self._connections.append(connection)
        return connection

    def execute(self, *statements: str) -> None:
        """Run statements, each committed at once."""
        for statement in statements:
            with self._autocommit().cursor() as cursor:
                cursor.execute(statement)

    def insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._autocommit().cursor() as cursor:
            cursor.executemany(statement, rows)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self._autocommit().cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def value(self, statement: str) -> Any:
        """The first column of the only row."""
        ((value, *_),) = self.query(statement)
        return value

    def role(self, name: str, *grants: str, password: str = "correct horse") -> str:
        """The URL of a new user with these grants, such as `SELECT ON db.*`; dropped with the database."""
        account = f"'{name}'@'127.0.0.1'"
        self.execute(f"CREATE USER {account} IDENTIFIED BY '{password}'")
        self._users.append(account)
        for grant in grants:
            self.execute(f"GRANT {grant} TO {account}")
        return self.server.url(self.name, name, password)

    def printed(self, statement: str, *options: str) -> bytes:
        """What the mariadb client prints for a query, in its batch form."""
        client = program(CLIENT)
        assert client is not None
        command = [
            str(client), "--no-defaults", f"--socket={self.server.socket}", f"--user={SUPERUSER}", "--batch",
            "--skip-column-names", "--default-character-set=utf8mb4", *options, "--execute", statement, self.name,
        ]  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True).stdout

    def close(self) -> None:
        """Close every connection given; the database stays."""
        own = [] if self._own is None else [self._own[1]]
        for connection in (*self._connections, *own):
            if connection.open:
                connection.close()
        self._connections.clear()
        self._own = None

    def drop(self) -> None:
        self.close()
        self.execute(f"DROP DATABASE IF EXISTS `{self.name}`", *(f"DROP USER {user}" for user in self._users))
        self.close()

    def _autocommit(self) -> Any:
        if self._own is not None and (self._own[0] != self.server.starts or not self._own[1].open):
            self._own = None
        if self._own is None:
            self._own = (self.server.starts, self.server.connect(self.name))
        return self._own[1]


class MariaCluster(MariaDBServer):
    """A server that hands out databases."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.port = own_port()

    def database(self) -> MyDatabase:
        """A fresh, empty database with a name of its own."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.run(f"CREATE DATABASE `{name}`")
        return MyDatabase(self, name)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaCluster]:
    """The server that a worker's tests share."""
    require_mariadb()
    with MariaCluster.create(log_bin=True, base=BASE) as server:
        yield server


@pytest.fixture
def my(mariadb: MariaCluster) -> Iterator[MyDatabase]:
    """A fresh database on the shared server."""
    database = mariadb.database()
    yield database
    database.drop()


@pytest.fixture
def make_mariadb() -> Iterator[Callable[..., MariaCluster]]:
    """Make running servers of the test's own: `make_mariadb(log_bin=False, settings={…})`."""
    require_mariadb()
    with ExitStack() as stack:

        def make(log_bin: bool = True, settings: dict[str, str] | None = None) -> MariaCluster:
            return stack.enter_context(MariaCluster.create(log_bin=log_bin, settings=settings, base=BASE))

        yield make


def require_mariadb() -> None:
    if MISSING:
        pytest.skip(f"MariaDB is not installed: {', '.join(MISSING)}")
