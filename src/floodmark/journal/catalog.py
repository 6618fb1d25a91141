"""The catalog as the journal sees it: relations with their ancestors, the journal's triggers, and the installation."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from floodmark.journal.connection import JournalConnection
from floodmark.model import TableName
from floodmark.source.postgres.journal_names import (
    GUARD_FUNCTION,
    GUARD_TRIGGERS,
    RECORD_FUNCTION,
    SCHEMA,
    TRUNCATE_TRIGGER,
    WRITE_TRIGGER,
)

# pg_trigger.tgtype: BEFORE 2, INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32. Without 1 (ROW) it is a statement trigger.
TRIGGER_TYPES = {WRITE_TRIGGER: 2 + 4 + 8 + 16, TRUNCATE_TRIGGER: 2 + 32}


class JournalRelation(Struct, frozen=True):
    """A relation. `kind` is relkind, `parents` are the relations that it inherits from or is a partition of.

    `owned`: the role can change it. `subscribed`: a logical subscription writes to it.
    """

    oid: int
    table: TableName
    kind: str
    persistence: str
    partition: bool
    owned: bool
    subscribed: bool
    parents: tuple[int, ...] = ()


class JournalTrigger(Struct, frozen=True):
    """A trigger that has the name of one of the journal's, or calls its function.

    `enabled` is tgenabled. `own`: it calls the journal's function for the right statements, without a condition.
    """

    relation: int
    name: str
    enabled: str
    own: bool


class JournalCatalog(Struct, frozen=True):
    """The relations of a database by oid, and the journal's triggers on them."""

    relations: Mapping[int, JournalRelation]
    triggers: tuple[JournalTrigger, ...] = ()


class Installation(Struct, frozen=True):
    """The journal's schema. `revision` is None if the journal is not installed.

    `strangers` are objects in the schema that are not the journal's. `faults` are in the journal itself.
    """

    in_recovery: bool
    schema: bool
    revision: str | None = None
    strangers: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


_RELATIONS = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relispartition,
       pg_has_role(c.relowner, 'USAGE'), EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid),
       ARRAY(SELECT i.inhparent::bigint FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhparent)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT starts_with(n.nspname, 'pg_toast')"""
_TRIGGERS = f"""
SELECT t.tgrelid, t.tgname, t.tgenabled::text, t.tgtype,
       t.tgfoid = coalesce(to_regprocedure('{SCHEMA}.{RECORD_FUNCTION}()'), 0)
       AND t.tgqual IS NULL AND t.tgnargs = 0 AND t.tgattr = ''::int2vector
FROM pg_trigger t
WHERE NOT t.tgisinternal AND (t.tgname IN ('{WRITE_TRIGGER}', '{TRUNCATE_TRIGGER}')
      OR t.tgfoid = to_regprocedure('{SCHEMA}.{RECORD_FUNCTION}()'))
ORDER BY t.tgrelid, t.tgname"""
_SCHEMA = f"SELECT pg_is_in_recovery(), to_regnamespace('{SCHEMA}') IS NOT NULL"
_HAS_VERSION = f"SELECT to_regclass('{SCHEMA}.alembic_version') IS NOT NULL"
_REVISION = f"SELECT version_num FROM {SCHEMA}.alembic_version"
# Each object that directly lies in the schema. A table brings its types, indexes and triggers.
_OBJECTS = f"""
SELECT o.type, o.identity
FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o
WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = to_regnamespace('{SCHEMA}') AND d.deptype = 'n'
ORDER BY 1, 2"""
_OWN_OBJECTS = frozenset(
    {
        *(("table", f"{SCHEMA}.{name}") for name in ("alembic_version", "journal", "journal_floor", "journal_moment")),
        *(("function", f"{SCHEMA}.{name}()") for name in (RECORD_FUNCTION, GUARD_FUNCTION)),
        ("function", f"{SCHEMA}.trim_journal(interval)"),
        ("function", f"{SCHEMA}.trim_journal(pg_catalog.interval)"),
    }
)
# The journal's other objects: `_faults` tells if its table is missing.
_REQUIRED = tuple(
    f"{SCHEMA}.{name}" for name in ("journal_floor", "journal_moment", RECORD_FUNCTION, GUARD_FUNCTION, "trim_journal")
)
_GUARDS = f"""
SELECT t.tgname FROM pg_trigger t
WHERE t.tgrelid = to_regclass('{SCHEMA}.journal') AND t.tgenabled = 'A'
  AND t.tgfoid = to_regprocedure('{SCHEMA}.{GUARD_FUNCTION}()')"""
_JOURNAL = f"SELECT relpersistence = 'p' FROM pg_class WHERE oid = to_regclass('{SCHEMA}.journal')"


def read_catalog(connection: JournalConnection) -> JournalCatalog:
    """Return the relations and triggers that can be seen now."""
    relations = {
        oid: JournalRelation(oid, TableName(schema, name), kind, persistence, partition, owned, subscribed, tuple(up))
        for oid, schema, name, kind, persistence, partition, owned, subscribed, up in connection.rows(_RELATIONS)
    }
    triggers = (
        JournalTrigger(relation, name, enabled, own and TRIGGER_TYPES.get(name) == kind)
        for relation, name, enabled, kind, own in connection.rows(_TRIGGERS)
    )
    return JournalCatalog(relations, tuple(triggers))


def read_installation(connection: JournalConnection) -> Installation:
    """Return the state of the journal's schema."""
    in_recovery, schema = connection.row(_SCHEMA)
    if not schema:
        return Installation(in_recovery, schema)
    found = [(kind, identity) for kind, identity in connection.rows(_OBJECTS)]
    strangers = tuple(f"{kind} {identity}" for kind, identity in found if (kind, identity) not in _OWN_OBJECTS)
    (versioned,) = connection.row(_HAS_VERSION)
    revisions = [row[0] for row in connection.rows(_REVISION)] if versioned else []
    if not revisions:
        return Installation(in_recovery, schema, None, strangers)
    there = {identity.partition("(")[0] for _, identity in found}
    missing = [f"{name} is missing" for name in _REQUIRED if name not in there]
    return Installation(in_recovery, schema, revisions[0], strangers, (*_faults(connection), *missing))


def _faults(connection: JournalConnection) -> list[str]:
    """Return what is wrong with the journal's own table: nothing can be proven from it until that is repaired."""
    guards = {name for (name,) in connection.rows(_GUARDS)}
    faults = [
        f"the trigger {name} of {SCHEMA}.journal is missing or disabled"
        for name in GUARD_TRIGGERS
        if name not in guards
    ]
    if connection.rows(_JOURNAL) != [(True,)]:
        faults.append(f"{SCHEMA}.journal is missing or unlogged")
    return faults
