"""Questions to a store: if it honours conditions, if it has an object as it was put, and a put that asks the latter."""

from __future__ import annotations

import hashlib
import io
import uuid

from floodmark.errors import (
    ConditionFailed,
    NoConditionalWrites,
    ObjectMissing,
    OutcomeUnknown,
    StorageDenied,
    StorageError,
)
from floodmark.storage.base import Body, Condition, IfAbsent, IfMatch, Storage

_NO_ETAG = '"00000000000000000000000000000000"'


def prove_conditions(storage: Storage) -> None:
    """Write a probe with a unique name, and try to overwrite it twice. Leaves nothing behind.

    Raises NoConditionalWrites if an overwrite succeeds, StorageError if the store fails.
    """
    key = f"floodmark-probe-{uuid.uuid4().hex}"
    try:
        storage.put(key, body_of(b"first"), IfAbsent())
        if storage.get(key).data != b"first":
            raise StorageError("read back what was written", on=f"{storage.url}/{key}", why="it is something else")
        _must_refuse(storage, key, IfAbsent(), "If-None-Match")
        _must_refuse(storage, key, IfMatch(_NO_ETAG), "If-Match")
    except BaseException as error:
        _sweep(storage, key, error)
        raise
    storage.delete(key)


def exists_as_put(storage: Storage, key: str, size: int, sha256: str) -> bool:
    """Return True if an object exists as it was put, as far as the store can tell.

    An object that may not be looked at counts as missing: S3 gives the same answer for a missing key if it may not
    list. Raises StorageError.
    """
    try:
        found = storage.stat(key)
    except StorageDenied:
        return False
    return found is not None and found.size == size and found.sha256 in (None, sha256)


def put_once(storage: Storage, key: str, body: Body) -> None:
    """Put an object under a key that only the caller uses: what exists there is an earlier try of the same put.

    Raises ConditionFailed or OutcomeUnknown if it is something else, StorageError.
    """
    try:
        storage.put(key, body, IfAbsent())
    except (OutcomeUnknown, ConditionFailed):
        if not _holds(storage, key, body):
            raise


def _holds(storage: Storage, key: str, body: Body) -> bool:
    """Return True if an object has exactly these bytes.

    A worker on another machine can have put others under the same key. So if the store knows no digest, the object is
    read: a folder knows none, and S3 knows none of an object that was put in parts.
    """
    try:
        found = storage.stat(key)
        if found is None or found.size != body.size:
            return False
        if found.sha256 is not None:
            return found.sha256 == body.sha256
        with storage.open(key) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == body.sha256  # type: ignore[arg-type]
    except (StorageDenied, ObjectMissing):
        return False


def body_of(data: bytes) -> Body:
    """Return a body of bytes in memory."""
    return Body(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def no_conditional_writes(where: str, why: str) -> NoConditionalWrites:
    """Return the error for a store without conditional writes, with the option that accepts it."""
    return NoConditionalWrites(
        "the store does not honour conditional writes",
        on=where,
        why=why,
        hint="Two runs at once could overwrite each other's state. To accept that risk: "
        "--allow-unconditional-writes (destination.allow_unconditional_writes).",
    )


def _must_refuse(storage: Storage, key: str, condition: Condition, header: str) -> None:
    try:
        storage.put(key, body_of(b"second"), condition)
    except ConditionFailed:
        return
    raise no_conditional_writes(storage.url, f"it accepted a write whose {header} condition was false")


def _sweep(storage: Storage, key: str, error: BaseException) -> None:
    """Remove the probe of a failed check. An error of the removal does not replace the error of the check."""
    try:
        storage.delete(key)
    except StorageError as left:
        error.add_note(f"The probe {key} may be left behind: {left.sentence}")
