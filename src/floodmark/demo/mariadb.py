"""A private MariaDB server: created, started, crashed and removed.

It needs Debian's `mariadb-server` (or another install with `mariadbd` and `mariadb-install-db`). It listens on a socket
and on 127.0.0.1.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from urllib.parse import quote

from floodmark.demo.host import PATIENCE, wait_until
from floodmark.demo.private import PrivateServer
from floodmark.errors import ConfigError, SourceUnavailable

if TYPE_CHECKING:
    from pymysql.connections import Connection  # optional extra: for types
    from pymysql.cursors import Cursor  # optional extra: for types

SUPERUSER = "root"
SERVER, CLIENT, INSTALLER = "mariadbd", "mariadb", "mariadb-install-db"
StopMode = Literal["fast", "immediate"]

_PLACES = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"

# InnoDB as it is in production, apart from waits for the disk: only a crash of the machine loses rows.
_SETTINGS = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "1",
    "character-set-server": "utf8mb4",
    "max-connections": "60",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "64M",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-flush-method": "nosync",
    "sync-binlog": "0",
    "performance-schema": "0",
    "default-time-zone": "+00:00",
}
_BINLOG = {"log-bin": "binlog", "server-id": "1", "binlog-format": "ROW"}


def program(name: str) -> Path | None:
    """Return the path of one of MariaDB's programs, also if it is where only root's PATH looks."""
    found = shutil.which(name) or shutil.which(name, path=_PLACES)
    return None if found is None else Path(found)


class MariaDBServer(PrivateServer):
    """A MariaDB server of this machine's install. It is created stopped and empty; `create` returns a running one.

    `settings` are options of mariadbd, without the leading dashes; they win over our own. With `log_bin`, the server
    keeps a binary log, as one with replicas does. The folder is created in `base`, by default the folder for temporary
    files.
    """

    signals: ClassVar[Mapping[str, Signals]] = {"fast": Signals.SIGTERM, "immediate": Signals.SIGKILL}
    search_path = _PLACES

    def __init__(
        self, *, settings: Mapping[str, str] | None = None, log_bin: bool = False, base: Path | None = None
    ) -> None:
        self._programs = {name: _require_program(name) for name in (SERVER, INSTALLER)}
        self.settings = {**_SETTINGS, **(_BINLOG if log_bin else {}), **(settings or {})}
        super().__init__("floodmark-my-", base)

    @classmethod
    def create(
        cls, *, settings: Mapping[str, str] | None = None, log_bin: bool = False, base: Path | None = None
    ) -> Self:
        """Return a new, empty, running server. Raises ConfigError if MariaDB is missing, else SourceUnavailable."""
        return cls(settings=settings, log_bin=log_bin, base=base).create_and_start()

    # Addresses

    @property
    def pid_file(self) -> Path:
        return self.root / "pid"

    @property
    def socket(self) -> Path:
        return self.root / "socket"

    def url(self, database: str = "", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the connection over TCP as an SQLAlchemy URL."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"mysql://{quote(user, safe='')}{secret}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def connect(self, database: str | None = None, user: str = SUPERUSER, password: str = "") -> Connection[Cursor]:
        """Return a new autocommit connection: the superuser's over the socket, anyone else's over TCP."""
        import pymysql  # noqa: PLC0415 - optional extra

        where: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if user == SUPERUSER:
            where = {"unix_socket": str(self.socket)}
        return pymysql.connect(**where, user=user, password=password, database=database, autocommit=True)

    def run(self, *statements: str, database: str | None = None) -> None:
        """Run statements as the superuser, each committed at once."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    # Life cycle

    @property
    def _own_files(self) -> str:
        """Return the option for temporary files. A server that starts deletes all of them in its folder."""
        return f"--tmpdir={self.root}"

    def initialize(self) -> None:
        """Create the system tables. The superuser needs no password, on the socket and on 127.0.0.1."""
        command = [
            str(self._programs[INSTALLER]), "--no-defaults", f"--datadir={self.data}", self._own_files,
            "--skip-test-db", "--auth-root-authentication-method=normal", "--skip-name-resolve",
            *_options({name: self.settings[name] for name in ("innodb-log-file-size", "innodb-flush-method")}),
        ]  # fmt: skip
        self._run(command, self.data)

    def start(self) -> None:
        """Start and wait until the server accepts connections. Raises SourceUnavailable with the log's end."""
        if self.running:
            return
        command = [
            str(self._programs[SERVER]), "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}",
            f"--pid-file={self.pid_file}", f"--port={self.port}", self._own_files, *_options(self.settings),
        ]  # fmt: skip
        self._process = process = self._spawn_server(command)
        wait_until(lambda: process.poll() is not None or self._greets(), "the server's start")
        if process.poll() is not None:
            raise SourceUnavailable(
                "can't start the MariaDB server", on=str(self._programs[SERVER]), why=self._log_end()
            )
        self.starts += 1

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop in an orderly way, or kill. A server that does not run is no error."""
        self._stop(mode)

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def crash(self) -> None:
        """Kill the server, like a power cut. Does not restart it."""
        self.stop("immediate")

    # Helpers

    def _greets(self) -> bool:
        """Return True if the server sends its greeting, which begins with the protocol's number after four bytes."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PATIENCE)
            try:
                probe.connect(str(self.socket))
                return probe.recv(5)[4:] == b"\x0a"
            except OSError:
                return False


def _options(settings: Mapping[str, str]) -> Iterable[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


def _require_program(name: str) -> Path:
    found = program(name)
    if found is None:
        raise ConfigError(
            "can't run a MariaDB server",
            why=f"{name} is not installed",
            hint="Install MariaDB: apt-get install mariadb-server.",
        )
    return found
