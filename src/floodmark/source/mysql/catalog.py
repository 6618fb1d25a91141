"""The catalog: which relations there are, and the facts about each of them.

All of it comes from information_schema, with one question per view of it for the whole database: a question per table
would take as long as reading a small table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Connection

from floodmark.model import TableName
from floodmark.source.keys import DeclaredKey
from floodmark.source.mysql.columns import CUTTING, GEOMETRIES, INTEGERS, MyColumn, quoted
from floodmark.source.mysql.keys import PART_ORDER, declared_keys, key_parts, unique_parts, usable_keys
from floodmark.source.mysql.privileges import read_denials
from floodmark.source.mysql.refusals import number_of
from floodmark.source.sql.facts import KeyColumn, SqlColumn, SqlRelation, TableFacts

_LOCKED = 1205
_UNKNOWN_COLUMN = 1054
_JSON_CHECK = re.compile(r"json_valid\(`((?:[^`]|``)+)`\)")
_JSON_IN_STATEMENT = re.compile(r" CHECK \(json_valid\(`((?:[^`]|``)+)`\)\)")
_NAMES_AND_KINDS = "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
_NAMES = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
_TRANSACTIONAL = frozenset({"InnoDB"})
# Types whose values can be different where their texts are not.
_INEXACT = GEOMETRIES | {"float", "double"}
# TABLE_TYPE: kind, and the words of SqlRelation.
_KINDS: dict[str, tuple[str, Literal["any", "exact"], str, str]] = {
    "BASE TABLE": ("table", "any", "a table", "table"),
    "SYSTEM VERSIONED": ("table", "any", "a table", "table"),
    "VIEW": ("view", "exact", "a view", "view"),
    "SYSTEM VIEW": ("view", "exact", "a view of the server", "view"),
    "SEQUENCE": ("sequence", "exact", "a sequence", "sequence"),
}
# Types whose digest was not tried on MySQL.
UNTRIED_ON_MYSQL = GEOMETRIES | {"vector"}


class MyTable(Struct, frozen=True):
    """A relation in information_schema. `rows` and `bytes` are estimates, None for a view.

    `denied` says why the role may not read all of it.
    """

    kind: str
    engine: str | None
    rows: int | None
    bytes: int | None
    columns: tuple[SqlColumn, ...]
    keys: tuple[tuple[str, tuple[Any, ...]], ...]
    view: str | None
    is_locked: bool = False
    denied: str | None = None
    declared: tuple[DeclaredKey, ...] = ()
    comment: str | None = None

    @property
    def is_view(self) -> bool:
        return self.kind in ("VIEW", "SYSTEM VIEW")

    @property
    def transactional(self) -> bool:
        """Return True if a snapshot shows its rows."""
        return self.engine in _TRANSACTIONAL


class IncompleteCatalog(Exception):
    """An answer of information_schema that leaves out a table which the server could not open."""


def read_relations(connection: Connection, database: str) -> list[SqlRelation]:
    """Return the tables and views of a database, each with a MyTable as its note.

    Asking for all at once waits for each lock that another session wants on a table below a view. So after a second,
    one is asked for after the other, and one that stays locked has no columns here.
    """
    names = [name for (name,) in connection.exec_driver_sql(_NAMES, (database,)).all()]
    ((patience,),) = connection.exec_driver_sql("SELECT @@lock_wait_timeout").all()
    connection.exec_driver_sql("SET SESSION lock_wait_timeout = 1")
    try:
        return _relations(connection, database)
    except Exception as error:
        if not _is_incomplete(error):
            raise
    finally:
        connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {int(patience)}")
    return [one for name in names for one in _one_relation(connection, database, str(name))]


def _one_relation(connection: Connection, database: str, name: str) -> list[SqlRelation]:
    try:
        return _relations(connection, database, name)
    except Exception as error:
        if not _is_incomplete(error):
            raise
    row = connection.exec_driver_sql(f"{_NAMES_AND_KINDS} AND TABLE_NAME = %s", (database, name)).first()
    if row is None:
        return []
    return [_relation(database, name, MyTable(str(row[1]), None, None, None, (), (), None, is_locked=True))]


def _relations(connection: Connection, database: str, table: str | None = None) -> list[SqlRelation]:
    """Return all relations of a database, or the one of that name."""
    rows = _ask(
        connection,
        "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH, TABLE_COMMENT FROM information_schema.TABLES "
        "WHERE TABLE_SCHEMA = %s AND TABLE_TYPE <> 'TEMPORARY'",
        database,
        table,
    )
    columns, selectable = _columns(connection, database, table)
    rows_of_keys = _ask(connection, unique_parts(connection), database, table, PART_ORDER)
    parts, views = key_parts(rows_of_keys), _views(connection, database, table)
    denials = read_denials(connection, database, [str(row[0]) for row in rows], columns.keys() - selectable)
    return [
        _relation(
            database,
            str(name),
            MyTable(
                str(kind), engine, _number(number), _number(size), tuple(columns[name]),
                usable_keys(parts[name]), views.get(name), denied=denials.get(str(name)),
                declared=declared_keys(parts[name], engine),
                comment=_text(comment or "") or None if engine is not None else None,
            ),
        )
        for name, kind, engine, number, size, comment in rows
    ]  # fmt: skip


def _relation(database: str, name: str, note: MyTable) -> SqlRelation:
    words = _KINDS.get(note.kind, ("table", "exact", f"a {note.kind.lower()}", "table"))
    return SqlRelation(TableName(database, name), *words, note=note)


def _ask(
    connection: Connection, question: str, database: str, table: str | None, order: str = ""
) -> Sequence[Sequence[Any]]:
    """Ask about a database, or about one of its tables. Raises IncompleteCatalog.

    The server leaves a table out that it can't open, because it is locked or invalid, and only warns of that.
    """
    named = "" if table is None else " AND TABLE_NAME = %s"
    values = (database,) if table is None else (database, table)
    rows = connection.exec_driver_sql(f"{question}{named}{order}", values).all()
    ((warnings,),) = connection.exec_driver_sql("SELECT @@warning_count").all()
    if int(warnings):
        raise IncompleteCatalog
    return rows


def _is_incomplete(error: Exception) -> bool:
    return isinstance(error, IncompleteCatalog) or number_of(error) == _LOCKED


def facts_of(relation: SqlRelation, maria: bool) -> TableFacts:
    """Return the facts about one relation."""
    note: MyTable = relation.note
    if note.denied is not None:
        return TableFacts(columns=note.columns, unreadable=note.denied)
    if not note.columns:
        return TableFacts(unreadable=_why_unreadable(note))
    name, key = _cutting_key(note)
    digests = note.transactional and bool(note.keys) and (maria or not _kinds(note.columns) & UNTRIED_ON_MYSQL)
    columns = [[column.name, column.type, column.nullable, column.note] for column in note.columns]
    return TableFacts(
        columns=note.columns,
        definition=[note.kind, note.engine, columns, note.view, key],
        key=key,
        rows=note.rows,
        bytes=note.bytes,
        no_proof=None if digests else _why_not(note),
        digests=digests,
        snapshot=note.transactional or note.is_view,
        note=name,
        keys=note.declared,
        comment=note.comment,
    )


def _why_unreadable(note: MyTable) -> str:
    if note.is_locked:
        return "its definition is invalid, or another session, such as a migration, keeps it locked"
    return "the role sees none of its columns"


def _kinds(columns: Iterable[SqlColumn]) -> set[str]:
    return {column.note.data_type for column in columns}


def _why_not(note: MyTable) -> str:
    if note.is_view:
        return "it is a view"
    if not note.transactional:
        return f"its engine {note.engine} shows no snapshot, only the present rows"
    return "it has no primary key or other key without NULL"


def _columns(
    connection: Connection, database: str, table: str | None
) -> tuple[Mapping[str, list[SqlColumn]], Set[str]]:
    """Return the columns that the role can see, and the names of the tables from which it may select one."""
    json_columns = _json_columns(connection, database, table)
    rows = _ask(
        connection,
        "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME, "
        "GENERATION_EXPRESSION, PRIVILEGES, COLUMN_COMMENT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s",
        database,
        table,
        " ORDER BY TABLE_NAME, ORDINAL_POSITION",
    )
    found: dict[str, list[SqlColumn]] = defaultdict(list)
    selectable = set()
    for of, name, kind, declared, nullable, charset, collation, generated, rights, comment in rows:
        kind, declared = str(kind).lower(), _text(declared)
        is_json = kind == "json" or (kind == "longtext" and (of, name) in json_columns)
        note = MyColumn(kind, declared, charset, collation, is_json, _text(generated or ""))
        found[of].append(
            SqlColumn(
                str(name), "json" if is_json else declared, nullable == "YES", note=note,
                distinct=kind not in _INEXACT, comment=_text(comment or "") or None,
            )
        )  # fmt: skip
        if "select" in _text(rights).split(","):
            selectable.add(of)
    return found, selectable


def _json_columns(connection: Connection, database: str, table: str | None) -> set[tuple[str, str]]:
    """Return MariaDB's json columns: each is a longtext with a check of its own. MySQL has a type instead.

    The view of all checks opens every table, whichever one is asked for. So one table's come from its statement.
    """
    if table is not None:
        return {(table, name) for name in _json_columns_of(connection, database, table)}
    question = "SELECT TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = %s"
    try:
        rows = _ask(connection, question, database, None)
    except Exception as error:
        if number_of(error) != _UNKNOWN_COLUMN:
            raise
        return set()  # MySQL's view names no table
    clauses = [(of, _JSON_CHECK.fullmatch(_text(clause))) for of, clause in rows]
    return {(of, match[1].replace("``", "`")) for of, match in clauses if match is not None}


def _json_columns_of(connection: Connection, database: str, table: str) -> set[str]:
    ((longtexts,),) = connection.exec_driver_sql(
        "SELECT COUNT(*) FROM information_schema.COLUMNS "
        "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND DATA_TYPE = 'longtext' AND VERSION() LIKE '%%MariaDB%%'",
        (database, table),
    ).all()
    if not longtexts:
        return set()
    name = f"{quoted(database)}.{quoted(table)}".replace("%", "%%")
    made = connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()
    return {match.replace("``", "`") for match in _JSON_IN_STATEMENT.findall(_text(made[1]))}


def _views(connection: Connection, database: str, table: str | None) -> Mapping[str, str]:
    question = "SELECT TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = %s"
    rows = _ask(connection, question, database, table)
    return {str(name): _text(definition or "") for name, definition in rows}


def _cutting_key(note: MyTable) -> tuple[str | None, tuple[KeyColumn, ...]]:
    """Return the first key that can cut the table, with its name, if a snapshot shows the table's rows.

    The role must see its columns, and their values must compare as Floodmark gets them and sends them back.
    """
    kinds = {column.name: column.note.data_type for column in note.columns}
    for name, columns in note.keys if note.transactional else ():
        if all(kinds.get(column) in CUTTING for column, _ in columns):
            return name, tuple(
                KeyColumn(column, integer=kinds[column] in INTEGERS, descending=descending)
                for column, descending in columns
            )
    return None, ()


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
