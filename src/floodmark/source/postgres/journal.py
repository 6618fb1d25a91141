"""The journal of some tables, as a snapshot shows it: the triggers on them and their ancestors, and the newest write.

docs/change-detection.md holds the proof. This module reads the facts, in a fixed number of queries, and only for tables
with `detect: journal`. `pipeline.detect` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from msgspec.structs import replace

from floodmark.model import TableName
from floodmark.observed import JournalFacts, Part
from floodmark.source.postgres.fingerprint import sha256_of
from floodmark.source.postgres.identity import ExpectedReads, LockedRelation, oids, replaced_because
from floodmark.source.postgres.journal_names import BUCKET_SHIFT, ENDLESS, SCHEMA
from floodmark.source.postgres.journal_objects import (
    ON_A_TABLE,
    REINSTALL,
    Connection,
    InstalledJournal,
    JournalTrigger,
    read_installed,
)
from floodmark.source.postgres.statements import PgTable, locked_relations

_ANCESTORS = """
WITH RECURSIVE up (child, parent, pending, writer) AS (
    SELECT inhrelid, inhparent, inhdetachpending, xmin::text FROM pg_inherits WHERE inhrelid = ANY(%(oids)s::oid[])
    UNION
    SELECT i.inhrelid, i.inhparent, i.inhdetachpending, i.xmin::text
    FROM pg_inherits i JOIN up ON i.inhrelid = up.parent)
SELECT child::bigint, parent::bigint, pending, writer FROM up ORDER BY child, parent"""
# A parent that the table had for a while wrote its columns' rows, because they count their parents.
_COLUMNS = """
SELECT attrelid::bigint, array_agg(xmin::text ORDER BY attnum) FROM pg_attribute
WHERE attrelid = ANY(%(oids)s::oid[]) AND attnum > 0 GROUP BY attrelid"""
_TRIGGERS = """
SELECT t.tgrelid::bigint, t.tgname::text, t.oid::bigint, t.tgfoid::bigint, t.tgtype, t.tgenabled::text,
       t.tgqual IS NULL AND t.tgattr::text = '' AND t.tgnargs = 0, t.xmin::text
FROM pg_trigger t
WHERE NOT t.tgisinternal AND t.tgrelid = ANY(%(oids)s::oid[])
      AND (t.tgname = ANY(%(names)s) OR t.tgrelid = ANY(%(own)s::oid[])) ORDER BY t.tgrelid, t.tgname"""
_SUBSCRIBED = "SELECT srrelid::bigint FROM pg_subscription_rel WHERE srrelid = ANY(%(oids)s::oid[])"
_NEWEST = f"""
SELECT r.oid::bigint, (SELECT max(j.bucket) FROM ONLY {SCHEMA}.journal j WHERE j.relation = r.oid)
FROM unnest(%(oids)s::oid[]) AS r (oid)"""
_LOWEST = f"SELECT floor::text FROM ONLY {SCHEMA}.journal_floor"


class Ancestor(Struct, frozen=True, array_like=True):
    """A table's place under a parent: a partitioned table, or one that it inherits from."""

    child: int
    parent: int
    pending: bool
    xmin: str


_Row = TypeVar("_Row", Ancestor, JournalTrigger)


class TableTriggers(Struct, frozen=True):
    """The places of tables under their ancestors, the triggers on all of them, and the writers of their columns."""

    parents: Mapping[int, Sequence[Ancestor]]
    triggers: Mapping[int, Sequence[JournalTrigger]]
    columns: Mapping[int, Sequence[str]]
    subscribed: frozenset[int]

    def above(self, oid: int) -> list[int]:
        """Return a relation and all its ancestors, in a fixed order. A write to any of them can reach its rows."""
        found, waiting = {oid}, [oid]
        while waiting:
            for place in self.parents.get(waiting.pop(), ()):
                if place.parent not in found:
                    found.add(place.parent)
                    waiting.append(place.parent)
        return sorted(found)

    def facts(self, oid: int) -> list[Any]:
        return [oid, self.parents.get(oid, ()), self.triggers.get(oid, ()), self.columns.get(oid, ())]


class Writes(Struct, frozen=True):
    """The content of the journal's tables: the newest bucket of each relation that has one, and the floor."""

    newest: Mapping[int, int]
    floor: int


class JournalReading(Struct, frozen=True):
    """All that a snapshot shows of the journal of some tables. `doubt` says why it can't be used, for all of them."""

    doubt: str | None
    installed: InstalledJournal | None = None
    tables: TableTriggers | None = None
    writes: Writes | None = None

    def facts_of(self, table: TableName, part: Part) -> JournalFacts:
        """Return the facts of a part."""
        if self.installed is None or self.tables is None or self.writes is None:
            return JournalFacts(doubt=self.doubt)
        above = self.tables.above(int(part.id))
        doubt = self.doubt or self._table_doubt(table, above)
        if doubt is not None:
            return JournalFacts(doubt=doubt)
        buckets = [self.writes.newest[oid] for oid in above if oid in self.writes.newest]
        newest = (max(buckets) + 1) << BUCKET_SHIFT if buckets else 0
        return JournalFacts(sha256_of(self._stamped(above)), newest, self.writes.floor)

    def _table_doubt(self, table: TableName, above: Sequence[int]) -> str | None:
        assert self.installed is not None and self.tables is not None
        if self.tables.subscribed & set(above):
            return f"{table.label} belongs to a logical subscription, which writes without firing a trigger"
        for oid in above:
            on_it = {one.name: one for one in self.tables.triggers.get(oid, ())}
            for name, events in ON_A_TABLE.items():
                if name not in on_it or not on_it[name].fires(events, self.installed.record):
                    return f"the journal of {table.label} is not on: floodmark journal enable {quote(table.label)}"
        return None

    def _stamped(self, above: Sequence[int]) -> list[Any]:
        assert self.installed is not None and self.tables is not None
        return [self.installed.facts(), [self.tables.facts(oid) for oid in (*self.installed.own, *above)]]


