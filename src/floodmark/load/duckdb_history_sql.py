"""The SQL of a history in a DuckDB file: its record, and the next history from the last one and a version's rows.

The rows of a version are compared with the current rows of the history, inside DuckDB. Only the rows that differ are
held, and DuckDB spills what does not fit into its memory. Inside the statements, columns have numbers instead of names,
so no name of a table can collide with another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from msgspec import Struct

from floodmark.errors import ConfigError
from floodmark.load.history import HISTORY_COLUMNS, TakenHistory, merged_columns
from floodmark.load.target import LEAVE_OUT
from floodmark.model import TableName
from floodmark.reader.duckdb import execute, folded_name, quoted

CREATE_HISTORIES = """
CREATE TABLE IF NOT EXISTS {own}.histories (
    "schema" VARCHAR, name VARCHAR, run_id VARCHAR, as_of TIMESTAMPTZ, checksum VARCHAR, shape VARCHAR)"""
_COLUMNS = """
SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database()
    AND schema_name = ? AND table_name = ? ORDER BY column_index"""
_FROM, _TO, _CURRENT = HISTORY_COLUMNS
_TIME = "TIMESTAMP WITH TIME ZONE"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Column(Struct, frozen=True):
    """A column of the next history. `old` and `new` are its names in the history and in the version, if it is there."""

    name: str
    kind: str
    old: str | None
    new: str | None

    def of_old(self) -> str:
        """Return the value in a row `h` of the history."""
        return f"CAST({'NULL' if self.old is None else f'h.{quoted(self.old)}'} AS {self.kind})"

    def of_new(self) -> str:
        """Return the value in a row `v` of the version."""
        return f"CAST({'NULL' if self.new is None else f'v.{quoted(self.new)}'} AS {self.kind})"


def history_comment(table: TableName) -> str:
    """Return the comment that marks a history as Floodmark's."""
    return f"History kept by Floodmark: {table.label}"


def require_history_columns(table: TableName, columns: Sequence[str]) -> None:
    """Raise ConfigError for a table with a column that its history needs itself."""
    taken = [name for name in columns if folded_name(name) in HISTORY_COLUMNS]
    if taken:
        raise ConfigError(
            "can't keep a history",
            on=table.label,
            why=f"it has a column {taken[0]}, which the history needs itself",
            hint=LEAVE_OUT,
        )


def is_history(connection: Any, history: TableName) -> bool:
    """Return true if a table still ends with the columns of a history. A user can add, rename or drop a column."""
    last = [(_FROM, _TIME), (_TO, _TIME), (_CURRENT, "BOOLEAN")]
    return table_columns(connection, history)[-len(last) :] == last


def recorded_histories(connection: Any, own: str) -> dict[TableName, TakenHistory]:
    """Return the record of each history."""
    rows = connection.execute(
        f'SELECT "schema", name, run_id, epoch_us(as_of), checksum, shape FROM {own}.histories'
    ).fetchall()
    return {
        TableName(schema, name): TakenHistory(run_id, _EPOCH + timedelta(microseconds=micros), checksum, shape)
        for schema, name, run_id, micros, checksum, shape in rows
    }


def record_history(connection: Any, own: str, table: TableName, taken: TakenHistory) -> None:
    """Replace the record of a history."""
    connection.execute(f'DELETE FROM {own}.histories WHERE "schema" = ? AND name = ?', [table.schema, table.name])
    values = [table.schema, table.name, taken.run_id, taken.moment, taken.checksum, taken.shape]
    connection.execute(f"INSERT INTO {own}.histories VALUES (?, ?, ?, ?, ?, ?)", values)


def table_columns(connection: Any, table: TableName) -> list[tuple[str, str]]:
    """Return the names and types of a table's columns."""
    return [(name, kind) for name, kind in connection.execute(_COLUMNS, [table.schema, table.name]).fetchall()]


