"""Whether an object that is to be named again is still there."""

from __future__ import annotations

from floodmark.errors import StorageDenied
from floodmark.storage.base import Storage


def stands(storage: Storage, key: str, size: int, sha256: str) -> bool:
    """Whether an object stands as it was put, as far as the store can tell. What may not be looked at is not relied
    upon: S3 says so of a missing key, too, where it may not list. Raises StorageError."""
    try:
        found = storage.stat(key)
    except StorageDenied:
        return False
    return found is not None and found.size == size and found.sha256 in (None, sha256)
