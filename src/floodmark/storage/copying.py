"""Copies within one S3, made by the store itself: the bytes never come here.

A copy is believed only where the store says that what it wrote has the SHA-256 that was asked for; whatever else it
says, the caller puts the bytes itself. So no right and no ability of a store is relied upon.
"""

from __future__ import annotations

from typing import Protocol

from floodmark.errors import StorageDenied, StorageError
from floodmark.storage.base import Storage


class CanCopy(Protocol):
    """A store that can take an object from another one of its kind."""

    def copy_from(self, other: Storage, from_key: str, etag: str, key: str) -> str | None:
        """Copy an object that still has this etag. Returns the SHA-256 (hex) of what was written, None where the
        store does not tell. Raises StorageError."""
        ...


class Copier:
    """From one place to another in the same S3, as long as that works."""

    def __init__(self, source: Storage, target: CanCopy) -> None:
        self._source, self._target = source, target
        self.works = True

    def copied(self, from_key: str, size: int, sha256: str, key: str) -> bool:
        """Whether the store has made a copy that is known to be right. Once that was refused, it is not asked again."""
        if not self.works or size > _MOST_BYTES:
            return False
        try:
            found = self._source.stat(from_key)
            if found is None or found.size != size or found.sha256 != sha256:
                return False
            self.works = self._target.copy_from(self._source, from_key, found.etag, key) == sha256
        except StorageDenied:
            self.works = False
            return False
        except StorageError:
            return False  # the put that follows is patient, and says what is wrong if it stays
        return self.works


# S3 copies no more than this in one request.
_MOST_BYTES = 5 * 1024**3
