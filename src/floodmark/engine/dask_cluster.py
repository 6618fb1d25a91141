"""A Dask cluster for the length of a command: one connection, opened and checked before anything else begins."""

from __future__ import annotations

import asyncio
import logging
import pkgutil
import socket
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from distributed import Client, Security  # optional extra
from distributed.versions import VersionMismatchWarning  # optional extra
from msgspec import Struct

from floodmark.engine.address import DaskAddress
from floodmark.engine.away import TOPIC, other_version
from floodmark.engine.dask import DaskEngine, DaskLink, Patience, no_workers, waiting_text
from floodmark.engine.event_loop import LoopThread
from floodmark.engine.facts import ClusterFacts, WorkerFacts
from floodmark.engine.local import LocalThreads
from floodmark.errors import ConfigError, EngineError, FloodmarkError
from floodmark.events import Observer, Warned
from floodmark.stop import Stop
from floodmark.version import __version__

# Tasks without a limit of their own: enough that a worker's thread never waits for its next one.
_TASKS_PER_THREAD = 2
_FEWEST_TASKS = 8
_SECONDS_TO_CLOSE = 5
_TLS_HINT = (
    "Set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY."
)
_UNREACHED = "can't reach the Dask scheduler"


class DaskCluster(Struct, frozen=True):
    """The workers of a Dask scheduler."""

    link: DaskLink
    away: bool = True

    def engine(self, observer: Observer, here: int, limit: int | None = None) -> DaskEngine:
        """Return an engine whose tasks run on the workers, at most `limit` at once."""
        return DaskEngine(self.link, LocalThreads(here), limit or self._usual_limit(), observer)

    def _usual_limit(self) -> int:
        threads = sum(worker.threads for worker in self.workers())
        return max(_FEWEST_TASKS, _TASKS_PER_THREAD * threads)

    def workers(self) -> list[WorkerFacts]:
        """Return the facts about each worker, by address."""
        return self.link.loop.call(_worker_facts(self.link.client), Stop())

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection. The scheduler then drops what is left of the tasks."""
        with suppress(Exception):
            self.link.loop.start(self.link.client.close()).result(_SECONDS_TO_CLOSE)
        self.link.loop.close()


def survey_scheduler(address: DaskAddress, patience: Patience = Patience()) -> ClusterFacts:  # noqa: B008 - frozen
    """Return the facts about the cluster at an address, whatever they are. Raises EngineError, ConfigError."""
    _quieten()
    _require_answer(address, patience)
    with _connected_cluster(address.contact, None, address.text, patience, Stop()) as cluster:
        return cluster.link.loop.call(_cluster_facts(cluster.link.client), Stop())


def join_scheduler(
    address: DaskAddress,
    observer: Observer,
    stop: Stop,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> DaskCluster:
    """Connect to the scheduler at an address. Raises EngineError, ConfigError, Stopped."""
    _quieten()
    _require_answer(address, patience)
    if not address.encrypted and not address.is_local:
        observer(Warned(f"the connection to the Dask scheduler at {address.text} is not encrypted; see dask+tls://"))
    return _opened(address.contact, None, address.text, patience, observer, stop)


def join_client(
    client: Any,
    observer: Observer,
    stop: Stop,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> DaskCluster:
    """Connect to the scheduler of a client that a program has. The client stays as it is. Raises as above."""
    if not isinstance(client, Client):
        raise ConfigError("can't use this engine", why="it is neither a URL nor a distributed.Client")
    if client.scheduler is None:
        raise ConfigError("can't use this engine", why="the client is closed")
    contact = str(client.scheduler.address)
    return _opened(contact, client.security, contact, patience, observer, stop)


def _quieten() -> None:
    """Keep Dask's log lines and warnings out of a command's own. Floodmark tells what they mean."""
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
    for name in ("distributed", "tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):
            logger = logging.getLogger(name)
            logger.handlers[:] = [logging.NullHandler()]
            logger.propagate = False


def _require_answer(address: DaskAddress, patience: Patience) -> None:
    """Raise EngineError if nothing listens at an address. Dask itself would go on trying."""
    try:
        socket.create_connection((address.host, address.port), timeout=patience.connect).close()
    except OSError as error:
        raise _unreached(error, address.text) from None


def _opened(
    contact: str, security: Security | None, text: str, patience: Patience, observer: Observer, stop: Stop
) -> DaskCluster:
    cluster = _connected_cluster(contact, security, text, patience, stop)
    try:
        cluster.link.client.subscribe_topic(TOPIC, cluster.link.hear)
        _require_workers(cluster, observer, stop)
    except BaseException:
        cluster.__exit__(None, None, None)
        raise
    return cluster


def _connected_cluster(
    contact: str, security: Security | None, text: str, patience: Patience, stop: Stop
) -> DaskCluster:
    """Return a cluster about which nothing is checked yet."""
    loop = LoopThread("floodmark-dask")
    try:
        client = loop.call(_connected(contact, security, text, patience), stop)
    except BaseException:
        loop.close()
        raise
    return DaskCluster(DaskLink(client, loop, text, patience, {}))


async def _connected(contact: str, security: Security | None, text: str, patience: Patience) -> Client:
    client = None
    try:
        client = Client(
            contact,
            security=security,
            asynchronous=True,
            set_as_default=False,
            timeout=patience.connect,
            name="floodmark",
        )
        await asyncio.wait_for(client, patience.connect)  # Dask itself waits for ever for a silent server
        return client
    except BaseException as error:
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), 1)
        if isinstance(error, asyncio.CancelledError):
            raise
        raise _unreached(error, text) from None


def _unreached(error: BaseException, text: str) -> FloodmarkError:
    """Return the error for a failed connection. Its cause can be some errors below Dask's."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            hint = "Write dask://, or start the scheduler with --protocol tls."
            return EngineError(_UNREACHED, on=text, why="it answers without TLS", hint=hint)
        if isinstance(cause, ssl.SSLError):
            why = f"TLS failed: {cause.reason or type(cause).__name__}"
            return EngineError(_UNREACHED, on=text, why=why, hint=f"Compare the certificates. {_TLS_HINT}")
        if isinstance(cause, TypeError | FileNotFoundError):  # Dask's words for TLS without a certificate
            return ConfigError(_UNREACHED, on=text, why="no certificate for TLS is configured", hint=_TLS_HINT)
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
    unknown = any(isinstance(cause, socket.gaierror) for cause in causes)
    why = "the connection was refused" if refused else "the host is unknown" if unknown else "it does not answer"
    hint = f"See if it is running, or start one: dask scheduler. Its address must be {text} from here."
    if refused or unknown:
        return EngineError(_UNREACHED, on=text, why=why, hint=hint)
    if text.startswith("dask+tls://"):  # a server can close the connection before the client knows why
        why, hint = (
            f"{why}, or refuses the certificate",
            f"{hint} Compare the certificates. {_TLS_HINT} Write dask:// if it has no TLS.",
        )
    else:
        hint += " If it uses TLS, write dask+tls://."
    return EngineError(_UNREACHED, on=text, why=why, hint=hint)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        behind = getattr(error, "real_error", None)  # tornado's closed stream keeps the error of TLS there
        error = error.__cause__ or error.__context__ or behind


