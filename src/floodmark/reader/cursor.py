"""A consumer's own mark: "I have taken run X". It lives in the state location and moves by compare-and-swap.

Floodmark never moves it by itself. A consumer advances its cursor when the data it took is safe. A cursor holds
digests, so changes since then are known even after a prune deleted that run's manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType

from floodmark.errors import ConfigError, Conflict
from floodmark.layout import cursor_key
from floodmark.model import TableName
from floodmark.state.consumers import Cursor, Delivery, TakenTable
from floodmark.state.documents import Documents
from floodmark.state.manifest import encode
from floodmark.storage.base import Storage
from floodmark.wording import iso_time

CURSOR_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


class TakenSnapshot(Protocol):
    """The parts of a snapshot that a cursor needs."""

    @property
    def run_id(self) -> str: ...

    @property
    def taken(self) -> tuple[TakenTable, ...]: ...

    @property
    def unread(self) -> frozenset[TableName]: ...


class StoredCursor(Struct, frozen=True):
    """A cursor as it was read, or None if it does not exist yet. `advance` returns the next one."""

    name: str
    cursor: Cursor | None
    etag: str | None
    store: CursorStore

    @property
    def run_id(self) -> str | None:
        """Return the run that was taken last, or None before the first."""
        return None if self.cursor is None else self.cursor.run_id

    @property
    def taken(self) -> tuple[TakenTable, ...]:
        return () if self.cursor is None else self.cursor.tables

    def advance(self, to: TakenSnapshot) -> StoredCursor:
        """Record that all of a snapshot was taken. Raises Conflict if another process moved the cursor meanwhile.

        Tables that the snapshot could not read keep their previous mark.
        """
        left = [mark for mark in self.taken if TableName(mark.schema, mark.name) in to.unread]
        return self.store.write(self, to.run_id, (*to.taken, *left))


class CursorStore:
    """The cursors in one state location."""

    def __init__(self, storage: Storage) -> None:
        self._documents = Documents(storage)

    def read(self, name: str) -> StoredCursor:
        """Read a cursor by its name.

        Raises ConfigError for a name that is no valid key, StateUnreadable, StorageError.
        """
        if not CURSOR_NAME.fullmatch(name):
            why = "a name has only letters, digits, - and _"
            raise ConfigError("can't use this cursor name", why=why, hint="Give it the consumer's own name.")
        found = self._documents.fetch(Cursor, cursor_key(name))
        cursor, etag = found or (None, None)
        return StoredCursor(name, cursor, etag, self)

    def write(
        self,
        old: StoredCursor,
        run_id: str,
        taken: Iterable[TakenTable],
        delivery: Delivery | UnsetType = UNSET,
    ) -> StoredCursor:
        """Replace a cursor if it did not change since it was read. Raises Conflict, OutcomeUnknown, StorageError."""
        moment = iso_time(datetime.now(UTC), "microseconds")
        cursor = Cursor(name=old.name, run_id=run_id, updated_at=moment, tables=tuple(taken), delivery=delivery)
        key = cursor_key(old.name)
        swap = self._documents.replace(key, encode(cursor), old.etag)
        if swap.ours and swap.there is not None:
            return StoredCursor(old.name, cursor, swap.there.etag, self)
        raise Conflict(
            "can't move the cursor",
            on=self._documents.at(key),
            why=f"another consumer moved it to {self.read(old.name).run_id or 'no run'}",
            hint="Give each consumer its own cursor, or let one wait for the other.",
        )
