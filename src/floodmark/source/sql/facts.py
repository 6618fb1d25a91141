"""The facts about a table that a dialect reads from the catalog, and the table with the user's choices applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy.sql import ColumnElement

from floodmark.config import Limits, Mask, Secret
from floodmark.config.settings import DEFAULT_CHUNK_BYTES
from floodmark.model import Format, TableName
from floodmark.observed import TableInfo
from floodmark.source.keys import DeclaredKey

# Turns a value that the driver gives, never None, into one that has a form in JSON.
Maker = Callable[[Any], Any]


class SqlOptions(Struct, frozen=True):
    """The settings that a source needs."""

    url: Secret
    limits: Limits = Limits()
    mask_key: Secret | None = None
    row_format: Format = "jsonl"
    chunk_bytes: int = DEFAULT_CHUNK_BYTES


class SqlRelation(Struct, frozen=True):
    """A relation of the catalog. `kind`, `what` and `noun` are words for it: `view`, "a view", "view".

    `by` says which patterns can pick it, as in `CandidateRelation`. `note` is the dialect's own.
    """

    table: TableName
    kind: str = "table"
    by: Literal["any", "schema", "exact", "never"] = "any"
    what: str = "a table"
    noun: str = "table"
    note: Any = None


class SqlColumn(Struct, frozen=True):
    """A column. `type` is the database's own name for its type, `note` the dialect's own.

    A column that is not `listed` is never extracted, but a filter can use it. `distinct` says that different values
    of a key are different in the lines too.
    """

    name: str
    type: str
    nullable: bool = True
    listed: bool = True
    note: Any = None
    distinct: bool = True
    comment: str | None = None


class KeyColumn(Struct, frozen=True):
    """A column of the key that orders rows and cuts chunks. No row has NULL in it.

    `integer` says that its values are integers. `collation` is set only if the key's is not the column's own. `note` is
    the dialect's own.
    """

    name: str
    integer: bool = False
    collation: str | None = None
    descending: bool = False
    note: Any = None


class TableFacts(Struct, frozen=True, kw_only=True):
    """The catalog's facts about one table.

    `definition` holds all that shapes its lines, as values that JSON has a form for. `key` is unique. If it is
    `cuttable`, a value comes back from the driver as the database compares it, and a large table is read in ranges.
    Rows that are `ordered` are read in the order of the key, others in a fixed order of their own. `rows` and
    `bytes` are estimates, or None. `stamp` changes with each change of the definition, even if it was undone.
    `no_proof` says why an unchanged chunk can't be told without reading it, None if `digests` tell. `unreadable` says
    why the table can't be read at all. Without `snapshot`, the table has the rows of the time when it is read. `keys`
    are those that the database enforces on all rows that are read. They and `comment` shape no line.
    """

    columns: tuple[SqlColumn, ...] = ()
    definition: Any = None
    key: tuple[KeyColumn, ...] = ()
    cuttable: bool = True
    ordered: bool = True
    rows: int | None = None
    bytes: int | None = None
    oid: int = 0
    stamp: str = ""
    no_proof: str | None = "the database keeps no row versions that Floodmark could compare"
    digests: bool = False
    snapshot: bool = True
    unreadable: str | None = None
    note: Any = None
    keys: tuple[DeclaredKey, ...] = ()
    comment: str | None = None


class LineShape(Struct, frozen=True):
    """The shape of a row's output: a name and a maker for each value, and masks by position. `key` is for `hash`."""

    names: tuple[str, ...]
    makers: tuple[Maker | None, ...]
    masks: tuple[tuple[int, Mask], ...]
    key: Secret | None


class SqlTable(Struct, frozen=True):
    """A selected table: the facts, the chosen columns, the shape of its lines, and the ranges that it is read in.

    `ranges` are conditions on the key that divide all rows, in order. It is empty if the table is read whole.
    `range_rows` are the numbers of rows in them, if they were counted. `row_bytes` is about the size of a row, 0 if it
    was not measured.
    """

    info: TableInfo
    relation: SqlRelation
    facts: TableFacts
    columns: tuple[SqlColumn, ...]
    shape: LineShape
    where: str | None
    ranges: tuple[ColumnElement[bool], ...] = ()
    range_rows: tuple[int, ...] = ()
    row_bytes: int = 0