def write_history(
    connection: Any, catalog: str, into: TableName, old: TableName | None, rows: TableName | None, moment: datetime
) -> None:
    """Create the table `into`: the history `old` after a version with these rows. `rows` is None if all are gone.

    One of the two must exist. DuckDB's own errors are raised.
    """
    before = None if old is None else table_columns(connection, old)[: -len(HISTORY_COLUMNS)]
    now = None if rows is None else table_columns(connection, rows)
    create = f"CREATE TABLE {_qualified(catalog, into)} AS"
    at = [moment]
    if old is None or before is None:
        assert rows is not None
        first = f"{create} SELECT *, ?::TIMESTAMPTZ AS {_FROM}, NULL::TIMESTAMPTZ AS {_TO}, true AS {_CURRENT}"
        execute(connection, f"{first} FROM {_qualified(catalog, rows)}", at)
    elif rows is None or now is None:
        closed = f"coalesce({_TO}, ?::TIMESTAMPTZ) AS {_TO}, false AS {_CURRENT}"
        execute(connection, f"{create} SELECT * REPLACE ({closed}) FROM {_qualified(catalog, old)}", at)
    else:
        columns, delta = _merged(before, now), f"temp.main._floodmark_delta_{uuid4().hex}"
        history, version = _qualified(catalog, old), _qualified(catalog, rows)
        try:
            execute(connection, f"CREATE TEMP TABLE {delta} AS {_delta(columns, history, version)}")
            execute(connection, f"{create} {_next_history(columns, history, delta)}", at)
        finally:
            connection.execute(f"DROP TABLE IF EXISTS {delta}")


def _delta(columns: Sequence[_Column], history: str, version: str) -> str:
    """Return the query for the rows that one side has more often. `n` is positive if it is the version."""
    compared = [one for one in columns if one.new is not None]
    numbers = ", ".join(f"c{number}" for number in range(len(compared)))
    news = ", ".join(f"{one.of_new()} AS c{number}" for number, one in enumerate(compared))
    olds = ", ".join(f"{one.of_old()} AS c{number}" for number, one in enumerate(compared))
    return (
        f"SELECT {numbers}, sum(n)::BIGINT AS n FROM (SELECT {news}, 1 AS n FROM {version} v "
        f"UNION ALL SELECT {olds}, -1 AS n FROM {history} h WHERE h.{_CURRENT}) GROUP BY {numbers} HAVING sum(n) <> 0"
    )


def _next_history(columns: Sequence[_Column], history: str, delta: str) -> str:
    """Return the query for the next history. Its only parameter is the moment.

    Of equal current rows, the oldest ones are closed. `valid_from` and `valid_to` of the rows before stay.
    """
    compared = [one for one in columns if one.new is not None]
    same = " AND ".join(f"{one.of_old()} IS NOT DISTINCT FROM d.c{number}" for number, one in enumerate(compared))
    numbers = ", ".join(f"d.c{number}" for number in range(len(compared)))
    kept = ", ".join(f"{one.of_old()} AS {quoted(one.name)}" for one in columns)
    place = {one.name: number for number, one in enumerate(compared)}
    opened = ", ".join(
        f"d.c{place[one.name]}" if one.new is not None else f"CAST(NULL AS {one.kind})" for one in columns
    )
    closing = f"(row_number() OVER (PARTITION BY {numbers} ORDER BY h.{_FROM}) <= -d.n)"
    return (
        f"WITH clock AS (SELECT ?::TIMESTAMPTZ AS moment), gone AS (SELECT * FROM {delta} WHERE n < 0) "
        f"SELECT {kept}, h.{_FROM}, h.{_TO}, false AS {_CURRENT} FROM {history} h WHERE NOT h.{_CURRENT} "
        f"UNION ALL SELECT {kept}, h.{_FROM}, h.{_TO}, true FROM {history} h WHERE h.{_CURRENT} "
        f"AND NOT EXISTS (SELECT 1 FROM gone d WHERE {same}) "
        f"UNION ALL SELECT {kept}, h.{_FROM}, CASE WHEN {closing} THEN clock.moment END, NOT {closing} "
        f"FROM {history} h JOIN gone d ON {same}, clock WHERE h.{_CURRENT} "
        f"UNION ALL SELECT {opened}, clock.moment, NULL, true FROM {delta} d, clock, range(d.n) WHERE d.n > 0"
    )


def _merged(before: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]]) -> list[_Column]:
    """Return the columns of the next history. DuckDB compares names without their case."""
    olds = {folded_name(name): name for name, _ in before}
    news = {folded_name(name): name for name, _ in now}
    folded = [[(folded_name(name), kind) for name, kind in one] for one in (before, now)]
    return [
        _Column(olds.get(name) or news[name], kind, olds.get(name), news.get(name))
        for name, kind in merged_columns(*folded)
    ]


def _qualified(catalog: str, name: TableName) -> str:
    return f"{catalog}.{quoted(name.schema)}.{quoted(name.name)}"
