"""Reads and writes of the small documents in a state location: conditional, except at a run's own keys.

This module does not know what the documents mean to each other: the ledger knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from floodmark.errors import ConditionFailed, ObjectMissing, OutcomeUnknown, StorageUnavailable
from floodmark.state.manifest import Document, decode
from floodmark.storage.base import IfAbsent, IfMatch, Storage
from floodmark.storage.probe import body_of


class Documents:
    """The documents in one state location.

    `unconditional` accepts a store without conditional writes. Then each write first reads what is there. That narrows
    the gap in which two runs can overwrite each other, but does not close it.
    """

    def __init__(self, storage: Storage, *, unconditional: bool = False) -> None:
        self._storage = storage
        self._unconditional = unconditional

    def at(self, key: str) -> str:
        """Return the full location of a key, as a person would write it."""
        return f"{self._storage.url}/{key}"

    def check(self) -> None:
        """Prove that the store honours conditions, unless the user accepted a store that does not."""
        if not self._unconditional:
            self._storage.check()

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist. Raises StorageError."""
        try:
            return self._storage.get(key).data
        except ObjectMissing:
            return None

    def fetch(self, kind: type[Document], key: str) -> tuple[Document, str] | None:
        """Return a document and its etag, or None if it does not exist. Raises StateUnreadable, StorageError."""
        try:
            found = self._storage.get(key)
        except ObjectMissing:
            return None
        return decode(kind, found.data, self.at(key)), found.etag

    @property
    def unconditional(self) -> bool:
        """Return True if a write and its condition are separate steps here."""
        return self._unconditional

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix. Only for prune."""
        return self._storage.list(prefix)

    def unfinished(self, before: datetime) -> Iterator[str]:
        """Yield the names of remains that killed puts left behind. Only for prune."""
        return self._storage.unfinished(before)

    def discard(self, name: str) -> None:
        """Remove an item that `unfinished` named. Raises StorageError."""
        self._storage.discard(name)

    def put(self, key: str, data: bytes, condition: IfAbsent | IfMatch) -> None:
        """Write on a condition. Raises ConditionFailed, OutcomeUnknown, StorageError."""
        if not self._unconditional:
            self._storage.put(key, body_of(data), condition)
            return
        self._require(key, condition)
        try:
            self._storage.put(key, body_of(data))
        except StorageUnavailable as error:
            raise OutcomeUnknown("put an object", on=self.at(key), why="its last answer was lost") from error

    def overwrite(self, key: str, data: bytes) -> None:
        """Write at a key that nobody else writes to. Raises StorageError."""
        self._storage.put(key, body_of(data))

    def delete(self, key: str) -> None:
        """Remove an object, if it exists. Raises StorageError."""
        self._storage.delete(key)

    def _require(self, key: str, condition: IfAbsent | IfMatch) -> None:
        stat = self._storage.stat(key)
        expected = condition.etag if isinstance(condition, IfMatch) else None
        if (stat.etag if stat is not None else None) != expected:
            raise ConditionFailed("put an object on a condition", on=self.at(key), why="it is not as it was")
