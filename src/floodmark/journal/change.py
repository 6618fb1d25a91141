"""The journal's triggers on and off: one short transaction per table, which is tried again if the table is busy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from floodmark.errors import ConfigError, SourceError, TableLocked
from floodmark.events import Observer
from floodmark.journal.catalog import Installation, JournalCatalog, JournalRelation, read_catalog, read_installation
from floodmark.journal.connection import ALL_LOCKS_MILLISECONDS, JournalConnection
from floodmark.journal.plan import (
    Family,
    TableChange,
    disable_change,
    drop_change,
    enable_change,
    lock_statements,
    named_tables,
    require_owned,
)
from floodmark.retrying import Patience, retrying
from floodmark.source.postgres.journal_names import RECORD_FUNCTION, REVISION, SCHEMA

# Writers wait behind a lock that is waited for, so a try gives up soon. The tries together can take half a minute.
PATIENCE = Patience(tries=None, shortest=0.3, longest=1.0, jitter=0.3, deadline=30)
_VERBS = {
    "enable": "can't enable the journal",
    "disable": "can't disable the journal",
    "drop": "can't remove the journal",
}
_MAY_EXECUTE = f"SELECT has_function_privilege('{SCHEMA}.{RECORD_FUNCTION}()', 'EXECUTE')"


class WantedChange(Struct, frozen=True):
    """A table whose triggers to change. `named` are all tables that the command names."""

    action: Literal["enable", "disable", "drop"]
    relation: JournalRelation
    named: tuple[int, ...] = ()

    def plan(self, catalog: JournalCatalog) -> TableChange:
        """Return the statements that are needed now. Raises FloodmarkError if the table can't be changed."""
        oid, label = self.relation.oid, self.relation.table.label
        if oid not in catalog.relations:
            raise SourceError(self.what, on=label, why="it was dropped meanwhile", hint="Run the command again.")
        if self.action == "enable":
            return enable_change(catalog, oid)
        if self.action == "disable":
            return disable_change(catalog, oid, self.named)
        return drop_change(catalog, oid, [oid, *Family(catalog).partitions(oid)])

    def own_plan(self, catalog: JournalCatalog) -> TableChange:
        """Return the same statements for this role to run. Raises SourceError if it may not."""
        change = self.plan(catalog)
        require_owned(change, self.what)
        return change

    @property
    def what(self) -> str:
        return _VERBS[self.action]


def enable(connection: JournalConnection, patterns: Sequence[str], observer: Observer) -> list[TableChange]:
    """Create the missing triggers of tables, and repair changed ones. Returns what was done for each table."""
    return _change_all(connection, "enable", patterns, observer)


def disable(connection: JournalConnection, patterns: Sequence[str], observer: Observer) -> list[TableChange]:
    """Remove the triggers of tables and of their partitions. Returns what was done for each table."""
    return _change_all(connection, "disable", patterns, observer)


def planned(
    connection: JournalConnection, action: Literal["enable", "disable"], patterns: Sequence[str]
) -> list[TableChange]:
    """Return what `enable` or `disable` would do, and change nothing. Another role can be the one to do it."""
    catalog, wanted = _wanted(connection, action, patterns)
    return [one.plan(catalog) for one in wanted]


def _change_all(
    connection: JournalConnection, action: Literal["enable", "disable"], patterns: Sequence[str], observer: Observer
) -> list[TableChange]:
    catalog, wanted = _wanted(connection, action, patterns)
    _require_execute(connection, action)
    for one in wanted:  # a table that can't be changed is known before the first one is changed
        one.own_plan(catalog)
    return [apply(connection, one, observer) for one in wanted]


def _wanted(
    connection: JournalConnection, action: Literal["enable", "disable"], patterns: Sequence[str]
) -> tuple[JournalCatalog, list[WantedChange]]:
    what = _VERBS[action]
    with connection.transaction(what, read_only=True):
        require_installed(read_installation(connection), what)
        catalog = read_catalog(connection)
    relations = named_tables(catalog, patterns, what)
    named = tuple(one.oid for one in relations)
    return catalog, [WantedChange(action, one, named) for one in relations]


def _require_execute(connection: JournalConnection, action: Literal["enable", "disable"]) -> None:
    """Raise SourceError if the role can't create a trigger that calls the journal's function."""
    if action == "disable":
        return
    with connection.transaction(_VERBS[action], read_only=True):
        allowed = connection.row(_MAY_EXECUTE) == (True,)
    if not allowed:
        hint = f"GRANT EXECUTE ON FUNCTION {SCHEMA}.{RECORD_FUNCTION}() TO the role."
        raise SourceError(_VERBS[action], why="the role may not use the journal's function", hint=hint)


def require_installed(found: Installation, what: str) -> None:
    """Refuse a server without the journal that this version knows."""
    if found.in_recovery:
        raise SourceError(what, why="the server is a standby", hint="Connect to the primary.")
    if found.revision is None:
        raise ConfigError(what, why="the journal is not installed", hint="Run: floodmark journal install")
    if found.revision != REVISION:
        why = f"revision {found.revision} is installed, and this version of Floodmark needs {REVISION}"
        raise ConfigError(what, why=why, hint="Run: floodmark journal install, or use the version that installed it.")


def apply(connection: JournalConnection, wanted: WantedChange, observer: Observer) -> TableChange:
    """Change a table's triggers. Tries again while the table is locked, and raises TableLocked at the end."""
    policy = retrying(f"{wanted.action} the journal: {wanted.relation.table.label}", _passes, observer, PATIENCE)
    try:
        return policy(_try, connection, wanted)
    except TableLocked as error:
        hint = "Run the command again when the session that locks it is done: see pg_stat_activity."
        raise TableLocked(error.what, on=error.on, why=error.why, hint=hint) from None


def _passes(error: BaseException) -> bool:
    return isinstance(error, TableLocked)


def _try(connection: JournalConnection, wanted: WantedChange) -> TableChange:
    label = wanted.relation.table.label
    with connection.transaction(wanted.what, label, read_only=True):
        change = wanted.own_plan(read_catalog(connection))
    if not change.statements:
        return change
    with connection.transaction(wanted.what, label):
        connection.limit_statements(ALL_LOCKS_MILLISECONDS)
        for lock in lock_statements(change):
            connection.execute(lock)
        connection.limit_statements(0)
        now = wanted.own_plan(read_catalog(connection))
        if not {one.oid for one in now.locked} <= {one.oid for one in change.locked}:
            raise TableLocked(wanted.what, on=label, why="its partitions changed meanwhile")
        for statement in now.statements:
            connection.execute(statement)
    return now
