"""The check that an object to be named again still exists."""

from __future__ import annotations

from floodmark.errors import StorageDenied
from floodmark.storage.base import Storage


def stands(storage: Storage, key: str, size: int, sha256: str) -> bool:
    """Return True if an object exists as it was put, as far as the store can tell.

    An object that may not be looked at counts as missing: S3 gives the same answer for a missing key if it may not
    list. Raises StorageError.
    """
    try:
        found = storage.stat(key)
    except StorageDenied:
        return False
    return found is not None and found.size == size and found.sha256 in (None, sha256)
