"""One object's lines, as a stream that is verified before its last block is handed out.

Blocks of whole lines are yielded while they are read, in flat memory. The last block is yielded only after the size and
SHA-256 of the stored bytes, and the number and size of the lines, matched the manifest. A caller that reached the end
without an error has read exactly what the run wrote. A caller that got an error must discard what it took of this
object.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO

from floodmark.errors import ObjectMissing, StorageError, VerificationFailed
from floodmark.model import Encoding, Format, ObjectEntry
from floodmark.objects.compression import Undecompressed, compressed, decompressed
from floodmark.objects.csv import RowCounter, whole_records
from floodmark.objects.numbers import quote_large
from floodmark.storage.base import Storage

# Small enough that the data made from a block stays in the processor's cache. Larger blocks measured slower.
BLOCK = 256 * 1024
_TRIES = 5


class Stored:
    """An object's stored bytes, hashed while they are read. A broken stream is reopened at the same offset."""

    def __init__(self, storage: Storage, entry: ObjectEntry, sleep: Callable[[float], None] = time.sleep) -> None:
        self._storage, self._entry, self._sleep = storage, entry, sleep
        self._digest, self._size, self._breaks = hashlib.sha256(), 0, 0
        self._stream = self._opened()

    def read(self, amount: int = BLOCK) -> bytes:
        """Return the next bytes, or b"" at the end. Raises StorageError."""
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

    def verify(self) -> None:
        """Read the rest and compare all of it with the manifest. Raises VerificationFailed."""
        while self.read(BLOCK):
            pass
        if (self._size, self._digest.hexdigest()) != (self._entry.stored_bytes, self._entry.sha256):
            raise damaged(self._storage, self._entry, "its size or SHA-256 is not the manifest's")

    def _read(self, amount: int) -> bytes:
        while True:
            try:
                return self._stream.read(amount)
            except StorageError as error:
                self._breaks += 1
                if not error.retryable or self._breaks >= _TRIES:
                    raise
            self._sleep(0.2 * 2**self._breaks)
            self._reopen()

    def _reopen(self) -> None:
        """Reopen the object at the break. Objects never change, so the bytes before it are the same."""
        self._stream.close()
        self._stream = self._opened()
        left = self._size
        while left and (skipped := self._stream.read(min(left, BLOCK))):
            left -= len(skipped)

    def _opened(self) -> BinaryIO:
        try:
            return self._storage.open(self._entry.key)
        except ObjectMissing as error:
            hint = (
                "An object of an earlier run may have been pruned. For the current one, `floodmark verify` tells what "
                "else is missing, and `floodmark run --table T --full` lands it anew. Data that was moved is found by "
                "--destination (in Python the first argument of `open`)."
            )
            raise ObjectMissing(error.what, on=error.on, why=error.why, hint=hint) from None


def blocks(storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """Yield an object's lines in uncompressed blocks of whole lines; for CSV the records, without the header.

    Raises VerificationFailed, ObjectMissing, StorageError, and ConfigError if a library is missing.
    """
    cut = whole_records if encoding.format == "csv" else _lines
    with closing(Stored(storage, entry)) as stored:
        held, seen = b"", _Seen(encoding.format)
        for block in cut(seen.passed(_plain(stored, storage, entry, encoding))):
            if seen.size > entry.raw_bytes:
                break
            if held:
                yield held
            held = block
        stored.verify()
        if (seen.counter.rows, seen.size) != (entry.rows, entry.raw_bytes):
            raise damaged(storage, entry, "its lines are not as many, or not as long, as the manifest says")
        if held:
            yield held


class _Seen:
    """The number and size of the raw bytes that passed."""

    def __init__(self, row_format: Format) -> None:
        self.counter, self.size = RowCounter(row_format), 0

    def passed(self, plain: Iterator[bytes]) -> Iterator[bytes]:
        for block in plain:
            self.counter.take(block)
            self.size += len(block)
            yield block


def raw(storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """Yield an object's bytes uncompressed, in any format. An error at the end means that no byte is valid.

    Raises the same errors as `blocks`.
    """
    with closing(Stored(storage, entry)) as stored:
        digest, size = hashlib.sha256(), 0
        for block in _plain(stored, storage, entry, encoding):
            size += len(block)
            if size > entry.raw_bytes:
                break
            digest.update(block)
            yield block
        stored.verify()
        if (size, digest.hexdigest()) != (entry.raw_bytes, entry.content_sha256):
            raise damaged(storage, entry, "its lines are not those of the manifest")


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
        while block := stored.read():
            yield block
        stored.verify()


def damaged(storage: Storage, entry: ObjectEntry, why: str) -> VerificationFailed:
    """Return the error for an object that does not match the manifest."""
    return VerificationFailed(
        "an object is not what the manifest says",
        on=f"{storage.url}/{entry.key}",
        why=why,
        hint="`floodmark verify` tells what else is damaged; `floodmark run --full` lands it anew.",
    )


def _plain(stored: Stored, storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """Yield the raw bytes, one block at a time, regardless of the compression ratio."""
    stream = decompressed(stored, encoding.compression)
    while True:
        try:
            block = stream.read(BLOCK)
        except Undecompressed as error:
            raise damaged(storage, entry, f"it can't be decompressed ({error})") from None
        if not block:
            return
        yield block


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
