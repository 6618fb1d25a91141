"""The facts about a Dask cluster that `floodmark doctor` reports. They need no Dask to be read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from floodmark.version import __version__


class WorkerFacts(Struct, frozen=True):
    """A worker: its threads, and the version of its Floodmark, None if it has no Floodmark."""

    address: str
    threads: int
    version: str | None

    @property
    def fits(self) -> bool:
        """Return True if it has the same Floodmark as this process."""
        return self.version == __version__


class ClusterFacts(Struct, frozen=True):
    """The workers of a cluster, and the versions of Dask: here, of the scheduler, and of each worker."""

    workers: tuple[WorkerFacts, ...]
    own_dask: str
    scheduler_dask: str
    worker_dask: Mapping[str, str]

    @property
    def other_dask(self) -> dict[str, str]:
        """Return who has another Dask than this process, with its version."""
        found = {"the scheduler": self.scheduler_dask, **self.worker_dask}
        return {who: version for who, version in found.items() if version != self.own_dask}
