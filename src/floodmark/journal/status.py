"""The state of the journal: its revision and rows, the tables with the journal on, and what is wrong with each."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from floodmark.journal.catalog import JournalCatalog, read_catalog, read_installation
from floodmark.journal.connection import JournalConnection
from floodmark.journal.plan import Family, TriggerFault, TriggerState
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.journal_names import ENDLESS, REVISION, SCHEMA

_STATUS = "can't read the journal"
_PRESENT = f"SELECT to_regclass('{SCHEMA}.journal') IS NOT NULL, to_regclass('{SCHEMA}.journal_floor') IS NOT NULL"
_FLOOR = f"SELECT floor::text::bigint FROM {SCHEMA}.journal_floor"
_ROWS = f"SELECT count(*), pg_total_relation_size('{SCHEMA}.journal') FROM {SCHEMA}.journal"


class FaultView(Struct, frozen=True, kw_only=True):
    """A trigger that is missing, disabled, not always enabled, or changed."""

    schema: str
    name: str
    trigger: str
    state: TriggerState


class JournalTableView(Struct, frozen=True, kw_only=True):
    """A table with the journal on. `relations` counts the table, its ancestors and its partitions.

    `state` is incomplete if a trigger has a fault, or if a subscription writes to one of the relations.
    """

    schema: str
    name: str
    state: Literal["on", "incomplete"]
    relations: int
    faults: tuple[FaultView, ...]
    subscribed: bool = False


class JournalDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark journal status`.

    `revision` is null if the journal is not installed, and then so are the others. `expected` is the revision that this
    version of Floodmark installs. `floor` is a transaction id, null if nothing can be proven before the next trim.
    `faults` are those of the journal itself.
    """

    revision: str | None
    expected: str = REVISION
    rows: int | None = None
    bytes: int | None = None
    floor: int | None = None
    faults: tuple[str, ...] = ()
    tables: tuple[JournalTableView, ...] = ()


def read_status(where: ServerAddress) -> JournalDocument:
    """Return the state of the journal. Raises SourceError."""
    with JournalConnection(where) as connection, connection.transaction(_STATUS, read_only=True):
        found = read_installation(connection)
        if found.revision is None:
            return JournalDocument(revision=None)
        has_rows, has_floor = connection.row(_PRESENT)
        floor = connection.rows(_FLOOR) if has_floor else []
        rows, size = connection.row(_ROWS) if has_rows else (None, None)
        tables = table_views(read_catalog(connection))
    faults = found.faults if floor or not has_floor else (*found.faults, f"{SCHEMA}.journal_floor has no row")
    lowest = floor[0][0] if floor and floor[0][0] != ENDLESS else None
    return JournalDocument(revision=found.revision, rows=rows, bytes=size, floor=lowest, faults=faults, tables=tables)


def table_views(catalog: JournalCatalog) -> tuple[JournalTableView, ...]:
    """Return each table with the journal on, by name."""
    family = Family(catalog)
    return tuple(_view(catalog, family, oid) for oid in family.watched())


def _view(catalog: JournalCatalog, family: Family, oid: int) -> JournalTableView:
    table, members, faults = catalog.relations[oid].table, family.members(oid), family.faults(oid)
    subscribed = any(one.subscribed for one in members)
    return JournalTableView(
        schema=table.schema,
        name=table.name,
        state="incomplete" if faults or subscribed else "on",
        relations=len(members),
        faults=tuple(_fault(one) for one in faults),
        subscribed=subscribed,
    )


def _fault(one: TriggerFault) -> FaultView:
    table = one.relation.table
    return FaultView(schema=table.schema, name=table.name, trigger=one.trigger, state=one.state)
