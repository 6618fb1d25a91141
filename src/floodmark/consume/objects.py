"""One object's lines, as a stream that is verified before its end is handed out.

The promise: blocks of whole lines come as they are read, in flat memory; the last block comes only once the stored
bytes had the size and SHA-256 of the manifest, and the lines their number and size. So whoever got to the end
without an error has read exactly what the run wrote; whoever got an error must throw away what it took of this object.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO

from floodmark.compression import Undecompressed, compressed, decompressed
from floodmark.errors import ObjectMissing, StorageError, VerificationFailed
from floodmark.large_numbers import quote_large
from floodmark.model import Encoding, Format, ObjectEntry
from floodmark.records import RowCounter, whole_records
from floodmark.storage.base import Storage

# Small enough that what is made of a block stays in the processor's cache: measured, a larger one is slower.
BLOCK = 256 * 1024
_TRIES = 5


class Stored:
    """An object's stored bytes, hashed as they are read. A stream that breaks is opened again, where it was."""

    def __init__(self, storage: Storage, entry: ObjectEntry, sleep: Callable[[float], None] = time.sleep) -> None:
        self._storage, self._entry, self._sleep = storage, entry, sleep
        self._digest, self._size, self._breaks = hashlib.sha256(), 0, 0
        self._stream = self._opened()

    def read(self, amount: int = BLOCK) -> bytes:
        """The next bytes, b"" at the end. Raises StorageError."""
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
        """Read what is left, and compare all of it with the manifest. Raises VerificationFailed."""
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
        """The same object from where reading broke off. Objects are never changed, so the bytes before are the same."""
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
    """An object's lines in blocks of whole lines, uncompressed; of CSV the records, without the header.

    Raises VerificationFailed, ObjectMissing, StorageError, and ConfigError where a library is missing.
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
    """What raw bytes came to while they passed."""

    def __init__(self, row_format: Format) -> None:
        self.counter, self.size = RowCounter(row_format), 0

    def passed(self, plain: Iterator[bytes]) -> Iterator[bytes]:
        for block in plain:
            self.counter.take(block)
            self.size += len(block)
            yield block


def raw(storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """An object's bytes uncompressed, of whatever format; an error at their end means that none of them is good.

    Raises as `blocks` does.
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
    """An object's bytes as another encoding of the same format has them; an error at their end as from `raw`.

    Raises as `blocks` does.
    """
    if wanted.numbers == stored.numbers:
        return compressed(raw(storage, entry, stored), wanted.compression)
    return compressed(map(quote_large, blocks(storage, entry, stored)), wanted.compression)


def as_stored(storage: Storage, entry: ObjectEntry) -> Iterator[bytes]:
    """An object's bytes as they are stored; an error at their end means that none of them is good."""
    with closing(Stored(storage, entry)) as stored:
        while block := stored.read():
            yield block
        stored.verify()


def damaged(storage: Storage, entry: ObjectEntry, why: str) -> VerificationFailed:
    """The error for an object that is not what the manifest says."""
    return VerificationFailed(
        "an object is not what the manifest says",
        on=f"{storage.url}/{entry.key}",
        why=why,
        hint="`floodmark verify` tells what else is damaged; `floodmark run --full` lands it anew.",
    )


def _plain(stored: Stored, storage: Storage, entry: ObjectEntry, encoding: Encoding) -> Iterator[bytes]:
    """The raw bytes, a block at a time however well they were compressed."""
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
    """The same bytes, cut only after newlines. A line longer than a block makes a block of its own."""
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
