"""Checks of an object against the manifest: by the store's metadata, or by its content."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from floodmark.engine.base import WorkerWatch
from floodmark.errors import ConfigError, StorageDenied, StorageError
from floodmark.events import Observer
from floodmark.layout import encoding_of
from floodmark.meter import ChunkMeter, Count, count_nothing
from floodmark.model import ObjectEntry, TableName
from floodmark.objects.stored import ObjectFault
from floodmark.objects.verified import find_fault
from floodmark.storage import kept_storage
from floodmark.storage.base import Storage
from floodmark.storage.retry import RetryingStorage
from floodmark.wording import plural

NamedObject = tuple[TableName, ObjectEntry]


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


def read_named(destination: Storage, named: NamedObject, watch: WorkerWatch) -> ObjectFault | None:
    """Read a table's object as `read` does, and tell the progress."""
    table, one = named
    with ChunkMeter(watch.observer, table, one.chunk, one.stored_bytes, one.raw_bytes) as meter:
        return read(destination, one, watch.stop.is_set, watch.observer, meter.add)


def read_away(url: str, named: NamedObject, watch: WorkerWatch) -> ObjectFault | None:
    """Read an object on a machine that has nothing but the message and its own credentials."""
    return read_named(RetryingStorage(kept_storage(url), watch.observer), named, watch)


def require_not_here(destination: Storage, entry: ObjectEntry, fault: ObjectFault) -> None:
    """Require that this process can't open an object either that was missing or denied. Raises ConfigError."""
    if fault.code not in ("missing", "denied"):
        return
    with suppress(StorageError):
        destination.open(entry.key).close()
        raise ConfigError(
            "a worker can't read what this process can read",
            on=f"{destination.url}/{entry.key}",
            why=fault.detail,
            hint="Give all workers credentials for this place. It must be the same for all: a bucket with the same "
            "AWS_ENDPOINT_URL and AWS_REGION everywhere, or a shared folder.",
        )


def denied(error: StorageDenied) -> ObjectFault:
    """Return the fault of an object that may not be read."""
    return ObjectFault(
        "denied", f"access is denied ({error.why}); without s3:ListBucket, S3 says so of a missing object too"
    )
