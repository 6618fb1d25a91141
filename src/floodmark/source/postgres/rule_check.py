"""The check of a table's rule by the server: it plans the statement that will read the table, and reads no row.

A statement can also fail because the definition changed since the snapshot. So a refused statement is planned again
without the rule. Only if the server accepts that, the rule is at fault. Otherwise the extraction finds the cause.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import NoReturn

import psycopg
from msgspec.structs import replace

from floodmark.errors import ConfigError
from floodmark.model import Format
from floodmark.source.postgres.statements import PgTable, explain_reading, unmasked_columns
from floodmark.source.postgres.transactions import Connection
from floodmark.source.selection import exact_pattern

_NAME = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")'
# The parts of a filter that a message can repeat. A literal is not one of them: it could be what a row holds.
_SHOWABLE = re.compile(rf"{_NAME}(?:\.{_NAME})*|[-+*/<>=~!@#%^&|?]+|[(),.]")
_LAST_NAME = re.compile(rf"{_NAME}\Z")
_COLUMNS = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
_MISSING_COLUMN = "42703"
_NO_FIT = "a literal in it does not fit the type that it is compared with"
_WHY = {
    "22007": _NO_FIT,
    "22008": _NO_FIT,
    "22P02": _NO_FIT,
    "42501": "the role may not use a function or a table in it",
    "42601": "it is not a valid SQL condition",
    "42702": "a name in it is ambiguous",
    "42703": "a column in it does not exist",
    "42704": "a type or a name in it does not exist",
    "42803": "it uses an aggregate function",
    "42804": "it is not a condition, or its types do not fit",
    "42883": "it uses a function or an operator that does not exist for these types",
    "42P01": "it uses a table that does not exist, or that is not its own",
}


def require_usable(connection: Connection, table: PgTable, row_format: Format) -> None:
    """Raise ConfigError if the server refuses the filter or a mask of a table. Raises psycopg.Error if it is gone."""
    plain = unmasked_columns(table.info)
    if table.info.denied is not None or (table.where is None and table.columns_sql == plain):
        return
    error = _refusal(connection, table, row_format)
    if error is None:
        return
    unfiltered = replace(table, where=None)
    if table.where is not None and _refusal(connection, unfiltered, row_format) is None:
        _refuse_filter(connection, table, table.where, error, row_format)
    if table.columns_sql != plain and _refusal(connection, replace(unfiltered, columns_sql=plain), row_format) is None:
        why = f"the server refuses a mask (SQLSTATE {error.sqlstate})"
        raise ConfigError("can't use a table rule", on=_key(table, "columns.mask"), why=why)


def _refusal(connection: Connection, table: PgTable, row_format: Format) -> psycopg.Error | None:
    """Return the error with which the server refuses to plan the reading of a table, or None. Keeps no lock."""
    connection.execute("SAVEPOINT rule; SET LOCAL lock_timeout = '1s'")
    try:
        connection.execute(explain_reading(table, row_format))
    except psycopg.errors.LockNotAvailable:
        return None  # it is locked at the moment, so the extraction finds out
    except psycopg.Error as error:
        if connection.closed:
            raise
        return error
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK TO SAVEPOINT rule; RELEASE SAVEPOINT rule")
    return None


def _refuse_filter(
    connection: Connection, table: PgTable, where: str, error: psycopg.Error, row_format: Format
) -> NoReturn:
    why, hint = _WHY.get(error.sqlstate or "", "the server refuses it"), "Write one SQL condition on its own columns."
    word = _word_at_fault(where, explain_reading(table, row_format), error.diag.statement_position)
    if word is not None and error.sqlstate == _MISSING_COLUMN:
        why = f"the table has no column {word}"
        columns = [name for (name,) in connection.execute(_COLUMNS, [table.info.oid])]
        close = get_close_matches(_unquoted(word), columns, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else hint
    elif word is not None:
        why = f"{why}, at {word}"
    why = f"{why} (SQLSTATE {error.sqlstate})"
    raise ConfigError("can't use a table rule", on=_key(table, "where"), why=why, hint=hint)


def _word_at_fault(where: str, statement: str, position: str | None) -> str | None:
    """Return the name or the operator to which the server's error points, or None for a literal or another place."""
    at = int(position or 0) - 2 - statement.rfind(f"({where}\n)")
    found = _SHOWABLE.match(where, at) if 0 <= at < len(where) else None
    return None if found is None else found[0]


def _unquoted(name: str) -> str:
    """Return the last part of a qualified name, as the catalog has it."""
    match = _LAST_NAME.search(name)
    last = name if match is None else match[0]
    return last[1:-1].replace('""', '"') if last.startswith('"') else last.lower()


def _key(table: PgTable, key: str) -> str:
    return f"tables.rules.{exact_pattern(table.info.table)}.{key}"
