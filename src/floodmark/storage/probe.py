"""Proof that a store honours conditions: it is asked to break them."""

from __future__ import annotations

import hashlib
import io
import uuid

from floodmark.errors import ConditionFailed, NoConditionalWrites, StorageError
from floodmark.storage.base import Body, Condition, IfAbsent, IfMatch, Storage

_NO_ETAG = '"00000000000000000000000000000000"'


def prove_conditions(storage: Storage) -> None:
    """Write a probe of a name of its own, and try to overwrite it twice. Leaves nothing behind.

    Raises NoConditionalWrites where an overwrite goes through, StorageError where the store fails.
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


def body_of(data: bytes) -> Body:
    """A body of bytes at hand."""
    return Body(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def no_conditional_writes(where: str, why: str) -> NoConditionalWrites:
    """The error that names the way out."""
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
    raise no_conditional_writes(storage.url, f"it took a write whose {header} did not hold")


def _sweep(storage: Storage, key: str, error: BaseException) -> None:
    """Remove the probe of a check that failed; that failure is the one to hear of, not the sweeping's."""
    try:
        storage.delete(key)
    except StorageError as left:
        error.add_note(f"The probe {key} may be left behind: {left.sentence}")
