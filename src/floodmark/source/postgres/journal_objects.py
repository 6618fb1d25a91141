"""The journal's own objects, as a snapshot shows them: its tables, its functions, and the triggers that call them.

Whatever is not just as `floodmark journal` made it is a doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

import psycopg
from msgspec import Struct

from floodmark.source.postgres.fingerprint import sha256_of
from floodmark.source.postgres.journal_names import (
    GUARD_FUNCTION,
    GUARD_TRIGGERS,
    RECORD_FUNCTION,
    SCHEMA,
    TRUNCATE_TRIGGER,
    WRITE_TRIGGER,
)

# The functions that Floodmark installs, by a digest of all that they do. Others might record nothing.
KNOWN_FUNCTIONS = {
    RECORD_FUNCTION: frozenset({"33d9ac2a80e25a4567b6298334238472619bbcb9d7d17394fc1ce3858a20b4da"}),
    GUARD_FUNCTION: frozenset({"c7f61849a76f9c6014ea99cd824e59688bf71ec4f3c47b590d9a77f99b7be341"}),
}
# They write rows without the executor, so no trigger sees it.
_UNSEEN_WRITERS = ("bdr", "pg_bulkload", "pg_surgery", "pglogical", "spock")
_JOURNAL, _FLOOR = "journal", "journal_floor"
REINSTALL = "`floodmark journal remove` and `install` make it new"
Connection = psycopg.Connection[Any]
# tgtype: 1 is for each row, 2 before, 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE, 64 INSTEAD OF.
_BEFORE = 2
ON_A_TABLE = {WRITE_TRIGGER: 4 + 8 + 16, TRUNCATE_TRIGGER: 32}
_ON_THE_JOURNAL = dict(zip(GUARD_TRIGGERS, (8, 16 + 32), strict=True))

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
            return f"the role may not read the journal: floodmark journal install --grant-to {quote(self.role)}"
        if any(one.hides_rows for one in self.relations):
            return "row-level security hides the journal's rows from the role"
        if any(one.shaped or (one.kind, one.persistence) != ("r", "p") for one in self.relations):
            return f"the journal's tables are not as Floodmark made them: {REINSTALL}"
        known = [one.name for one in self.functions if one.digest in KNOWN_FUNCTIONS[one.name]]
        if known != [GUARD_FUNCTION, RECORD_FUNCTION]:
            return "another version of Floodmark made the journal, or its functions were replaced: " + REINSTALL
        if self.unseen_writers:
            return f"extension {self.unseen_writers[0]} can write without firing a trigger"
        return None

    def guard_doubt(self, on_it: Sequence[JournalTrigger]) -> str | None:
        """Return a doubt unless the triggers on the journal are just Floodmark's own, which notice lost rows."""
        guarding = {one.name for one in on_it if one.fires(_ON_THE_JOURNAL.get(one.name, 0), self.guard)}
        if guarding != _ON_THE_JOURNAL.keys() or len(on_it) != len(guarding):
            return f"the triggers on the journal's own tables are not Floodmark's: {REINSTALL}"
        return None

    def facts(self) -> list[Any]:
        """Return what a stamp of the journal covers of its own objects."""
        relations = [
            (one.oid, one.schema, one.file, one.schema_xmin, one.own_xmin, one.name_xmin) for one in self.relations
        ]
        functions = [(one.oid, one.xmin, one.digest) for one in self.functions]
        return [relations, functions, self.subscribed_ever]


def read_installed(connection: Connection) -> InstalledJournal:
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
