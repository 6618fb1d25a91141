"""The shape that the private servers share: a folder, a process, and a keeper that cleans up after both.

All parts of a server (data, socket, log) are in one temporary folder. The folder is removed when the server is closed,
or when this process dies. Database servers refuse to run as root, so under root they run as `nobody`.
"""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, ClassVar, Self

from floodmark.demo.host import PATIENCE, free_port, last_lines, private_folder, unprivileged
from floodmark.errors import SourceUnavailable

# Waits for the end of its standard input, which comes however the parent dies, then cleans up.
# The arguments are the server's folder, its pid file, and the signal that stops it at once.
_KEEPER = """\
cat >/dev/null
pid=$(head -n 1 "$2" 2>/dev/null) && kill "-$3" "$pid" 2>/dev/null && {
    n=0
    while [ $n -lt 50 ] && kill -0 "$pid" 2>/dev/null; do n=$((n + 1)); sleep 0.1; done
}
rm -rf "$1"
"""


class PrivateServer(ABC):
    """A database server of this process. It is created stopped and empty.

    The folder is created in `base`, by default the folder for temporary files. `starts` is the number of starts:
    connections from an earlier start are dead.
    """

    signals: ClassVar[Mapping[str, Signals]]  # by the mode of a stop; "immediate" is one of them
    search_path: ClassVar[str]

    def __init__(self, prefix: str, base: Path | None) -> None:
        self.starts = 0
        self._identity = unprivileged()
        self.root = private_folder(self._identity, base, prefix)
        self._process: subprocess.Popen[bytes] | None = None
        signal_name = self.signals["immediate"].name.removeprefix("SIG")
        self._keeper = self._spawn(
            ["/bin/sh", "-c", _KEEPER, "keeper", str(self.root), str(self.pid_file), signal_name],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.port = free_port()

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """Return the file whose first line is the process id of the running server."""

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @abstractmethod
    def initialize(self) -> None:
        """Create the files of an empty server."""

    @abstractmethod
    def start(self) -> None:
        """Start and wait until the server accepts connections. Raises SourceUnavailable with the log's end."""

    def create_and_start(self) -> Self:
        """Return this server, initialized and running. If that fails, nothing of it is left."""
        try:
            self.initialize()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def _stop(self, mode: str) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.signals[mode])
        self._process.wait(PATIENCE)
        self._process = None

    def close(self) -> None:
        """Stop the server and remove all its files."""
        self._stop("immediate")
        self.pid_file.unlink(missing_ok=True)
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

    def _spawn(self, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        environment = {"PATH": self.search_path, "LC_ALL": "C", "HOME": str(self.root), "TZ": "UTC"}
        return subprocess.Popen(
            command, cwd=self.root, env=environment, start_new_session=True, **self._identity, **streams
        )

    def _spawn_server(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a command whose output is appended to the log."""
        with self.log.open("ab") as log:
            return self._spawn(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _run(self, command: list[str], on: Path) -> str:
        """Run a program of the server as the server's user and return its output. Raises SourceUnavailable."""
        process = self._spawn(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )  # fmt: skip
        output = process.communicate()[0].decode(errors="replace")
        if process.returncode:
            raise SourceUnavailable(f"can't run {Path(command[0]).name}", on=str(on), why=last_lines(output))
        return output

    def _log_end(self) -> str:
        return last_lines(self.log.read_text(errors="replace")) if self.log.exists() else ""
