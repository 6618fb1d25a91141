"""The import of the coordinator's snapshot by another connection, in this process or on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import psycopg
from msgspec import Struct

from floodmark.errors import SnapshotLost
from floodmark.source.postgres.coordinator import (
    BEGIN,
    DEPENDENCIES,
    ROLE,
    VIEW,
    Connection,
    ExportedSnapshot,
    joined,
    set_local,
)
from floodmark.source.postgres.statements import literal
from floodmark.source.postgres.versions import is_newer

TASK_BEGINS, TASK_ENDS = "SAVEPOINT task", "ROLLBACK TO SAVEPOINT task"
# From 18 on, a scan lets other processes read its blocks. To hand blocks over costs a quarter of a count's processor
# time, and workers read in parallel anyway. A connection that reads everything keeps the server's own setting, and so
# does a newer server, which may not know it.
_OWN_READS = "SET LOCAL effective_io_concurrency = 0"

_OPTIONS = "Options in the URL and in PGOPTIONS must be the same everywhere."


class NotImported(SnapshotLost):
    """A connection without the snapshot: that is gone, or the server, the database or the role is another one."""


class Task(Struct):
    """One task's turn in a transaction. It ends with a rollback to its savepoint, which releases its locks."""

    connection: Connection
    ended: bool = False

    def last(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of the last query under the task's locks. The task ends with it, in one round trip."""
        rows = self.connection.execute(joined(query, TASK_ENDS)).fetchall()
        self.ended = True  # if the query failed, the rollback is still to be done
        return rows

    def end(self) -> None:
        if not self.ended:
            self.connection.execute(TASK_ENDS)


class Transactions(Protocol):
    """Transactions that see one snapshot."""

    def begin(self, what: str, on: str, first: str = "") -> AbstractContextManager[Task]:
        """Open a transaction for one task. A driver's error inside becomes Floodmark's, which names `what` and `on`.

        `first` are SET LOCAL statements, which then cost no round trip of their own.
        """
        ...


class _Found(NamedTuple):
    """The snapshot that an import led to, the role that did it, and the settings that its rows can depend on."""

    view: str
    role: str
    dependencies: str


def import_snapshot(
    connection: Connection,
    exported: ExportedSnapshot,
    settings: Mapping[str, str],
    on: str,
    *,
    ends: str = "",
    first: str = "",
    alone: bool = False,
) -> None:
    """Begin a transaction in the coordinator's snapshot, and a task in it. Raises NotImported, psycopg.Error.

    `ends` are statements that come before, `first` those that follow the pinned settings. `alone` says that no other
    connection reads at the same time.
    """
    found = _begin(connection, exported, joined(ends, BEGIN), joined(_own_reads(exported, alone), first), on)
    # A server with a snapshot of the same name can still be another one. A view can depend on the role.
    if found is None or found.view != exported.view:
        raise NotImported("another server answered", on=on, why="its snapshot differs")
    if found.role != exported.role:
        raise NotImported("another role reads", on=on, why="its rights and views can differ from the coordinator's")
    if found.dependencies != exported.dependencies:
        why = f"it has {found.dependencies}, and the coordinator has {exported.dependencies}"
        raise NotImported("a session with other settings reads", on=on, why=why, hint=_OPTIONS)
    set_local(connection, settings)
    connection.execute(TASK_BEGINS)


def _begin(connection: Connection, exported: ExportedSnapshot, begins: str, first: str, on: str) -> _Found | None:
    assert exported.id is not None
    imports = f"SET TRANSACTION SNAPSHOT {literal(exported.id)}"
    try:
        found = connection.execute(
            joined(begins, imports, exported.pinned, first, f"SELECT {VIEW}, {ROLE}, {DEPENDENCIES}")
        )
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):  # the latter from 17 on
        raise NotImported("can't import the snapshot", on=on) from None
    except psycopg.errors.FeatureNotSupported:
        raise NotImported("another database answered", on=on, why="it can't import the snapshot") from None
    while found.nextset():
        pass  # only the last statement gives a row
    row = found.fetchone()
    return None if row is None else _Found(*row)


def _own_reads(exported: ExportedSnapshot, alone: bool) -> str:
    suits = exported.server_version >= 180000 and not is_newer(exported.server_version)
    return _OWN_READS if suits and not alone else ""
