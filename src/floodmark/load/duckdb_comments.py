"""Comments in a DuckDB file. The comment on a loaded table is the source's, and a line with Floodmark's mark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from floodmark.load.comments import column_comments
from floodmark.reader.duckdb import folded_name, quoted
from floodmark.reader.reader import Table

_COLUMNS = """
SELECT schema_name, table_name, list(coalesce(comment, '') ORDER BY column_index) FROM duckdb_columns()
WHERE database_name = current_database() AND NOT internal GROUP BY ALL"""


def column_comments_in(connection: Any) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the comments on the columns of each table, by the table's folded name."""
    rows = connection.execute(_COLUMNS).fetchall()
    return {(folded_name(schema), folded_name(name)): tuple(texts) for schema, name, texts in rows}


def with_mark(comment: str, mark: str) -> str:
    return f"{_clean(comment)}\n{mark}" if comment else mark


def has_mark(held: str | None, mark: str) -> bool:
    """Return True if a table's comment is Floodmark's: any text of the source's, and the mark."""
    return held is not None and (held == mark or held.endswith(f"\n{mark}"))


def is_marked(held: str | None, beginning: str) -> bool:
    """Return True if the last line of a table's comment is a mark that begins like this."""
    return held is not None and held.rpartition("\n")[2].startswith(beginning)


def comment_statements(qualified: str, table: Table, whole: str, *, clear: bool) -> Iterator[str]:
    """Yield the statements that set all comments of a table, and `clear` old ones. `whole` is the table's own."""
    yield f"COMMENT ON TABLE {qualified} IS {_literal(whole)}"
    for column, text in zip(table.columns, column_comments(table), strict=True):
        if text or clear:
            yield f"COMMENT ON COLUMN {qualified}.{quoted(column.name)} IS {_literal(text) if text else 'NULL'}"


def _clean(text: str) -> str:
    """Return a text without the character that ends a statement."""
    return text.replace("\0", "")


def _literal(text: str) -> str:
    return "'" + _clean(text).replace("'", "''") + "'"
