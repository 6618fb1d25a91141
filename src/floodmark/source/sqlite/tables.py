"""The content of a database file: its tables and views, their columns, and the statement that reads each."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from floodmark.config import Mask, Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.model import Column, Fingerprint, Part, TableInfo, TableName
from floodmark.source.base import NamedRelation
from floodmark.source.masks import mask_identity
from floodmark.source.missing import missing_column
from floodmark.source.quoting import qualified, quoted
from floodmark.source.selection import (
    CandidateRelation,
    TableChoice,
    choose_tables,
    exact_pattern,
    require_column,
    rules_by_table,
)
from floodmark.source.sqlite.lines import LineShape

SCHEMA = "main"
NO_PROOF = "SQLite keeps no row versions"
# Part of every fingerprint: raise it if the same rows give other lines.
OUTPUT_VERSION = 1
_NO_COLUMN = re.compile(r"no such column: ([\w$.]+).*", re.DOTALL)

_BY: dict[str, tuple[Literal["any", "exact"], str, str]] = {
    "table": ("any", "a table", "table"),
    "view": ("exact", "a view", "view"),
    "virtual": ("exact", "a virtual table", "virtual table"),
    "shadow": ("exact", "a part of a virtual table", "shadow table"),
}


class SQLiteRelation(Struct, frozen=True):
    """A table or view of the file. `kind` is the one of PRAGMA table_list."""

    table: TableName
    kind: str
    without_rowid: bool


class SQLiteAttribute(Struct, frozen=True, array_like=True):
    """A row of PRAGMA table_xinfo. `hidden` is 1 for a column that `SELECT *` of a virtual table leaves out."""

    number: int
    name: str
    type: str
    not_null: int
    default: str | None
    key: int
    hidden: int


class SQLiteTable(Struct, frozen=True):
    """A table with the facts that a read needs. `statement` is empty if the table is denied."""

    info: TableInfo
    statement: str
    shape: LineShape
    where: str | None


def read_relations(connection: sqlite3.Connection) -> list[SQLiteRelation]:
    """Return every table and view except SQLite's own.

    This is the first read of a transaction: it fixes what the transaction shows.
    """
    connection.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()
    rows = connection.execute("PRAGMA main.table_list").fetchall()
    return [
        SQLiteRelation(TableName(SCHEMA, name), kind, bool(without_rowid))
        for _, name, kind, _, without_rowid, _ in rows
        if not name.lower().startswith("sqlite_")
    ]


def read_tables(
    connection: sqlite3.Connection, relations: Sequence[SQLiteRelation], selection: Selection, encoding_digest: str
) -> tuple[TableChoice, list[SQLiteTable]]:
    """Return the choice, and the selected tables, ordered by name.

    Raises ConfigError for a pattern that selects nothing, a rule without its table or column, and a hash mask without a
    key.
    """
    candidates = [CandidateRelation(relation.table, *_BY[relation.kind]) for relation in relations]
    rules = rules_by_table(candidates, selection, SCHEMA)
    by_name = {relation.table: relation for relation in relations}
    choice = choose_tables(candidates, selection, SCHEMA)
    return choice, [
        _read_table(connection, by_name[table], rules.get(table, TableRule()), selection, encoding_digest)
        for table in choice.tables
    ]


def named_relation(relation: SQLiteRelation) -> NamedRelation:
    by, what, _ = _BY[relation.kind]
    return NamedRelation("table" if by == "any" else "other", what)


def _read_table(
    connection: sqlite3.Connection,
    relation: SQLiteRelation,
    rule: TableRule,
    selection: Selection,
    encoding_digest: str,
) -> SQLiteTable:
    try:
        attributes = _read_attributes(connection, relation.table)
        order = _order_clause(connection, relation, attributes)
    except sqlite3.Error as error:
        return _unreadable_table(relation, getattr(error, "sqlite_errorname", type(error).__name__))
    chosen = _chosen_attributes(relation.table, attributes, rule)
    masks = {name: mask for name, mask in rule.columns.mask.items() if name in {a.name for a in chosen}}
    if selection.mask_key is None and "hash" in masks.values():
        raise ConfigError(
            "can't use a hash mask", why="it needs a key", on=f"tables.rules: {exact_pattern(relation.table)}"
        )
    key = selection.mask_key if "hash" in masks.values() else None
    shape = LineShape(
        tuple(a.name for a in chosen), tuple((i, masks[a.name]) for i, a in enumerate(chosen) if a.name in masks), key
    )
    config = [OUTPUT_VERSION, shape.names, shape.masks, rule.where, key and mask_identity(key), encoding_digest]
    fingerprint = Fingerprint(_digest([sqlite3.sqlite_version, relation, attributes]), _digest(config))
    columns = tuple(_model_column(a, masks.get(a.name)) for a in chosen)
    info = _table_info(relation, columns, fingerprint, None)
    statement = _select_statement(relation.table, chosen, rule.where, order)
    if rule.where is not None:
        unfiltered = _select_statement(relation.table, chosen, None, order)
        _require_usable_filter(connection, relation.table, statement, unfiltered, [a.name for a in attributes])
    return SQLiteTable(info, statement, shape, rule.where)


def _require_usable_filter(
    connection: sqlite3.Connection, table: TableName, statement: str, unfiltered: str, columns: Sequence[str]
) -> None:
    """Raise ConfigError if SQLite can't compile the statement because of its filter. No row is read."""
    error = _compile_error(connection, statement)
    if error is None or _compile_error(connection, unfiltered) is not None:
        return
    missing = _NO_COLUMN.fullmatch(str(error))
    why, hint = "SQLite refuses it", "Write one SQL condition on its own columns."
    if missing is not None:
        why, hint = missing_column(missing[1], missing[1].rpartition(".")[2], columns)
    code = getattr(error, "sqlite_errorname", type(error).__name__)
    on = f"tables.rules.{exact_pattern(table)}.where"
    raise ConfigError("can't use a table rule", on=on, why=f"{why} ({code})", hint=hint)


