"""The catalog by SQLAlchemy's Inspector, for databases that Floodmark does not know better."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, inspect, types
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import CompileError, SAWarning, SQLAlchemyError, UnsupportedCompilationError

from floodmark.model import TableName
from floodmark.source.keys import DeclaredKey
from floodmark.source.sql.facts import KeyColumn, SqlColumn, SqlRelation, TableFacts

SYSTEM_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "pg_toast", "sys", "mysql", "performance_schema", "crdb_internal"}
)
# Types whose values compare in the database as Floodmark gets them and sends them back.
_KEY_TYPES = (
    types.Integer,
    types.Numeric,
    types.String,
    types.Uuid,
    types.Date,
    types.DateTime,
    types.LargeBinary,
)
# Types whose values a driver gives without loss: not times, which Python holds with fewer digits.
_DISTINCT = (types.Integer, types.Numeric, types.String, types.Uuid, types.Date, types.LargeBinary, types.Boolean)
_NO_KEY_TYPES = (types.Float, types.Text, types.Enum)


def reflected_relations(connection: Connection, skip: Collection[str] = SYSTEM_SCHEMAS) -> list[SqlRelation]:
    """Return the tables and views of all schemas except the database's own."""
    inspector = inspect(connection)
    found: list[SqlRelation] = []
    for schema in inspector.get_schema_names():
        if schema.lower() not in skip:
            found += relations_of(inspector, schema)
    return found


def relations_of(inspector: Inspector, schema: str) -> Iterator[SqlRelation]:
    for name in inspector.get_table_names(schema):
        yield SqlRelation(TableName(schema, name))
    for name in inspector.get_view_names(schema):
        yield SqlRelation(TableName(schema, name), "view", "exact", "a view", "view")
    try:
        materialized = inspector.get_materialized_view_names(schema)
    except NotImplementedError:
        materialized = []
    for name in materialized:
        yield SqlRelation(
            TableName(schema, name), "materialized view", "exact", "a materialized view", "materialized view"
        )


def reflected_facts(connection: Connection, relation: SqlRelation) -> TableFacts:
    """Return a relation's columns and primary key. Its definition is the same."""
    inspector = inspect(connection)
    schema, name = relation.table.schema, relation.table.name
    with warnings.catch_warnings():  # of types that SQLAlchemy does not know: the driver's values are used as they are
        warnings.simplefilter("ignore", SAWarning)
        reflected = inspector.get_columns(name, schema)
    columns = tuple(_column(connection, one) for one in reflected)
    key = tuple((_asked(inspector.get_pk_constraint, relation) or {}).get("constrained_columns", ()))
    ordering = _ordering_key(key, columns)
    definition = [[[one.name, one.type, one.nullable, _collation(one)] for one in columns], key]
    cuttable = all(_compares(one.note) for one in ordering)
    is_table = relation.kind == "table"
    return TableFacts(
        columns=columns,
        definition=definition,
        key=ordering,
        cuttable=cuttable,
        keys=tuple(_declared_keys(inspector, relation, key, columns)) if is_table else (),
        comment=(_asked(inspector.get_table_comment, relation) or {}).get("text") if is_table else None,
    )


def _asked(question: Callable[[str, str], Any], relation: SqlRelation) -> Any:
    """Return an answer of the Inspector, or None if the dialect does not know it."""
    try:
        return question(relation.table.name, relation.table.schema)
    except (NotImplementedError, SQLAlchemyError):
        return None


def _declared_keys(
    inspector: Inspector, relation: SqlRelation, primary: tuple[str, ...], columns: Iterable[SqlColumn]
) -> Iterator[DeclaredKey]:
    nullable = {one.name for one in columns if one.nullable}
    yield DeclaredKey(primary, nullable.isdisjoint(primary))
    for unique in _asked(inspector.get_unique_constraints, relation) or ():
        yield DeclaredKey(tuple(unique["column_names"]))


def _column(connection: Connection, one: Any) -> SqlColumn:
    kind: types.TypeEngine[Any] = one["type"]
    return SqlColumn(
        one["name"],
        type_text(connection, kind),
        bool(one.get("nullable", True)),
        note=kind,
        distinct=isinstance(kind, _DISTINCT) and not isinstance(kind, types.Float),
        comment=one.get("comment"),
    )


def type_text(connection: Connection, kind: types.TypeEngine[Any]) -> str:
    """Return the type as the database spells it, or empty if SQLAlchemy does not know it."""
    try:
        return kind.compile(dialect=connection.dialect)
    except (CompileError, UnsupportedCompilationError):
        return "" if isinstance(kind, types.NullType) else type(kind).__name__


def is_json(kind: Any) -> bool:
    """Return True for a type whose text is JSON. A driver would parse it, and lose digits of its numbers."""
    return isinstance(kind, types.JSON)


def is_interval(kind: Any) -> bool:
    """Return True for a span of time. Python's type for it has no months."""
    if not isinstance(kind, types.TypeEngine):
        return False
    try:
        return kind.python_type is timedelta
    except NotImplementedError:
        return False


def _collation(column: SqlColumn) -> str | None:
    return getattr(column.note, "collation", None)


def _ordering_key(key: Iterable[str], columns: Iterable[SqlColumn]) -> tuple[KeyColumn, ...]:
    """Return the primary key, or nothing if a part of it can be NULL."""
    by_name = {column.name: column for column in columns}
    found = []
    for name in key:
        column = by_name.get(name)
        if column is None or column.nullable:
            return ()
        found.append(KeyColumn(name, integer=isinstance(column.note, types.Integer), note=column.note))
    return tuple(found)


def _compares(kind: types.TypeEngine[Any]) -> bool:
    return isinstance(kind, _KEY_TYPES) and not isinstance(kind, _NO_KEY_TYPES)
