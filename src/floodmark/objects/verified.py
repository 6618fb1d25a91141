"""The verified reader of one object. Its stored bytes are hashed, decompressed and counted while they are read.

All readers of data objects use it: consumers, `verify` and `deliver`. It compares the size and SHA-256 of the stored
bytes, the number, size and end of the lines, and for some callers their digest, with the manifest. Memory stays flat.

A caller that reached the end without an error has read exactly what the run wrote. A caller that got an error must
discard what it took of this object. `blocks` withholds the last block until the object is verified, and
`verified_blocks` withholds all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial

from floodmark.errors import ObjectMissing, StorageError
from floodmark.events import Observer, Retried, ignore_event
from floodmark.meter import Count
from floodmark.model import Encoding, ObjectEntry
from floodmark.objects.compression import Undecompressed, compressed, decompressed
from floodmark.objects.csv import RowCounter, whole_records
from floodmark.objects.numbers import quote_large
from floodmark.objects.spool import Spool
from floodmark.objects.stored import BLOCK, Damaged, ObjectFault, Stored
from floodmark.retrying import never
from floodmark.storage.base import Storage
from floodmark.wording import plural


class VerifiedObject:
    """One object while it is read: its stored bytes, and the totals of its lines.

    `with_digest` also compares the lines' own digest. The stored bytes' SHA-256 proves the same if the manifest is
    right, and costs less. With `spool`, the stored bytes are also written there.
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
        spool: Spool | None = None,
    ) -> None:
        self._storage, self._entry, self._encoding = storage, entry, encoding
        self._stored = Stored(storage, entry, observer, stopping, spool=spool)
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
    with closing(VerifiedObject(storage, entry, encoding, with_digest=False)) as read:
        held = b""
        for block in _whole_rows(read.plain(), encoding):
            if held:
                yield held
            held = block
        read.require_no_fault()
        if held:
            yield held


def verified_blocks(
    storage: Storage, entry: ObjectEntry, encoding: Encoding, observer: Observer = ignore_event
) -> Generator[bytes]:
    """Yield the same blocks as `blocks`, but none before the whole object and its content were verified.

    Meanwhile a spool holds the stored bytes. Raises the same errors as `blocks`.
    """
    with Spool() as spool:
        read = VerifiedObject(storage, entry, encoding, with_digest=True, observer=observer, spool=spool)
        with closing(read):
            for _ in read.plain():
                pass
            read.require_no_fault()
        yield from _whole_rows(_again(spool, encoding), encoding)


def _again(spool: Spool, encoding: Encoding) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a verified object from its spool."""
    kept = decompressed(spool.body.stream, encoding.compression)
    try:
        while block := kept.read(BLOCK):
            yield block
    except (Undecompressed, OSError):
        raise StorageError("can't read a temporary file again", why="its disk returns other bytes or none") from None


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
    storage: Storage,
    entry: ObjectEntry,
    encoding: Encoding,
    observer: Observer,
    stopping: Callable[[], bool],
    count: Count,
) -> ObjectFault | None:
    """Read an object to its end and return its first fault, or None. Raises TaskStopped, StorageError.

    `count` is told of the uncompressed bytes while they are read.

    Bytes can change on their way from the store. So a wrong checksum counts only if a second reading finds one too.
    """
    opened = partial(VerifiedObject, storage, entry, encoding, with_digest=True, observer=observer, stopping=stopping)
    fault = _fault_of(opened, count)
    if fault is not None and fault.code == "wrong_checksum":
        observer(Retried(f"read {entry.key}", fault.detail, 1))
        fault = _fault_of(opened, count)
    return fault


def _fault_of(opened: Callable[[], VerifiedObject], count: Count) -> ObjectFault | None:
    try:
        with closing(opened()) as read:
            for block in read.plain():
                count(len(block))
            return read.fault()
    except ObjectMissing:
        return ObjectFault("missing", "the object is gone")
    except Damaged as error:
        return error.fault


def _whole_rows(plain: Iterator[bytes], encoding: Encoding) -> Iterator[bytes]:
    return whole_records(plain) if encoding.format == "csv" else _lines(plain)


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
