"""A private PostgreSQL server: created, started, crashed, copied and removed.

The demo runs on one, and the tests run on many. All parts of a server (data, sockets, log) are in one temporary folder.
The folder is removed when the server is closed, or when this process dies. PostgreSQL refuses to run as root, so under
root the server runs as `nobody`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import psycopg
import psycopg.conninfo

from floodmark.demo.host import (
    PATIENCE,
    copied_install,
    free_port,
    kill_process,
    last_lines,
    private_folder,
    unprivileged,
    wait_until,
)
from floodmark.errors import SourceError, SourceUnavailable

SUPERUSER = "postgres"
StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

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

# Waits for the end of its standard input, which comes however the parent dies, then cleans up.
_KEEPER = """\
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null && {
    n=0
    while [ $n -lt 50 ] && kill -0 "$pid" 2>/dev/null; do n=$((n + 1)); sleep 0.1; done
}
rm -rf "$1"
"""


class PostgresServer:
    """A server from the binaries in `bin_directory`. It is created stopped and empty; `create` returns a running one.

    Its folder is created in `base`, by default the folder for temporary files. `settings` go into postgresql.conf after
    our own. With fsync off, the server is faster. Then only a crash of the whole machine can lose data, and the server
    is gone in that case anyway.
    """

    def __init__(
        self,
        bin_directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        fsync: bool = False,
        base: Path | None = None,
    ) -> None:
        self.settings = {**_SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        self._made_of, self._base = bin_directory, base
        self.starts = 0  # number of starts: connections from an earlier start are dead
        self._identity = unprivileged()
        self.root = private_folder(self._identity, base)
        self._keeper = self._spawn(
            ["/bin/sh", "-c", _KEEPER, "keeper", str(self.root)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = self._usable_binaries(bin_directory)
        self.port = free_port()

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
        server = cls(bin_directory, settings=settings, fsync=fsync, base=base)
        try:
            server.initialize()
            server.start()
        except BaseException:
            server.close()
            raise
        return server

    # Addresses

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

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
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(_SIGNALS[mode])
        self._process.wait(PATIENCE)
        self._process = None

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

    def close(self) -> None:
        """Stop the server and remove all its files."""
        self.stop("immediate")
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait(10 * PATIENCE)  # it removes the tree, which can be large
        if self.root.exists():
            shutil.rmtree(self.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        process = self._spawn(
            [str(self._bin / name), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = process.communicate()[0].decode(errors="replace")
        if process.returncode:
            raise SourceUnavailable(f"can't run {name}", on=str(self._bin), why=last_lines(output))
        return output

    def _spawn(self, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.root), "TZ": "UTC"}
        return subprocess.Popen(
            command, cwd=self.root, env=environment, start_new_session=True, **self._identity, **streams
        )

    def _postmaster(self) -> subprocess.Popen[bytes]:
        command = [
            str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.root),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_permissions=0777",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            return self._spawn(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

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
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.dsn()).close()
        except psycopg.OperationalError:
            return False
        return True

    def _log_end(self) -> str:
        return last_lines(self.log.read_text(errors="replace")) if self.log.exists() else ""

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
