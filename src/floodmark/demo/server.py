"""A private PostgreSQL server. The demo runs on one, and the tests run on many."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from signal import Signals
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

import psycopg
import psycopg.conninfo

from floodmark.demo.host import (
    PATIENCE,
    copied_install,
    free_port,
    kill_process,
    wait_until,
)
from floodmark.demo.private import PrivateServer
from floodmark.errors import SourceError, SourceUnavailable

SUPERUSER = "postgres"
StopMode = Literal["smart", "fast", "immediate"]

_SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_prepared_transactions": "10",
    "wal_level": "replica",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# The superuser needs no password. Other roles need theirs, as on a real server.
_HBA = f"""\
local all all trust
host all {SUPERUSER} 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
local replication {SUPERUSER} trust
host replication {SUPERUSER} 127.0.0.1/32 trust
"""


class PostgresServer(PrivateServer):
    """A server from the binaries in `bin_directory`. It is created stopped and empty; `create` returns a running one.

    Its folder is created in `base`, by default the folder for temporary files. `settings` go into postgresql.conf after
    our own. With fsync off, the server is faster. Then only a crash of the whole machine can lose data, and the server
    is gone in that case anyway.
    """

    signals: ClassVar[Mapping[str, Signals]] = {
        "smart": Signals.SIGTERM,
        "fast": Signals.SIGINT,
        "immediate": Signals.SIGQUIT,
    }
    search_path = "/usr/bin:/bin"

    def __init__(
        self,
        bin_directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        fsync: bool = False,
        base: Path | None = None,
    ) -> None:
        super().__init__("floodmark-pg-", base)
        self.settings = {**_SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        self._made_of, self._base = bin_directory, base
        self._bin = self._usable_binaries(bin_directory)

    @classmethod
    def create(
        cls,
        bin_directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        fsync: bool = False,
        base: Path | None = None,
    ) -> Self:
        """Return a new, empty, running server. Raises SourceUnavailable."""
        return cls(bin_directory, settings=settings, fsync=fsync, base=base).create_and_start()

    # Addresses

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return libpq's connection string for a connection over TCP."""
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=password
        )

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the connection as an SQLAlchemy URL."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        where = f"127.0.0.1:{self.port}/{quote(database, safe='')}"
        return f"postgresql+psycopg://{quote(user, safe='')}{secret}@{where}"

    # Life cycle

    def initialize(self) -> None:
        """Run initdb, and write our settings and the access rules."""
        self.tool(
            "initdb", "-D", str(self.data), "-U", SUPERUSER, "--encoding=UTF8", "--no-locale",
            "--auth=trust", "--no-sync", "--no-instructions",
        )  # fmt: skip
        (self.data / "pg_hba.conf").write_text(_HBA)
        self.configure(self.settings)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Append settings to postgresql.conf. They take effect at the next start or reload."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start and wait until the server accepts connections. Raises SourceUnavailable with the log's end."""
        if self.running:
            return
        for _ in range(5):
            self._process = self._postmaster()
            if self._comes_up(self._process):
                self.starts += 1
                return
            trouble = self._log_end()
            if "pre-existing shared memory block" in trouble:
                time.sleep(1)  # the last processes of a crashed server are still ending
            elif "could not create any TCP/IP sockets" in trouble:
                self._yield_port()
            else:
                break
        self.stop("immediate")
        raise SourceUnavailable("can't start the PostgreSQL server", on=str(self._bin), why=self._log_end())

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop as `pg_ctl stop -m` does. A server that does not run is no error."""
        self._stop(mode)

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def crash(self) -> None:
        """Kill the postmaster and all its processes with SIGKILL, like a power cut. Does not restart the server."""
        if self._process is None:
            return
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            others = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            pids = [self._process.pid, *(pid for (pid,) in others)]
        for pid in pids:
            kill_process(pid)
        self._process.wait(PATIENCE)
        self._process = None

    def crash_backend(self) -> None:
        """Kill one backend with SIGKILL: the postmaster ends all sessions and recovers. Returns after the recovery."""
        with psycopg.connect(self.dsn(), autocommit=True) as witness, psycopg.connect(self.dsn()) as victim:
            kill_process(victim.info.backend_pid)
            wait_until(lambda: not _is_answering(witness), "the other backends' end")
        wait_until(self._accepts_connections, "recovery")
        self.starts += 1

    # Copies

    def save(self, name: str) -> Path:
        """Copy the data of the stopped server, like a volume snapshot; see `restore`."""
        self._must_be_stopped("save")
        target = self.root / f"saved-{name}"
        self._copy(self.data, target)
        return target

    def restore(self, saved: Path) -> None:
        """Restore the data that `save` copied. The copy stays."""
        self._must_be_stopped("restore")
        shutil.rmtree(self.data)
        self._copy(saved, self.data)

    def copy(self) -> Self:
        """Return another server, not started, from a copy of this stopped server's data."""
        self._must_be_stopped("copy")
        twin = self._new_server()
        self._copy(self.data, twin.root / "data")
        return twin

    def backup_to(self, target: PostgresServer) -> None:
        """Run pg_basebackup into a new, empty `target`, which can then start as a hot standby of this server."""
        self.tool(
            "pg_basebackup", "-D", str(target.data), "-d", self.dsn(), "--write-recovery-conf",
            "--wal-method=stream", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip

    def standby(self) -> Self:
        """Return a hot standby of this server, not started. It copies all current data."""
        twin = self._new_server()
        self.backup_to(twin)
        return twin

    # Helpers

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of the server's own programs as the server's user and return its output."""
        return self._run([str(self._bin / name), *arguments], self._bin)

    def _postmaster(self) -> subprocess.Popen[bytes]:
        command = [
            str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.root),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_permissions=0777",
        ]  # fmt: skip
        return self._spawn_server(command)

    def _comes_up(self, process: subprocess.Popen[bytes]) -> bool:
        wait_until(lambda: process.poll() is not None or self._is_ready(process.pid), "the server's start")
        return process.poll() is None

    def _yield_port(self) -> None:
        """Handle a port in use: wait for a port that others already know, else take another one."""
        if self.starts:
            time.sleep(1)
        else:
            self.port = free_port()

    def _is_ready(self, pid: int) -> bool:
        """Return true if the server's pid file reports it ready. pg_ctl reads the same file."""
        try:
            lines = self.pid_file.read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.dsn()).close()
        except psycopg.OperationalError:
            return False
        return True

    def _new_server(self) -> Self:
        return type(self)(self._made_of, settings=self.settings, base=self._base)

    def _must_be_stopped(self, verb: str) -> None:
        if self.running:
            raise SourceError(f"can't {verb} the server", on=str(self.root), why="it is running")

    def _copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target, symlinks=True)
        self._give_to_user(target)

    def _give_to_user(self, tree: Path) -> None:
        if self._identity:
            for path in (tree, *tree.rglob("*")):
                os.chown(path, self._identity["user"], self._identity["group"], follow_symlinks=False)

    def _usable_binaries(self, bin_directory: Path) -> Path:
        """Return binaries that the server's user can run: the originals, or a copy (of a venv below /root)."""
        try:
            self._spawn([str(bin_directory / "postgres"), "--version"], stdout=subprocess.DEVNULL).wait()
        except PermissionError:
            copy = copied_install(bin_directory, self.root / "install")
            self._give_to_user(self.root / "install")
            return copy
        return bin_directory


def _is_answering(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