def _require_workers(cluster: DaskCluster, observer: Observer, stop: Stop) -> None:
    """Wait for a worker, and require the same Floodmark on all workers. Raises EngineError, ConfigError, Stopped."""
    link = cluster.link
    if not link.loop.call(link.count_threads(), stop):
        observer(Warned(waiting_text(link)))
        link.loop.call(_first_worker(link), stop)
    require_same_version({worker.address: worker.version for worker in cluster.workers()})


def require_same_version(versions: Mapping[str, str | None]) -> None:
    """Raise ConfigError if a worker has another Floodmark than this process, or none."""
    others = {address: version for address, version in versions.items() if version != __version__}
    if others:
        raise other_version(others)


async def _first_worker(link: DaskLink) -> None:
    """Wait for a worker. A task that waits makes a cluster that scales itself start one."""
    probe = link.client.submit(int, key=f"floodmark-probe-{id(link)}", pure=False)
    try:
        await asyncio.wait_for(probe, link.patience.workers)
    except TimeoutError:
        raise no_workers(link) from None
    finally:
        probe.release()


async def _worker_facts(client: Client) -> list[WorkerFacts]:
    """Return the facts about all workers. A worker finds the version by a function that needs no Floodmark there."""
    threads = await client.nthreads()
    versions = await client.run(pkgutil.resolve_name, "floodmark.version:__version__", on_error="return")
    return [
        WorkerFacts(address, threads.get(address, 0), version if isinstance(version, str) else None)
        for address, version in sorted(versions.items())
    ]


async def _cluster_facts(client: Client) -> ClusterFacts:
    asked: Any = client.get_versions()
    versions = await asked
    return ClusterFacts(
        workers=tuple(await _worker_facts(client)),
        own_dask=_dask_of(versions["client"]),
        scheduler_dask=_dask_of(versions["scheduler"]),
        worker_dask={address: _dask_of(found) for address, found in sorted(versions["workers"].items())},
    )


def _dask_of(versions: Mapping[str, Any]) -> str:
    return str(versions["packages"]["distributed"])
