"""The statements that every dialect shares, by SQLAlchemy Core. A dialect gives their expressions."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from sqlalchemy import Select, func, literal_column, select
from sqlalchemy.sql import ColumnElement

from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import SqlTable

Condition = ColumnElement[bool] | None


def select_rows(dialect: Dialect, table: SqlTable, condition: Condition = None) -> Select[Any]:
    """Return the statement that gives a table's lines, or those of one of its ranges, in the order of its key."""
    chosen = [dialect.expression(column) for column in table.columns]
    statement = _filtered(dialect, table, select(*chosen), condition)
    return _ordered(dialect, table, statement) if table.facts.ordered else statement


def select_keys(dialect: Dialect, table: SqlTable) -> Select[Any]:
    """Return the statement that gives the keys of all rows, filtered or not, in order."""
    keys = [dialect.key_expression(key) for key in table.facts.key]
    return _ordered(dialect, table, select(*keys).select_from(dialect.from_clause(table.relation, table.facts)))


def select_bounds(dialect: Dialect, table: SqlTable) -> Select[Any]:
    """Return the statement that gives the least and the greatest value of a key of one column."""
    (key,) = [dialect.key_expression(key) for key in table.facts.key]
    whole = dialect.from_clause(table.relation, table.facts)
    return select(func.min(key), func.max(key)).select_from(whole)


def count_rows(dialect: Dialect, table: SqlTable, condition: Condition = None, filtered: bool = True) -> Select[Any]:
    """Return the statement that counts rows: of the table or of a range, with the table's filter or without."""
    counted = table if filtered else replace(table, where=None)
    return _filtered(dialect, counted, select(func.count()), condition)


def _filtered(dialect: Dialect, table: SqlTable, statement: Select[Any], condition: Condition) -> Select[Any]:
    statement = statement.select_from(dialect.from_clause(table.relation, table.facts))
    if condition is not None:
        statement = statement.where(condition)
    if table.where is not None:  # the end of the line ends a comment in it
        statement = statement.where(literal_column(f"({table.where}\n)"))
    return statement


def _ordered(dialect: Dialect, table: SqlTable, statement: Select[Any]) -> Select[Any]:
    keys = [(dialect.key_expression(key), key.descending) for key in table.facts.key]
    return statement.order_by(*(column.desc() if descending else column for column, descending in keys))
