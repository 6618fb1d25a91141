"""Integers beyond 64 bits inside json and jsonb, for receivers that refuse them. A sample of each table is read.

Types say nothing about such values, and reading every row would take as long as a run. The server compares the values
and answers with yes or no, so no value leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from floodmark.config import Settings
from floodmark.doctor.finding import Finding, unknown, warning
from floodmark.doctor.server import ServerConnection
from floodmark.errors import SourceError
from floodmark.observed import TableInfo
from floodmark.source.quoting import qualified, quoted
from floodmark.wording import plural

CHECK = "landing: json"
# Per table. A sample this small takes milliseconds, even if the values are large.
SAMPLE_ROWS = 1000
_MOST_TABLES = 100
_SHOWN = 10
_TYPES = ("json", "jsonb")
_LARGE = "'strict $.** ? (@.type() == \"number\" && (@ > 9223372036854775807 || @ < -9223372036854775808))'::jsonpath"
_FIX = "Set numbers: quote-large to send them as strings, or mask or exclude the column (tables.rules.*.columns)."


def check_json_numbers(settings: Settings, tables: Sequence[TableInfo]) -> Iterator[Finding]:
    """Yield a finding about the json columns of the tables, none if there are no such columns. Raises SourceError."""
    holding = [(table, names) for table in tables if table.denied is None and (names := _json_columns(table))]
    if not holding:
        return
    asked = ServerConnection(settings)
    try:
        large: list[str] = []
        unread = max(0, len(holding) - _MOST_TABLES)
        for table, columns in holding[:_MOST_TABLES]:
            found = _large_columns(asked, table, columns)
            unread += found is None
            large += [f"{table.table.label}.{column}" for column in found or ()]
    finally:
        asked.close()
    yield judged_json(large, sum(len(columns) for _, columns in holding), unread)


def judged_json(large: Sequence[str], columns: int, unread: int) -> Finding:
    """Judge the samples. `large` are the columns that hold such an integer, `unread` counts tables. Pure."""
    if large:
        names = ", ".join(large[:_SHOWN]) + (f" and {len(large) - _SHOWN} more" if len(large) > _SHOWN else "")
        return warning(CHECK, f"{names}: integers beyond 64 bits, for which the receiver refuses the whole file", _FIX)
    seen = f"a sample of {plural(columns, 'column')} of json holds no integer beyond 64 bits; other rows can"
    return unknown(CHECK, f"{seen} ({plural(unread, 'table')} could not be sampled)" if unread else seen, _FIX)


def _json_columns(table: TableInfo) -> list[str]:
    return [column.name for column in table.columns if column.plain_type in _TYPES]


def _large_columns(asked: ServerConnection, table: TableInfo, columns: Sequence[str]) -> list[str] | None:
    """Return the columns with such an integer in the sample, or None if the sample can't be read."""
    names = ", ".join(map(quoted, columns))
    tests = ", ".join(f"coalesce(bool_or(jsonb_path_exists({quoted(one)}::jsonb, {_LARGE})), false)" for one in columns)
    try:
        row = asked.row(f"SELECT {tests} FROM (SELECT {names} FROM {qualified(table.table)} LIMIT {SAMPLE_ROWS}) s")
    except SourceError:  # such as a json value that jsonb can't hold
        return None
    return [column for column, found in zip(columns, row, strict=True) if found]