def _compile_error(connection: sqlite3.Connection, statement: str) -> sqlite3.Error | None:
    try:
        connection.execute(f"EXPLAIN {statement}").close()
    except sqlite3.Error as error:
        return error
    return None


def _unreadable_table(relation: SQLiteRelation, code: str) -> SQLiteTable:
    """Return the entry for a view of a missing table, or for a virtual table whose module this SQLite lacks."""
    why = f"its definition can't be read ({code})"
    info = _table_info(relation, (), Fingerprint(_digest(why), ""), why)
    return SQLiteTable(info, "", LineShape((), (), None), None)


def _table_info(
    relation: SQLiteRelation, columns: tuple[Column, ...], fingerprint: Fingerprint, denied: str | None
) -> TableInfo:
    part = Part(
        id=relation.table.name,
        table=relation.table,
        relfilenode=0,
        heap_blocks=0,
        total_bytes=0,
        by_block=False,
        no_proof=NO_PROOF,
    )
    return TableInfo(
        table=relation.table,
        oid=0,
        kind={"virtual": "virtual table", "shadow": "table"}.get(relation.kind, relation.kind),
        columns=columns,
        parts=(part,),
        fingerprint=fingerprint,
        denied=denied,
    )


def _read_attributes(connection: sqlite3.Connection, table: TableName) -> list[SQLiteAttribute]:
    rows = connection.execute(f"PRAGMA main.table_xinfo({quoted(table.name)})")
    return [SQLiteAttribute(*row) for row in rows]


def _chosen_attributes(
    table: TableName, attributes: Sequence[SQLiteAttribute], rule: TableRule
) -> list[SQLiteAttribute]:
    """Return the columns a rule leaves, in order. Raises ConfigError for a missing column, or if none is left."""
    present = [a for a in attributes if a.hidden != 1]
    names = [a.name for a in present]
    for key, listed in (("columns.exclude", rule.columns.exclude), ("columns.mask", rule.columns.mask)):
        for name in listed:
            require_column(table, key, name, names)
    left = [a for a in present if a.name not in rule.columns.exclude]
    if not left:
        on, hint = f"tables.rules: {exact_pattern(table)}", "To leave the table out, name it in tables.exclude."
        raise ConfigError("can't use a table rule", on=on, why="it leaves no column", hint=hint)
    return left


def _model_column(attribute: SQLiteAttribute, mask: Mask | None) -> Column:
    nullable = mask == "null" or not attribute.not_null
    return Column(attribute.name, attribute.type if mask is None else "TEXT", nullable)


def _order_clause(
    connection: sqlite3.Connection, relation: SQLiteRelation, attributes: Sequence[SQLiteAttribute]
) -> str:
    """Return the clause that fixes the order of rows, at no cost: the order of the table's own b-tree.

    Without it SQLite might read a covering index instead. A view has the order of its definition.
    """
    if relation.kind in ("view", "virtual"):
        return ""
    if relation.without_rowid:
        return f" ORDER BY {', '.join(_key_terms(connection, relation.table))}"
    taken = {a.name.lower() for a in attributes}
    free = [alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken]
    return f" ORDER BY {free[0]}" if free else ""


def _key_terms(connection: sqlite3.Connection, table: TableName) -> list[str]:
    """Return the primary key's columns with their collation and direction, so that the order needs no sort."""
    indexes = connection.execute(f"PRAGMA main.index_list({quoted(table.name)})").fetchall()
    (index,) = [name for _, name, _, origin, _ in indexes if origin == "pk"]
    rows = connection.execute(f"PRAGMA main.index_xinfo({quoted(index)})").fetchall()
    return [
        f"{quoted(name)} COLLATE {quoted(collation)}{' DESC' if descending else ''}"
        for _, _, name, descending, collation, in_key in rows
        if in_key
    ]


def _select_statement(table: TableName, chosen: Sequence[SQLiteAttribute], where: str | None, order: str) -> str:
    condition = f" WHERE ({where}\n)" if where is not None else ""
    plain = "" if order else " NOT INDEXED"
    return f"SELECT {', '.join(quoted(a.name) for a in chosen)} FROM {qualified(table)}{plain}{condition}{order}"


def _digest(facts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
