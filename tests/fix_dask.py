"""Real Dask clusters: a scheduler and workers, each a process of Dask's own command line.

`dask_cluster` is one scheduler with two workers of one thread each, for all tests of a process that hurt neither.
`make_dask` makes clusters of a test's own, whose processes can be killed. Tests skip if Dask is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from fix_child import Child
from fix_ports import HOST, own_port

_TESTS = Path(__file__).parent
_MODULES = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}
# What Dask sends is not compressed, so that a recording shows it; a worker's death is noticed by its connections.
_SETTINGS = {"DASK_DISTRIBUTED__COMM__COMPRESSION": "False", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}


class DaskProcess:
    """A scheduler or a worker. `log` is what it wrote to stderr."""

    def __init__(self, kind: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = Child(
                [sys.executable, "-m", _MODULES[kind], *arguments],
                stdin=-3,
                stdout=stderr,
                stderr=stderr,
                env={**_base_environment(), **environment},
                cwd=log.parent,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Wait until the log holds a text."""
        end = time.monotonic() + seconds
        while text not in self.log:
            assert self.process.poll() is None, f"it ended: {self.log}"
            assert time.monotonic() < end, f"no {text!r}: {self.log}"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Let it do nothing until it is killed."""
        self.process.send_signal(signal.SIGSTOP)


class DaskServers:
    """A scheduler, and workers that are started one by one. Everything listens at 127.0.0.1.

    `settings` are variables for all of them, `tls` options of the command line. With `record`, all connections to the
    scheduler and to the workers go through proxies that keep the bytes: see `recorded`.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str] = {}, tls: Sequence[str] = (), *, record: bool = False
    ) -> None:
        self.folder, self._settings, self._tls = folder, dict(settings), list(tls)
        self._proxies: list[RecordingProxy] | None = [] if record else None
        self.port = own_port()
        self._entrance = self._recording_port(self.port)
        options = ["--host", HOST, "--port", str(self.port), "--no-dashboard", *self._protocol(), *self._tls]
        self.scheduler = DaskProcess("scheduler", options, self._settings, folder / "scheduler.log")
        self.workers: list[DaskProcess] = []

    @property
    def url(self) -> str:
        """The address as Floodmark takes it."""
        return f"dask{'+tls' if self._tls else ''}://{HOST}:{self._entrance}"

    @property
    def recording(self) -> bool:
        return self._proxies is not None

    @property
    def recorded(self) -> bytes:
        """All bytes that went through the proxies, each direction of a connection as one piece."""
        return b"".join(proxy.recorded for proxy in self._proxies or ())

    def add_worker(
        self, environment: Mapping[str, str] = {}, *, threads: int = 1, wait: bool = True, name: str | None = None
    ) -> DaskProcess:
        """Start a worker with these variables on top of the cluster's."""
        folder = self.folder / (name or f"worker-{len(self.workers)}")
        folder.mkdir()
        scheme = "tls" if self._tls else "tcp"
        port = own_port()
        options = [f"{scheme}://{HOST}:{self._entrance}", "--no-nanny", "--no-dashboard", "--nthreads", str(threads)]
        options += ["--listen-address", f"{scheme}://{HOST}:{port}"]
        options += ["--contact-address", f"{scheme}://{HOST}:{self._recording_port(port)}"]
        options += ["--local-directory", str(folder), "--memory-limit", "0", "--death-timeout", "60", *self._tls]
        worker = DaskProcess("worker", options, {**self._settings, **environment}, folder / "log")
        self.workers.append(worker)
        if wait:
            worker.wait_for("Registered to")
        return worker

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.process.kill()
        for process in (*self.workers, self.scheduler):
            process.process.wait()
        for proxy in self._proxies or ():
            proxy.close()

    def _protocol(self) -> list[str]:
        return ["--protocol", "tls"] if self._tls else []

    def _recording_port(self, port: int) -> int:
        """Return the port to connect to for a port: a new proxy's, or the port itself."""
        if self._proxies is None:
            return port
        self._proxies.append(RecordingProxy(port))
        return self._proxies[-1].port


class RecordingProxy:
    """Passes connections on to a port of 127.0.0.1, and keeps all bytes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._kept: list[bytearray] = []
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def recorded(self) -> bytes:
        return b"\n".join(bytes(one) for one in list(self._kept))

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection((HOST, self._target)) as server:
            back = threading.Thread(target=self._relay, args=(server, client), daemon=True)
            back.start()
            self._relay(client, server)
            back.join()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        kept = bytearray()
        self._kept.append(kept)
        with suppress(OSError):
            while data := source.recv(65536):
                kept += data
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def _base_environment() -> dict[str, str]:
    """The variables of a process that has no credentials and no settings of Floodmark."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | python_path() | _SETTINGS


def python_path(*first: Path) -> dict[str, str]:
    """The variable with which a process finds what these tests find, and more before it."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (*map(str, first), str(_TESTS), os.environ.get("PYTHONPATH"))))}


def require_dask() -> None:
    """Skip the test if Dask is not installed."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("the extra dask is not installed")


MakeDask = Callable[..., DaskServers]


@pytest.fixture
def make_dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeDask]:
    """Makes a cluster with this many workers, and with the arguments of DaskServers."""
    require_dask()
    made: list[DaskServers] = []

    def make(workers: int = 1, environment: Mapping[str, str] = {}, **options: object) -> DaskServers:
        servers = DaskServers(tmp_path_factory.mktemp("dask"), **options)  # type: ignore[arg-type]
        made.append(servers)
        if servers.recording:  # a proxy accepts before the scheduler does
            servers.scheduler.wait_for("Scheduler at:")
        for _ in range(workers):
            servers.add_worker(environment, wait=False)
        servers.scheduler.wait_for("Scheduler at:")
        for worker in servers.workers:
            worker.wait_for("Registered to")
        return servers

    yield make
    for servers in made:
        servers.close()


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskServers]:
    """A scheduler with two workers of one thread each. No test may hurt them."""
    require_dask()
    servers = DaskServers(tmp_path_factory.mktemp("dask"))
    try:
        for _ in range(2):
            servers.add_worker(wait=False)
        for worker in servers.workers:
            worker.wait_for("Registered to")
        yield servers
    finally:
        servers.close()
