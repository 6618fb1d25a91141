"""The journal of writes, as a snapshot shows it: its objects, the triggers on each table, and the newest write.

docs/change-detection.md holds the proof. This module reads the facts, in a fixed number of queries, and only for tables
with `detect: journal`. `pipeline.detect` decides. Whatever is not just as `floodmark journal` made it is a doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from msgspec.structs import replace

from floodmark.model import JournalFacts, Part, TableName
from floodmark.source.postgres.fingerprint import sha256_of
from floodmark.source.postgres.identity import ExpectedReads, LockedRelation, oids, replaced_because
from floodmark.source.postgres.journal_names import (
    BUCKET_SHIFT,
    GUARD_FUNCTION,
    RECORD_FUNCTION,
    SCHEMA,
    TRUNCATE_TRIGGER,
    WRITE_TRIGGER,
)
from floodmark.source.postgres.statements import PgTable, locked_relations

# The functions that Floodmark installs, by a digest of all that they do. Others might record nothing.
KNOWN_FUNCTIONS = {
    RECORD_FUNCTION: frozenset({"5e59f3dcd90587ed02778fb12d4825eef05331634d199a1c66ff98642f512174"}),
    GUARD_FUNCTION: frozenset({"c7f61849a76f9c6014ea99cd824e59688bf71ec4f3c47b590d9a77f99b7be341"}),
}
# They write rows without the executor, so no trigger sees it.
_UNSEEN_WRITERS = ("bdr", "pg_bulkload", "pg_surgery", "pglogical", "spock")
_JOURNAL, _FLOOR = "journal", "journal_floor"
_REINSTALL = "`floodmark journal remove` and `install` make it new"
Connection = psycopg.Connection[Any]
# tgtype: 1 is for each row, 2 before, 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE, 64 INSTEAD OF.
_BEFORE = 2
_ON_A_TABLE = {WRITE_TRIGGER: 4 + 8 + 16, TRUNCATE_TRIGGER: 32}
_ON_THE_JOURNAL = {"guard_delete": 8, "guard_update": 16 + 32}

_OBJECTS = f"""
SELECT c.oid::bigint, c.relname::text, n.oid::bigint, c.relkind::text, c.relpersistence::text, c.relfilenode::bigint,
       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid)
       OR EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)),
       row_security_active(c.oid), has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
       n.xmin::text, c.xmin::text, coalesce(y.xmin, c.xmin)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_type y ON y.oid = c.reltype
WHERE n.nspname = '{SCHEMA}' AND c.relname IN ('{_JOURNAL}', '{_FLOOR}') ORDER BY c.relname"""
_FUNCTIONS = f"""
SELECT p.oid::bigint, p.proname::text, p.xmin::text, l.lanname::text, p.prosrc, p.prosecdef, p.provolatile::text,
       p.prokind::text, p.proconfig::text
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = '{SCHEMA}' AND p.pronargs = 0 AND p.proname IN ('{RECORD_FUNCTION}', '{GUARD_FUNCTION}')
ORDER BY p.proname"""
# Subscriptions that came and went leave no row, but the server counts the rows that were inserted for them.
_SERVER = """
SELECT current_user::text, ARRAY(SELECT extname::text FROM pg_extension WHERE extname = ANY(%s) ORDER BY extname),
       pg_stat_get_tuples_inserted('pg_catalog.pg_subscription_rel'::regclass)"""
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
SELECT r.oid::bigint, (SELECT max(j.bucket) FROM ONLY {SCHEMA}.{_JOURNAL} j WHERE j.relation = r.oid)
FROM unnest(%(oids)s::oid[]) AS r (oid)"""
_LOWEST = f"SELECT floor::text FROM ONLY {SCHEMA}.{_FLOOR}"


class JournalRelation(Struct, frozen=True, array_like=True):
    """A table of the journal. `shaped` says that rules or inheritance change what a statement on it does.

    `may_read` is None if the table is gone by now.
    """

    oid: int
    name: str
    schema: int
    kind: str
    persistence: str
    file: int
    shaped: bool
    hides_rows: bool
    may_read: bool | None
    schema_xmin: str
    own_xmin: str
    name_xmin: str


class JournalFunction(Struct, frozen=True, array_like=True):
    """A function of the journal."""

    oid: int
    name: str
    xmin: str
    language: str
    body: str
    definer: bool
    volatility: str
    kind: str
    settings: str | None

    @property
    def digest(self) -> str:
        """Return a digest of all that the function does."""
        return sha256_of([self.language, self.body, self.definer, self.volatility, self.kind, self.settings])


class JournalTrigger(Struct, frozen=True, array_like=True):
    """A trigger on a table of the journal, or the journal's on another table. `plain`: no condition and no argument."""

    relation: int
    name: str
    oid: int
    function: int
    type: int
    enabled: str
    plain: bool
    xmin: str

    def fires(self, events: int, function: int) -> bool:
        """Return True if it calls the function once for every statement of these kinds, in any session."""
        return self.plain and self.enabled == "A" and self.type & ~_BEFORE == events and self.function == function


