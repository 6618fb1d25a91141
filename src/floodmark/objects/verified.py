"""The verified reader of one object. Its stored bytes are hashed, decompressed and counted while they are read.

All readers of data objects use it: consumers, `verify` and `deliver`. It compares the size and SHA-256 of the stored
bytes, the number, size and end of the lines, and for some callers their digest, with the manifest. Memory stays flat.

A caller that reached the end without an error has read exactly what the run wrote. A caller that got an error must
discard what it took of this object. `blocks` withholds the last block until the object is verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO, Literal

from msgspec import Struct

from floodmark.engine.base import TaskStopped
from floodmark.errors import ObjectMissing, StorageError, VerificationFailed
from floodmark.events import Observer, ignore_event
from floodmark.model import Encoding, ObjectEntry
from floodmark.objects.compression import Undecompressed, compressed, decompressed
from floodmark.objects.csv import RowCounter, whole_records
from floodmark.objects.numbers import quote_large
from floodmark.retrying import Patience, Sleep, never, pause, retrying
from floodmark.storage.base import Storage
from floodmark.wording import plural

# Small enough that the data made from a block stays in the processor's cache. Larger blocks measured slower.
BLOCK = 256 * 1024
# For one break of a stream. Opening it again is retried by the store.
_PATIENCE = Patience(tries=5, shortest=0.4)

FaultCode = Literal["missing", "denied", "wrong_size", "wrong_checksum", "wrong_content"]


class ObjectFault(Struct, frozen=True):
    """A difference between an object and the manifest."""

    code: FaultCode
    detail: str


class Damaged(VerificationFailed):
    """An object that does not match the manifest. `fault` says in which way."""

    def __init__(self, storage: Storage, entry: ObjectEntry, fault: ObjectFault) -> None:
        super().__init__(
            "an object does not match the manifest",
            on=f"{storage.url}/{entry.key}",
            why=fault.detail,
            hint="`floodmark verify` shows all damaged objects. `floodmark run --full` writes them again.",
        )
        self.fault = fault


class Stored:
    """An object's stored bytes, hashed while they are read. A broken stream is continued where it broke.

    Its reads raise StorageError, Damaged, and TaskStopped if `stopping` is true.
    """

    def __init__(
        self,
        storage: Storage,
        entry: ObjectEntry,
        observer: Observer = ignore_event,
        stopping: Callable[[], bool] = never,
        sleep: Sleep = pause,
    ) -> None:
        self._storage, self._entry, self._stopping = storage, entry, stopping
        self._digest, self._size = hashlib.sha256(), 0
        self._broke: StorageError | None = None
        self._patiently = retrying(f"read {entry.key}", self._may_pass, observer, _PATIENCE, sleep=sleep)
        self._stream = self._opened()

    def read(self, amount: int, /) -> bytes:
        """Return the next bytes, or b"" at the end."""
        if self._stopping():
            raise TaskStopped
        data = self._read(amount)
        self._digest.update(data)
        self._size += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()

    def fault(self) -> ObjectFault | None:
        """Read the rest and compare all stored bytes with the manifest."""
        while self.read(BLOCK):
            pass
        entry = self._entry
        if self._size != entry.stored_bytes:
            return ObjectFault(
                "wrong_size", f"it has {plural(self._size, 'byte')}, and was written with {entry.stored_bytes:,}"
            )
        if self._digest.hexdigest() != entry.sha256:
            return ObjectFault("wrong_checksum", "its SHA-256 is not the one it was written with")
        return None

    def _read(self, amount: int) -> bytes:
        try:
            return self._from_stream(amount)
        except StorageError as error:
            first = [error]
        try:
            return self._patiently(self._read_on, amount, first)
        except StorageError as error:
            if error is self._broke and "Checksum" in (error.why or ""):
                why = f"the store delivers other bytes than it was given ({error.why})"
                raise Damaged(self._storage, self._entry, ObjectFault("wrong_checksum", why)) from None
            raise

    def _read_on(self, amount: int, first: list[StorageError]) -> bytes:
        """Continue a broken stream. The first call fails with the first break, so that it is retried like any other."""
        if first:
            raise first.pop()
        self._stream.close()
        self._stream = self._opened()
        left = self._size  # objects never change, so the bytes before the break are the same
        while left and (skipped := self._from_stream(min(left, BLOCK))):
            left -= len(skipped)
        return self._from_stream(amount)

    def _from_stream(self, amount: int) -> bytes:
        try:
            return self._stream.read(amount)
        except StorageError as error:
            self._broke = error
            raise

    def _may_pass(self, error: BaseException) -> bool:
        return error is self._broke and self._broke.retryable

    def _opened(self) -> BinaryIO:
        try:
            return self._storage.open(self._entry.key)
        except ObjectMissing as error:
            hint = (
                "A prune can have deleted an object of an earlier run. For the current run, `floodmark verify` shows "
                "what else is missing, and `floodmark run --table T --full` writes it again. If the data was moved, "
                "name its place with --destination (in Python, the first argument of `open`)."
            )
            raise ObjectMissing(error.what, on=error.on, why=error.why, hint=hint) from None


class VerifiedObject:
    """One object while it is read: its stored bytes, and the totals of its lines.

    `with_digest` also compares the lines' own digest. The stored bytes' SHA-256 proves the same if the manifest is
    right, and costs less.
    """

    def __init__(
        self,
        storage: Storage,
        entry: ObjectEntry,
        encoding: Encoding,
        *,
        with_digest: bool,
        observer: Observer = ignore_event,
        stopping: Callable[[], bool] = never,
    ) -> None:
        self._storage, self._entry, self._encoding = storage, entry, encoding
        self._stored = Stored(storage, entry, observer, stopping)
        self._counter, self._size, self._end = RowCounter(encoding.format), 0, b"\n"
        self._digest = hashlib.sha256() if with_digest else None
        self._broken: str | None = None

    def close(self) -> None:
        self._stored.close()

    def plain(self) -> Iterator[bytes]:
        """Yield the uncompressed bytes in small blocks, up to the end or up to the first fault in them."""
        stream = decompressed(self._stored, self._encoding.compression)
        while self._size <= self._entry.raw_bytes:
            try:
                block = stream.read(BLOCK)
            except Undecompressed as error:
                self._broken = str(error)
                return
            if not block:
                return
            self._count(block)
            if self._size <= self._entry.raw_bytes:
                yield block

    def fault(self) -> ObjectFault | None:
        """Return the first difference from the manifest, after all of `plain`: first of the stored bytes."""
        fault, entry = self._stored.fault(), self._entry
        if fault is not None:
            return fault
        if self._broken is not None:
            why = f"it can't be decompressed ({self._broken}), although its bytes are those that were written"
        elif self._size > entry.raw_bytes:
            why = f"its lines have more than {entry.raw_bytes:,} bytes"
        elif self._end != b"\n":
            why = "its last line does not end"
        elif self._size != entry.raw_bytes:
            why = f"its lines have {plural(self._size, 'byte')}, not {entry.raw_bytes:,}"
        elif self._counter.rows != entry.rows:
            why = f"it has {plural(self._counter.rows, 'row')}, not {entry.rows:,}"
        elif self._digest is not None and self._digest.hexdigest() != entry.content_sha256:
            why = "its lines are not those that were extracted"
        else:
            return None
        return ObjectFault("wrong_content", why)

    def require_no_fault(self) -> None:
        """Raise Damaged if the object does not match the manifest."""
        fault = self.fault()
        if fault is not None:
            raise Damaged(self._storage, self._entry, fault)

    def _count(self, block: bytes) -> None:
        self._counter.take(block)
        self._size += len(block)
        self._end = block[-1:]
        if self._digest is not None:
            self._digest.update(block)


def blocks(storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """Yield an object's lines in uncompressed blocks of whole lines; for CSV the records, without the header.

    Raises VerificationFailed, ObjectMissing, StorageError, and ConfigError if a library is missing.
    """
    cut = whole_records if encoding.format == "csv" else _lines
    with closing(VerifiedObject(storage, entry, encoding, with_digest=False)) as read:
        held = b""
        for block in cut(read.plain()):
            if held:
                yield held
            held = block
        read.require_no_fault()
        if held:
            yield held


def raw(storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """Yield an object's bytes uncompressed, in any format. An error at the end means that no byte is valid.

    Raises the same errors as `blocks`.
    """
    with closing(VerifiedObject(storage, entry, encoding, with_digest=True)) as read:
        yield from read.plain()
        read.require_no_fault()


def converted(storage: Storage, entry: ObjectEntry, stored: Encoding, wanted: Encoding) -> Iterator[bytes]:
    """Yield an object's bytes in another encoding of the same format. An error at the end means that no byte is valid.

    Raises the same errors as `blocks`.
    """
    if wanted.numbers == stored.numbers:
        return compressed(raw(storage, entry, stored), wanted.compression)
    return compressed(map(quote_large, blocks(storage, entry, stored)), wanted.compression)


def as_stored(storage: Storage, entry: ObjectEntry) -> Iterator[bytes]:
    """Yield an object's bytes as stored. An error at the end means that no byte is valid."""
    with closing(Stored(storage, entry)) as stored:
        while block := stored.read(BLOCK):
            yield block
        fault = stored.fault()
        if fault is not None:
            raise Damaged(storage, entry, fault)


def find_fault(
    storage: Storage, entry: ObjectEntry, encoding: Encoding, observer: Observer, stopping: Callable[[], bool]
) -> ObjectFault | None:
    """Read an object to its end and return its first fault, or None. Raises TaskStopped, StorageError."""
    try:
        read = VerifiedObject(storage, entry, encoding, with_digest=True, observer=observer, stopping=stopping)
        with closing(read):
            for _ in read.plain():
                pass
            return read.fault()
    except ObjectMissing:
        return ObjectFault("missing", "the object is gone")
    except Damaged as error:
        return error.fault


def _lines(plain: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, cut only after newlines. A line longer than a block makes its own block."""
    parts: list[bytes] = []
    for block in plain:
        cut = block.rfind(b"\n") + 1
        if not cut:
            parts.append(block)
            continue
        yield b"".join((*parts, block[:cut]))
        parts = [block[cut:]] if cut < len(block) else []
    if parts:
        yield b"".join(parts)
