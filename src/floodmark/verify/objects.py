"""Checks of an object against the manifest: it exists, with the right size and checksum, or with the right content.

Memory stays flat for an object of any size: it is read, hashed and decompressed in blocks.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from floodmark.engine.base import TaskStopped
from floodmark.errors import ObjectMissing, StorageDenied, StorageUnavailable
from floodmark.events import Observer, Retried
from floodmark.layout import encoding_of
from floodmark.model import Format, ObjectEntry
from floodmark.objects.compression import Undecompressed, decompressed
from floodmark.objects.csv import RowCounter
from floodmark.storage.base import Storage
from floodmark.storage.streams import Readable
from floodmark.verify.report import ObjectFault
from floodmark.wording import plural

BLOCK = 1024 * 1024
_TRIES = 4

Stopping = Callable[[], bool]


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


def read(destination: Storage, entry: ObjectEntry, stopping: Stopping, observer: Observer) -> ObjectFault | None:
    """Read an object through. A stream that breaks midway starts again. Raises TaskStopped, StorageError."""

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        observer(Retried(f"read {entry.key}", getattr(error, "why", None) or "", state.attempt_number))

    patience = Retrying(
        retry=retry_if_exception_type(StorageUnavailable),
        stop=stop_after_attempt(_TRIES),
        wait=wait_exponential(0.5, 10),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return patience(_read_once, destination, entry, stopping)
    except ObjectMissing:
        return ObjectFault("missing", "the object is gone")
    except StorageUnavailable as error:
        if "Checksum" in (error.why or ""):
            return ObjectFault("wrong_checksum", f"the store delivers other bytes than it was given ({error.why})")
        raise


def denied(error: StorageDenied) -> ObjectFault:
    return ObjectFault(
        "denied", f"it can't be looked at ({error.why}); without s3:ListBucket a missing object looks so, too"
    )


def _read_once(destination: Storage, entry: ObjectEntry, stopping: Stopping) -> ObjectFault | None:
    with closing(_Hashed(destination.open(entry.key), stopping)) as stored:
        encoding = encoding_of(entry.key)
        lines, broken = _Lines(encoding.format), None
        try:
            lines.take(decompressed(stored, encoding.compression))
        except Undecompressed as error:
            broken = str(error)
        while stored.read(BLOCK):
            pass  # bytes that the decompressor did not request count as well
    if stored.size != entry.stored_bytes:
        return ObjectFault(
            "wrong_size", f"it has {plural(stored.size, 'byte')}, and was written with {entry.stored_bytes:,}"
        )
    if stored.digest.hexdigest() != entry.sha256:
        return ObjectFault("wrong_checksum", "its bytes are not those that were written")
    if broken is not None:
        return ObjectFault("wrong_content", f"it can't be decompressed ({broken}), though its bytes are those written")
    return lines.fault(entry)


class _Hashed(io.RawIOBase):
    """A stream that hashes and counts what is read from it."""

    def __init__(self, stream: BinaryIO, stopping: Stopping) -> None:
        self._stream, self._stopping = stream, stopping
        self.digest, self.size = hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._stopping():
            raise TaskStopped
        data = self._stream.read(len(buffer))
        self.digest.update(data)
        self.size += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Lines:
    """The totals of an object's lines."""

    def __init__(self, row_format: Format) -> None:
        self._digest, self._counter, self._size, self._end = hashlib.sha256(), RowCounter(row_format), 0, b"\n"

    def take(self, stream: Readable) -> None:
        while block := stream.read(BLOCK):
            self._digest.update(block)
            self._counter.take(block)
            self._size += len(block)
            self._end = block[-1:]

    def fault(self, entry: ObjectEntry) -> ObjectFault | None:
        if self._end != b"\n":
            return ObjectFault("wrong_content", "its last line does not end")
        if self._size != entry.raw_bytes:
            return ObjectFault("wrong_content", f"its lines are {plural(self._size, 'byte')}, not {entry.raw_bytes:,}")
        if self._counter.rows != entry.rows:
            return ObjectFault("wrong_content", f"it holds {plural(self._counter.rows, 'row')}, not {entry.rows:,}")
        if self._digest.hexdigest() != entry.content_sha256:
            return ObjectFault("wrong_content", "its lines are not those that were extracted")
        return None