def with_journal(connection: Connection, database: int, tables: Sequence[PgTable]) -> list[PgTable]:
    """Return the tables. Each part that a journal could prove unchanged has the facts of its journal."""
    oids = sorted({int(part.id) for table in tables for part in table.info.parts if _uses_journal(table, part)})
    if not oids:
        return list(tables)
    reading = _read_journal(connection, database, oids)
    return [_with_facts(table, reading) if table.journal else table for table in tables]


def _uses_journal(table: PgTable, part: Part) -> bool:
    return table.journal and part.no_proof is None


def _with_facts(table: PgTable, reading: JournalReading) -> PgTable:
    parts = (
        replace(part, journal=reading.facts_of(table.info.table, part)) if _uses_journal(table, part) else part
        for part in table.info.parts
    )
    return replace(table, info=replace(table.info, parts=tuple(parts)))


def _read_journal(connection: Connection, database: int, parts: list[int]) -> JournalReading:
    installed = read_installed(connection)
    doubt = installed.doubt()
    if doubt is not None:
        return JournalReading(doubt)
    tables = _read_tables(connection, installed, parts)
    doubt = installed.guard_doubt([one for oid in installed.own for one in tables.triggers.get(oid, ())])
    if doubt is not None:
        return JournalReading(doubt)
    every = sorted({oid for part in parts for oid in tables.above(part)})
    try:
        writes = _read_writes(connection, database, installed, every)
    except _UnusableError as error:
        return JournalReading(str(error))
    return JournalReading(None, installed, tables, writes)


def _read_tables(connection: Connection, installed: InstalledJournal, parts: list[int]) -> TableTriggers:
    parents = _grouped(Ancestor(*row) for row in connection.execute(_ANCESTORS, {"oids": parts}, prepare=False))
    every = {*parts, *installed.own, *(place.parent for places in parents.values() for place in places)}
    asked = {"oids": sorted(every), "own": installed.own, "names": list(ON_A_TABLE)}
    triggers = _grouped(JournalTrigger(*row) for row in connection.execute(_TRIGGERS, asked, prepare=False))
    columns = dict(connection.execute(_COLUMNS, asked, prepare=False).fetchall())
    subscribed = frozenset(oid for (oid,) in connection.execute(_SUBSCRIBED, asked, prepare=False))
    return TableTriggers(parents, triggers, columns, subscribed)


def _grouped(found: Iterable[_Row]) -> dict[int, list[_Row]]:
    """Return rows by the relation that they belong to."""
    groups: dict[int, list[_Row]] = {}
    for one in found:
        groups.setdefault(one.child if isinstance(one, Ancestor) else one.relation, []).append(one)
    return groups


class _UnusableError(Exception):
    """The journal's rows can't be read, and the reason."""


def _read_writes(connection: Connection, database: int, installed: InstalledJournal, every: list[int]) -> Writes:
    """Read the journal's rows. Raises _UnusableError.

    The tables have names, and a name can lead to another table by now. So the locks must show that these are the tables
    of the snapshot, and their files must be the snapshot's. Then the locks are released.
    """
    journal, floor = installed.own
    connection.execute("SAVEPOINT journal; SET LOCAL lock_timeout = '1s'")
    try:
        rows = connection.execute(_NEWEST, {"oids": every}, prepare=False).fetchall()
        before = _require_own(connection, database, journal, frozenset())
        lowest = connection.execute(_LOWEST, prepare=False).fetchall()
        _require_own(connection, database, floor, before)
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise _UnusableError(f"the journal could not be read ({type(error).__name__})") from None
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK TO SAVEPOINT journal; RELEASE SAVEPOINT journal")
    if len(lowest) != 1:
        raise _UnusableError(f"the journal's floor is missing: {REINSTALL}")
    if int(lowest[0][0]) == ENDLESS:
        raise _UnusableError("rows of the journal were deleted by hand: floodmark journal trim")
    return Writes({oid: bucket for oid, bucket in rows if bucket is not None}, int(lowest[0][0]))


def _require_own(connection: Connection, database: int, root: int, before: frozenset[int]) -> frozenset[int]:
    """Require that the last statement read this table of the journal, as the snapshot means it, and no other."""
    found = [LockedRelation(*row) for row in connection.execute(locked_relations(root, database), prepare=False)]
    if replaced_because(ExpectedReads(root), oids(found), before) is not None or any(one.rewritten for one in found):
        raise _UnusableError("the journal's tables were replaced or rewritten while they were read")
    return oids(found)
