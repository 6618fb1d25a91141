"""The check of a table's rule by the server: it prepares the query that will read the table, and does not plan it.

To plan a query, the server runs functions in it whose arguments are constants. To prepare it, the server only looks up
all names and types.

A query can also fail because the definition changed since the snapshot. So a refused query is prepared again without
the rule. Only if the server accepts that, the rule is at fault. Otherwise the extraction finds the cause.
"""

from __future__ import annotations

import re
from typing import NoReturn

import psycopg
from msgspec.structs import replace

from floodmark.errors import ConfigError
from floodmark.model import Format
from floodmark.source.missing import missing_column
from floodmark.source.postgres.coordinator import Connection
from floodmark.source.postgres.statements import PgTable, read_query, unmasked_columns
from floodmark.source.selection import exact_pattern

_NAME = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")'
# The parts of a filter that a message can repeat. A literal is not one of them: it could be what a row holds.
_SHOWABLE = re.compile(rf"{_NAME}(?:\.{_NAME})*|[-+*/<>=~!@#%^&|?]+|[(),.]")
_NAMES = re.compile(_NAME)
_TEXT = r"[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'"  # the configuration allows neither a comment nor dollar quoting
_TEXT_OR_CALL = re.compile(rf"{_TEXT}|(?P<call>{_NAME}(?:\s*\.\s*{_NAME})*)\s*\(|{_NAME}", re.DOTALL)
_LAST_NAME = re.compile(rf"{_NAME}\Z")
_COLUMNS = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
_SCHEMA = "pg_catalog"  # the only one in the search_path
_MAY_CALL = """
    SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE'))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = %s AND n.nspname = %s"""
_PREPARE = "PREPARE floodmark_rule AS "
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
        _require_permitted(connection, table)
        return
    unfiltered = replace(table, where=None)
    if table.where is not None and _refusal(connection, unfiltered, row_format) is None:
        _refuse_filter(connection, table, table.where, error, row_format)
    if table.columns_sql != plain and _refusal(connection, replace(unfiltered, columns_sql=plain), row_format) is None:
        why = f"the server refuses a mask (SQLSTATE {error.sqlstate})"
        raise ConfigError("can't use a table rule", on=_key(table, "columns.mask"), why=why)


def _refusal(connection: Connection, table: PgTable, row_format: Format) -> psycopg.Error | None:
    """Return the error with which the server refuses to prepare the reading of a table, or None. Keeps no lock."""
    connection.execute("SAVEPOINT rule; SET LOCAL lock_timeout = '1s'")
    try:
        connection.execute(f"{_PREPARE}{read_query(table, row_format)}")
        connection.execute("DEALLOCATE floodmark_rule")
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


def _require_permitted(connection: Connection, table: PgTable) -> None:
    """Raise ConfigError if the filter calls a function that the role may not use, whatever its arguments are.

    The server checks this when it runs the query.
    """
    calls = [found["call"] for found in _TEXT_OR_CALL.finditer(table.where or "") if found["call"]]
    for call in calls:
        *schema, name = map(_unquoted, _NAMES.findall(call))
        ((may,),) = connection.execute(_MAY_CALL, [name, schema[-1] if schema else _SCHEMA], prepare=False)
        if may is False:
            why = f"{_WHY['42501']}, at {call} (SQLSTATE 42501)"
            hint = "Grant EXECUTE on the function to the role, or leave it out of the condition."
            raise ConfigError("can't use a table rule", on=_key(table, "where"), why=why, hint=hint)


def _refuse_filter(
    connection: Connection, table: PgTable, where: str, error: psycopg.Error, row_format: Format
) -> NoReturn:
    why, hint = _WHY.get(error.sqlstate or "", "the server refuses it"), "Write one SQL condition on its own columns."
    word = _word_at_fault(where, _PREPARE + read_query(table, row_format), error.diag.statement_position)
    if word is not None and error.sqlstate == _MISSING_COLUMN:
        columns = [name for (name,) in connection.execute(_COLUMNS, [table.info.oid])]
        why, hint = missing_column(word, _unquoted(word), columns)
    elif word is not None and '"' not in word:
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
