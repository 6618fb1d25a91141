"""The plan for the journal's triggers: which relations of a table need one, what is wrong, and the statements. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from floodmark.errors import ConfigError, SourceError
from floodmark.journal.catalog import JournalCatalog, JournalRelation, JournalTrigger
from floodmark.journal.connection import ALL_LOCKS_MILLISECONDS, LOCK_MILLISECONDS
from floodmark.model import TableName
from floodmark.source.postgres.journal_names import RECORD_FUNCTION, SCHEMA, TRUNCATE_TRIGGER, WRITE_TRIGGER
from floodmark.source.postgres.relations import KINDS
from floodmark.source.quoting import qualified, quoted
from floodmark.source.selection import Pattern

_EVENTS = {WRITE_TRIGGER: "INSERT OR UPDATE OR DELETE", TRUNCATE_TRIGGER: "TRUNCATE"}
TriggerState = Literal["missing", "disabled", "not always", "changed"]


class TriggerFault(Struct, frozen=True):
    """A trigger that does not record all writes to a relation.

    It is missing, disabled, silent for replication sessions (not ALWAYS), or its definition was changed.
    """

    relation: JournalRelation
    trigger: str
    state: TriggerState


class TableChange(Struct, frozen=True):
    """The statements that change one table's triggers, in one transaction, and the relations that they lock."""

    table: TableName
    locked: tuple[JournalRelation, ...]
    statements: tuple[str, ...]
    lock: str

    def script(self) -> str:
        """Return the whole transaction as SQL."""
        limits = (
            f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}",
            f"SET LOCAL statement_timeout = {ALL_LOCKS_MILLISECONDS}",
        )
        locks = (*limits, *lock_statements(self), "SET LOCAL statement_timeout = 0")
        return "".join(f"{line};\n" for line in ("BEGIN", *locks, *self.statements, "COMMIT"))


def lock_statements(change: TableChange) -> list[str]:
    if not change.locked:
        return []
    names = ", ".join(f"ONLY {qualified(one.table)}" for one in change.locked)
    return [f"LOCK TABLE {names} IN {change.lock} MODE"]


class Family:
    """The relations around a table: every ancestor and every partition, because a write can name any of them."""

    def __init__(self, catalog: JournalCatalog) -> None:
        self._catalog = catalog
        self._children: dict[int, list[int]] = {}
        for one in catalog.relations.values():
            for parent in one.parents:
                self._children.setdefault(parent, []).append(one.oid)
        self._triggers = {(one.relation, one.name): one for one in catalog.triggers}

    def ancestors(self, oid: int) -> list[int]:
        """Return all relations above one, the farthest first."""
        found: list[int] = []
        for parent in self._catalog.relations[oid].parents:
            found += [one for one in (*self.ancestors(parent), parent) if one not in found]
        return found

    def partitions(self, oid: int) -> list[int]:
        """Return all partitions below a relation, by oid. Children by inheritance are tables of their own."""
        found: list[int] = []
        for child in self._children.get(oid, ()):
            if self._catalog.relations[child].partition:
                found += [child, *self.partitions(child)]
        return sorted(found)

    def members(self, oid: int) -> list[JournalRelation]:
        """Return the relations that need the journal's triggers, ancestors first."""
        return [self._catalog.relations[one] for one in (*self.ancestors(oid), oid, *self.partitions(oid))]

    def faults(self, oid: int) -> list[TriggerFault]:
        """Return the triggers that a table lacks."""
        return list(self._faults(self.members(oid)))

    def _faults(self, members: Iterable[JournalRelation]) -> Iterator[TriggerFault]:
        for relation in members:
            for name in _EVENTS:
                state = _state(self._triggers.get((relation.oid, name)))
                if state is not None:
                    yield TriggerFault(relation, name, state)

    def has_any(self, oid: int) -> bool:
        return any((oid, name) in self._triggers for name in _EVENTS)

    def watched(self) -> list[int]:
        """Return the tables with the journal on, also in part. A partition counts as its table."""
        roots = {self._root(one.relation) for one in self._catalog.triggers if one.relation in self._catalog.relations}
        return sorted(roots, key=lambda oid: self._catalog.relations[oid].table)

    def _root(self, oid: int) -> int:
        one = self._catalog.relations[oid]
        return self._root(one.parents[0]) if one.partition and one.parents else oid

    def dependants(self, oid: int, without: Sequence[int]) -> list[JournalRelation]:
        """Return the tables with the journal on that inherit from one, except some."""
        return [
            self._catalog.relations[one] for one in self.watched() if one not in without and oid in self.ancestors(one)
        ]


def _state(trigger: JournalTrigger | None) -> TriggerState | None:
    if trigger is None:
        return "missing"
    if not trigger.own:
        return "changed"
    if trigger.enabled == "A":
        return None
    return "disabled" if trigger.enabled == "D" else "not always"


