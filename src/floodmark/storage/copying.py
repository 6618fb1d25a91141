"""Copies within one S3, made by the store itself: the bytes never come here.

A copy counts only if the store says that the written object has the requested SHA-256. With any other answer, the
caller puts the bytes itself. So Floodmark relies on no right and no ability of a store.
"""

from __future__ import annotations

from typing import Protocol

from floodmark.errors import StorageDenied, StorageError
from floodmark.storage.base import Storage


class CanCopy(Protocol):
    """A store that can copy an object from another store of its kind."""

    def copy_from(self, other: Storage, from_key: str, etag: str, key: str) -> str | None:
        """Copy an object that still has this etag.

        Returns the SHA-256 (hex) of the written object, or None if the store does not tell. Raises StorageError.
        """
        ...


class Copier:
    """A copier from one place to another in the same S3, as long as that works."""

    def __init__(self, source: Storage, target: CanCopy) -> None:
        self._source, self._target = source, target
        self.works = True

    def copied(self, from_key: str, size: int, sha256: str, key: str) -> bool:
        """Return True if the store made a copy that is known to be right.

        After a refusal the store is not asked again.
        """
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
            return False  # the put that follows retries, and reports the error if it persists
        return self.works


# S3 copies no more than this in one request.
_MOST_BYTES = 5 * 1024**3
