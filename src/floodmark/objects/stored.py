"""The stored bytes of one object, hashed while they are read, and the faults that an object can have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO, Literal

from msgspec import Struct

from floodmark.engine.base import TaskStopped
from floodmark.errors import ObjectMissing, StorageError, VerificationFailed
from floodmark.events import Observer, ignore_event
from floodmark.model import ObjectEntry
from floodmark.objects.spool import Spool
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

    With `spool`, all that is read is also written there. Reads raise StorageError, Damaged, and TaskStopped if
    `stopping` is true.
    """

    def __init__(
        self,
        storage: Storage,
        entry: ObjectEntry,
        observer: Observer = ignore_event,
        stopping: Callable[[], bool] = never,
        sleep: Sleep = pause,
        spool: Spool | None = None,
    ) -> None:
        self._storage, self._entry, self._stopping, self._spool = storage, entry, stopping, spool
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
        if self._spool is not None:
            self._spool.write(data)
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