def named_tables(catalog: JournalCatalog, patterns: Sequence[str], what: str) -> list[JournalRelation]:
    """Return the tables that patterns name, ordered by name. Raises ConfigError for a pattern that names none.

    A pattern with a wildcard picks only tables. One with a full name picks any relation, so that it can be refused.
    """
    found: dict[int, JournalRelation] = {}
    for text in patterns:
        pattern = Pattern(text, "public", "TABLE")
        hits = [one for one in catalog.relations.values() if pattern.matches(one.table) and one.table.schema != SCHEMA]
        if pattern.table is None:
            hits = [one for one in hits if one.kind in "rp" and not one.partition]
        if not hits:
            raise ConfigError(what, on=text, why="there is no such table", hint="Write SCHEMA.TABLE, as in SQL.")
        found |= {one.oid: one for one in hits}
    return sorted(found.values(), key=lambda one: one.table)


def enable_change(catalog: JournalCatalog, oid: int) -> TableChange:
    """Return what a table needs so that the journal records all its writes. Raises SourceError or ConfigError."""
    family = Family(catalog)
    relation = catalog.relations[oid]
    for one in (relation, *family.members(oid)):
        _refuse(one, relation)
    faults = family.faults(oid)
    locked = tuple(dict.fromkeys(fault.relation for fault in faults))
    statements = tuple(line for fault in faults for line in _repair(fault))
    return TableChange(relation.table, locked, statements, "SHARE ROW EXCLUSIVE")


def _repair(fault: TriggerFault) -> list[str]:
    name, table = quoted(fault.trigger), qualified(fault.relation.table)
    always = f"ALTER TABLE ONLY {table} ENABLE ALWAYS TRIGGER {name}"
    if fault.state in ("disabled", "not always"):
        return [always]
    create = "CREATE TRIGGER" if fault.state == "missing" else "CREATE OR REPLACE TRIGGER"
    events = _EVENTS[fault.trigger]
    function = f"{SCHEMA}.{RECORD_FUNCTION}()"
    return [f"{create} {name} BEFORE {events} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}", always]


def disable_change(catalog: JournalCatalog, oid: int, named: Sequence[int]) -> TableChange:
    """Return what removes the triggers of a table and its partitions. Its ancestors keep theirs: others can need them.

    Raises SourceError if another table with the journal on inherits from it, and is not among the `named`.
    """
    family = Family(catalog)
    relation = catalog.relations[oid]
    _refuse_partition(relation, "can't disable the journal")
    needing = family.dependants(oid, named)
    if needing:
        raise SourceError(
            "can't disable the journal",
            on=relation.table.label,
            why=f"the journal of {needing[0].table.label}, which inherits from it, needs its triggers",
            hint=f"Disable both: floodmark journal disable {relation.table.label} {needing[0].table.label}",
        )
    return drop_change(catalog, oid, [relation.oid, *family.partitions(oid)])


def drop_change(catalog: JournalCatalog, oid: int, members: Sequence[int]) -> TableChange:
    """Return what removes every trigger of the journal from some relations."""
    found = [one for one in catalog.triggers if one.relation in members]
    locked = tuple(catalog.relations[one] for one in dict.fromkeys(one.relation for one in found))
    statements = (
        f"DROP TRIGGER {quoted(one.name)} ON {qualified(catalog.relations[one.relation].table)}" for one in found
    )
    return TableChange(catalog.relations[oid].table, locked, tuple(statements), "ACCESS EXCLUSIVE")


def _refuse(one: JournalRelation, of: JournalRelation) -> None:
    """Refuse a relation that the journal can't watch."""
    what, label = "can't enable the journal", one.table.label
    if one is of:
        _refuse_partition(one, what)
    if one.kind not in "rp":
        why = f"it is a {KINDS[one.kind]}: no trigger sees its changes"
        hint = "Leave it out: it is read again in each run." if one is of else "Its table can't have the journal."
        raise ConfigError(what, on=label, why=why, hint=hint)
    if one.subscribed:
        why = "a logical subscription writes to it, and its writes fire no statement trigger"
        raise SourceError(what, on=label, why=why, hint="Leave the table out, or enable the journal at the publisher.")


def _refuse_partition(one: JournalRelation, what: str) -> None:
    """Refuse a partition: its table has the journal on with all its partitions, or not at all."""
    if one.partition:
        hint = "Name the table that it belongs to."
        raise ConfigError(what, on=one.table.label, why="it is a partition", hint=hint)


def require_owned(change: TableChange, what: str) -> None:
    """Raise SourceError if the role can't make a change, because it does not own one of the relations."""
    for one in change.locked:
        if not one.owned:
            raise SourceError(
                what,
                on=one.table.label,
                why="the role does not own the table",
                hint="Connect as its owner or a superuser, or let one of them run the output of --sql.",
            )
