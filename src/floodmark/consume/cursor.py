"""A consumer's own mark: "I have taken run X". Kept in the state location, moved by compare-and-swap.

Floodmark never moves it by itself: a consumer advances its cursor once what it took is safe. A cursor holds digests,
so what changed since is known even when the manifest of that run was pruned long ago.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType

from floodmark.errors import ConditionFailed, ConfigError, Conflict, OutcomeUnknown
from floodmark.layout import cursor_key
from floodmark.model import TableName
from floodmark.state.consumers import Cursor, Delivery, TakenTable
from floodmark.state.documents import Documents
from floodmark.state.manifest import encode
from floodmark.storage.base import IfAbsent, IfMatch, Storage
from floodmark.wording import iso_time

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


class Taken(Protocol):
    """A snapshot, as far as a cursor goes."""

    @property
    def run_id(self) -> str: ...

    @property
    def taken(self) -> tuple[TakenTable, ...]: ...

    @property
    def unread(self) -> frozenset[TableName]: ...


class StoredCursor(Struct, frozen=True):
    """A cursor as it was read, None where there is none yet. `advance` gives the one that follows."""

    name: str
    cursor: Cursor | None
    etag: str | None
    store: CursorStore

    @property
    def run_id(self) -> str | None:
        """The run that was taken last, None before the first."""
        return None if self.cursor is None else self.cursor.run_id

    @property
    def taken(self) -> tuple[TakenTable, ...]:
        return () if self.cursor is None else self.cursor.tables

    def advance(self, to: Taken) -> StoredCursor:
        """Say that all of a snapshot was taken; of what it could not read that is what was taken before. Raises
        Conflict where someone else moved the cursor meanwhile."""
        left = [mark for mark in self.taken if TableName(mark.schema, mark.name) in to.unread]
        return self.store.write(self, to.run_id, (*to.taken, *left))


class CursorStore:
    """The cursors in one state location."""

    def __init__(self, storage: Storage) -> None:
        self._documents = Documents(storage)

    def read(self, name: str) -> StoredCursor:
        """A cursor by its name. Raises ConfigError for a name that is no key, StateUnreadable, StorageError."""
        if not _NAME.fullmatch(name):
            why = "a cursor's name is made of letters, digits, - and _"
            raise ConfigError("this is no name for a cursor", why=why, hint="Give it the consumer's own name.")
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
        """Replace a cursor, if it is still as it was read. Raises Conflict, OutcomeUnknown, StorageError."""
        moment = iso_time(datetime.now(UTC), "microseconds")
        cursor = Cursor(name=old.name, run_id=run_id, updated_at=moment, tables=tuple(taken), delivery=delivery)
        condition = IfAbsent() if old.etag is None else IfMatch(old.etag)
        with suppress(ConditionFailed, OutcomeUnknown):  # the answer to our own write may be lost: what is there tells
            self._documents.put(cursor_key(old.name), encode(cursor), condition)
        now = self.read(old.name)
        if now.cursor == cursor:
            return now
        raise Conflict(
            "the cursor was moved by someone else",
            on=self._documents.at(cursor_key(old.name)),
            why=f"it names {now.run_id or 'no run'}",
            hint="Two consumers use one cursor. Give each its own, or let one wait for the other.",
        )
