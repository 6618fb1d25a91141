"""Reads and writes of the small documents in a state location: conditional, except at a run's own keys.

`replace` is the one compare-and-swap. If the answer to its write was lost, the outcome is unknown, not failed: it reads
the document back and decides by what is there. `change` repeats it with what other writers left. This module does not
know what the documents mean to each other: the ledger knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from msgspec import Struct

from floodmark.errors import (
    ConditionFailed,
    Conflict,
    ObjectMissing,
    OutcomeUnknown,
    StateUnreadable,
    StorageError,
    StorageUnavailable,
)
from floodmark.retrying import Patience, RetryPolicy, Sleep, retrying
from floodmark.state.manifest import Document, decode, encode
from floodmark.storage.base import Fetched, IfAbsent, IfMatch, Storage
from floodmark.storage.probe import body_of

# Each of these tries already includes all retries of the store.
_UNANSWERED = Patience(tries=5, shortest=0.05, longest=3.2, spread=True)
_OTHERS_WIN = Patience(tries=20, shortest=0.05, longest=3.2, spread=True)

Change = TypeVar("Change")


class Replaced(Struct, frozen=True):
    """The outcome of a compare-and-swap. `there` is the document at the key now, or None if the key is free.

    If `ours` is true, the write took effect, although `there` can already be a later version.
    """

    ours: bool
    there: Fetched | None


class _Unchanged(OutcomeUnknown):
    """A write that was refused or not answered, at a key that still holds the old version."""


class _Forestalled(ConditionFailed):
    """A write that another writer came before."""


class Documents:
    """The documents in one state location.

    `unconditional` accepts a store without conditional writes. Then each write first reads what is there. That narrows
    the gap in which two runs can overwrite each other, but does not close it.
    """

    def __init__(self, storage: Storage, *, unconditional: bool = False, sleep: Sleep = time.sleep) -> None:
        self._storage = storage
        self._unconditional = unconditional
        self._sleep = sleep

    def at(self, key: str) -> str:
        """Return the full location of a key, as a person would write it."""
        return f"{self._storage.url}/{key}"

    def check(self) -> None:
        """Prove that the store honours conditions, unless the user accepted a store that does not."""
        if not self._unconditional:
            self._storage.check()

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist. Raises StorageError."""
        found = self._found(key)
        return found.data if found is not None else None

    def fetch(self, kind: type[Document], key: str) -> tuple[Document, str] | None:
        """Return a document and its etag, or None if it does not exist. Raises StateUnreadable, StorageError."""
        found = self._found(key)
        return (decode(kind, found.data, self.at(key)), found.etag) if found is not None else None

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

    def replace(
        self, key: str, data: bytes, etag: str | None, took_effect: Callable[[bytes], bool] | None = None
    ) -> Replaced:
        """Write over the version with this etag, or a new document if it is None.

        If the write is refused or its answer is lost, the document is read back. `took_effect` tells from it if the
        write took effect; without it, the same bytes must be there. If the old version is still there, the write is
        repeated. If another version is there, another writer won: the caller decides what to do.

        Raises OutcomeUnknown if the store does not reveal the outcome, also if it fails after a lost answer. Raises
        StorageError if nothing was written.
        """
        unanswered = False

        def once() -> Replaced:
            nonlocal unanswered
            try:
                return Replaced(True, Fetched(data, self._put(key, data, etag)))
            except (ConditionFailed, OutcomeUnknown) as error:
                unanswered |= isinstance(error, OutcomeUnknown)
            there = self._found(key)
            if there is not None and (there.data == data if took_effect is None else took_effect(there.data)):
                return Replaced(True, there)
            if (there.etag if there is not None else None) != etag:
                return Replaced(False, there)
            raise _Unchanged(
                "can't write a document", on=self.at(key), why="the old version is still there, and no answer says why"
            )

        try:
            return self._again_after(_Unchanged, _UNANSWERED)(once)
        except StateUnreadable:
            raise
        except StorageError as error:
            if not unanswered and not isinstance(error, _Unchanged):
                raise
            why = error.why if isinstance(error, _Unchanged) else error.sentence
            hint = "Run the command again. That is safe in either case."
            raise OutcomeUnknown("can't tell if a document was written", on=self.at(key), why=why, hint=hint) from None

    def change(
        self,
        key: str,
        empty: Document,
        compute: Callable[[Document], tuple[Document, Change]],
        took_effect: Callable[[Document, Change], bool],
    ) -> Change:
        """Change a document: compute the new one from the current one, and again after each writer that came first.

        A missing document counts as `empty`. Return what `compute` returned next to the new document. `took_effect`
        tells from a later document if the change was made. Raises Conflict if other writers keep coming first; also
        StateUnreadable and the errors of `replace`.
        """
        kind = type(empty)

        def once() -> Change:
            before, etag = self.fetch(kind, key) or (empty, None)
            after, change = compute(before)
            if after == before:
                return change
            made = self.replace(
                key, encode(after), etag, lambda data: took_effect(decode(kind, data, self.at(key)), change)
            )
            if made.ours:
                return change
            raise _Forestalled("can't change a document", on=self.at(key))

        try:
            return self._again_after(_Forestalled, _OTHERS_WIN)(once)
        except _Forestalled:
            why = f"{_OTHERS_WIN.tries} times another writer came first"
            raise Conflict("can't change a document", on=self.at(key), why=why, hint="Run it again later.") from None

    def overwrite(self, key: str, data: bytes) -> None:
        """Write at a key that nobody else writes to. Raises StorageError."""
        self._storage.put(key, body_of(data))

    def delete(self, key: str) -> None:
        """Remove an object, if it exists. Raises StorageError."""
        self._storage.delete(key)

    def _found(self, key: str) -> Fetched | None:
        try:
            return self._storage.get(key)
        except ObjectMissing:
            return None

    def _again_after(self, kind: type[StorageError], patience: Patience) -> RetryPolicy:
        return retrying("write a document", lambda error: isinstance(error, kind), patience=patience, sleep=self._sleep)

    def _put(self, key: str, data: bytes, etag: str | None) -> str:
        """Write over a version, once. Raises ConditionFailed, OutcomeUnknown, StorageError."""
        if not self._unconditional:
            return self._storage.put(key, body_of(data), IfMatch(etag) if etag is not None else IfAbsent())
        self._require(key, etag)
        try:
            return self._storage.put(key, body_of(data))
        except StorageUnavailable as error:
            raise OutcomeUnknown("can't put an object", on=self.at(key), why="its last answer was lost") from error

    def _require(self, key: str, etag: str | None) -> None:
        stat = self._storage.stat(key)
        if (stat.etag if stat is not None else None) != etag:
            raise ConditionFailed(
                "can't put an object on a condition", on=self.at(key), why="it changed since it was read"
            )