class Ancestor(Struct, frozen=True, array_like=True):
    """A table's place under a parent: a partitioned table, or one that it inherits from."""

    child: int
    parent: int
    pending: bool
    xmin: str


_Row = TypeVar("_Row", Ancestor, JournalTrigger)


class InstalledJournal(Struct, frozen=True):
    """The journal's own objects in a snapshot."""

    relations: tuple[JournalRelation, ...]
    functions: tuple[JournalFunction, ...]
    role: str
    unseen_writers: Sequence[str]
    subscribed_ever: int

    @property
    def own(self) -> list[int]:
        return [one.oid for one in self.relations]

    @property
    def record(self) -> int:
        """Return the oid of the function that records a write."""
        return next((one.oid for one in self.functions if one.name == RECORD_FUNCTION), 0)

    @property
    def guard(self) -> int:
        return next((one.oid for one in self.functions if one.name == GUARD_FUNCTION), 0)

    def doubt(self) -> str | None:
        """Return why the journal can prove nothing, or None."""
        if [one.name for one in self.relations] != [_JOURNAL, _FLOOR]:
            return "the journal is not installed: floodmark journal install"
        if any(one.may_read is False for one in self.relations):
            return f"the role may not read the journal: floodmark journal install --grant-to {self.role}"
        if any(one.hides_rows for one in self.relations):
            return "row-level security hides the journal's rows from the role"
        if any(one.shaped or (one.kind, one.persistence) != ("r", "p") for one in self.relations):
            return f"the journal's tables are not as Floodmark made them: {_REINSTALL}"
        known = [one.name for one in self.functions if one.digest in KNOWN_FUNCTIONS[one.name]]
        if known != [GUARD_FUNCTION, RECORD_FUNCTION]:
            return "another version of Floodmark made the journal, or its functions were replaced: " + _REINSTALL
        if self.unseen_writers:
            return f"extension {self.unseen_writers[0]} can write without firing a trigger"
        return None

    def facts(self) -> list[Any]:
        functions = [(one.oid, one.xmin, one.digest) for one in self.functions]
        return [self.relations, functions, self.subscribed_ever]


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
            for name, events in _ON_A_TABLE.items():
                if name not in on_it or not on_it[name].fires(events, self.installed.record):
                    return f"the journal of {table.label} is not on: floodmark journal enable {table.label}"
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
    installed = _read_installed(connection)
    doubt = installed.doubt()
    if doubt is not None:
        return JournalReading(doubt)
    tables = _read_tables(connection, installed, parts)
    doubt = _guard_doubt(installed, tables)
    if doubt is not None:
        return JournalReading(doubt)
    every = sorted({oid for part in parts for oid in tables.above(part)})
    try:
        writes = _read_writes(connection, database, installed, every)
    except _UnusableError as error:
        return JournalReading(str(error))
    return JournalReading(None, installed, tables, writes)


def _read_installed(connection: Connection) -> InstalledJournal:
    relations = connection.execute(_OBJECTS, prepare=False).fetchall()
    functions = connection.execute(_FUNCTIONS, prepare=False).fetchall()
    ((role, writers, subscribed),) = connection.execute(_SERVER, [list(_UNSEEN_WRITERS)], prepare=False).fetchall()
    return InstalledJournal(
        tuple(JournalRelation(*row) for row in relations),
        tuple(JournalFunction(*row) for row in functions),
        role,
        writers,
        subscribed,
    )


def _read_tables(connection: Connection, installed: InstalledJournal, parts: list[int]) -> TableTriggers:
    parents = _grouped(Ancestor(*row) for row in connection.execute(_ANCESTORS, {"oids": parts}, prepare=False))
    every = {*parts, *installed.own, *(place.parent for places in parents.values() for place in places)}
    asked = {"oids": sorted(every), "own": installed.own, "names": list(_ON_A_TABLE)}
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


def _guard_doubt(installed: InstalledJournal, tables: TableTriggers) -> str | None:
    """Return a doubt unless just Floodmark's own triggers are on the journal, which notice rows that are deleted."""
    on_it = [one for oid in installed.own for one in tables.triggers.get(oid, ())]
    guarding = {one.name for one in on_it if one.fires(_ON_THE_JOURNAL.get(one.name, 0), installed.guard)}
    if guarding != _ON_THE_JOURNAL.keys() or len(on_it) != len(guarding):
        return f"the triggers on the journal's own tables are not Floodmark's: {_REINSTALL}"
    return None


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
        raise _UnusableError(f"the journal's floor is missing: {_REINSTALL}")
    return Writes({oid: bucket for oid, bucket in rows if bucket is not None}, int(lowest[0][0]))


def _require_own(connection: Connection, database: int, root: int, before: frozenset[int]) -> frozenset[int]:
    """Require that the last statement read this table of the journal, as the snapshot means it, and no other."""
    found = [LockedRelation(*row) for row in connection.execute(locked_relations(root, database), prepare=False)]
    if replaced_because(ExpectedReads(root), oids(found), before) is not None or any(one.rewritten for one in found):
        raise _UnusableError("the journal's tables were replaced or rewritten while they were read")
    return oids(found)
