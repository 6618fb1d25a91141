"""The check that a worker on another machine writes to the place where this process looks.

A folder, or a bucket's name, can mean another place on another machine.
"""

from __future__ import annotations

import os
import secrets
import socket

from floodmark.errors import ConfigError, StorageDenied
from floodmark.storage.base import Storage

# The name of this process among those of all machines.
WORKER = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class WorkerPlaces:
    """The workers whose first object was found in a store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._checked = set[str]()

    def require_same(self, worker: str, key: str, size: int) -> None:
        """Require that the first object of each worker is in the store. Raises ConfigError, StorageError."""
        if worker in self._checked:
            return
        try:
            found = self._storage.stat(key)
        except StorageDenied:  # the credentials may only write
            return
        if found is None or found.size != size:
            raise ConfigError(
                "a worker writes to another place",
                on=worker,
                why=f"{key} is not in {self._storage.url}",
                hint="The place must be the same for all: a bucket with the same AWS_ENDPOINT_URL and AWS_REGION "
                "everywhere, or a shared folder.",
            )
        self._checked.add(worker)
