"""Checks of an object against the manifest: by the store's metadata, or by its content."""

from __future__ import annotations

from collections.abc import Callable

from floodmark.errors import StorageDenied
from floodmark.events import Observer
from floodmark.layout import encoding_of
from floodmark.meter import Count, count_nothing
from floodmark.model import ObjectEntry
from floodmark.objects.stored import ObjectFault
from floodmark.objects.verified import find_fault
from floodmark.storage.base import Storage
from floodmark.wording import plural


def look(destination: Storage, entry: ObjectEntry) -> ObjectFault | None:
    """Compare the store's metadata of an object with the manifest. Returns the fault, or None."""
    stat = destination.stat(entry.key)
    if stat is None:
        return ObjectFault("missing", "the object is gone")
    if stat.size != entry.stored_bytes:
        return ObjectFault(
            "wrong_size", f"it has {plural(stat.size, 'byte')}, and was written with {entry.stored_bytes:,}"
        )
    if stat.sha256 not in (None, entry.sha256):
        return ObjectFault("wrong_checksum", "the store's SHA-256 is not the one it was written with")
    return None


def read(
    destination: Storage,
    entry: ObjectEntry,
    stopping: Callable[[], bool],
    observer: Observer,
    count: Count = count_nothing,
) -> ObjectFault | None:
    """Read an object to its end and return its fault, or None. `count` is told of its lines' bytes.

    Raises TaskStopped, StorageError.
    """
    return find_fault(destination, entry, encoding_of(entry.key), observer, stopping, count)


def denied(error: StorageDenied) -> ObjectFault:
    """Return the fault of an object that may not be read."""
    return ObjectFault(
        "denied", f"access is denied ({error.why}); without s3:ListBucket, S3 says so of a missing object too"
    )
