"""The choice of the cluster for a command: this process, or the workers of a Dask scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from floodmark.engine.address import ADDRESS_HINT, DaskAddress, read_address
from floodmark.engine.base import Cluster
from floodmark.engine.facts import ClusterFacts
from floodmark.engine.local import ThisProcess
from floodmark.errors import ConfigError
from floodmark.events import Observer
from floodmark.stop import NEVER, Stop
from floodmark.wording import install_hint

if TYPE_CHECKING:
    from distributed import Client  # optional extra

# A URL, or the client of a program that uses Dask anyway. None means this process.
EngineChoice = Union[str, "Client", None]


def open_engine(chosen: EngineChoice, observer: Observer, stop: Stop = NEVER) -> Cluster:
    """Return the chosen cluster, to be used as a context manager. It is reached, has a worker, and is checked.

    Raises ConfigError, also for workers with another version of Floodmark; EngineError; Stopped.
    """
    if chosen is None:
        return ThisProcess()
    try:
        from floodmark.engine.dask_cluster import join_client, join_scheduler  # noqa: PLC0415 - optional extra
    except ImportError:
        raise _not_installed() from None
    if not isinstance(chosen, str):
        return join_client(chosen, observer, stop)
    return join_scheduler(_address(chosen), observer, stop)


def survey_engine(chosen: str) -> ClusterFacts:
    """Return the facts about a cluster, whatever they are. Raises ConfigError, EngineError."""
    try:
        from floodmark.engine.dask_cluster import survey_scheduler  # noqa: PLC0415 - optional extra
    except ImportError:
        raise _not_installed() from None
    return survey_scheduler(_address(chosen))


def _address(chosen: str) -> DaskAddress:
    try:
        return read_address(chosen)
    except ValueError as error:
        raise ConfigError("can't use this engine", why=str(error), hint=ADDRESS_HINT) from None


def _not_installed() -> ConfigError:
    why = "the extra dask is not installed"
    return ConfigError("can't use a Dask cluster", why=why, hint=install_hint("dask"))
