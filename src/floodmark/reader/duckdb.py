"""Arrow streams into DuckDB, with the right types and errors. `load.duckdb` is the target of `load`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from string import ascii_lowercase, ascii_uppercase
from typing import Any
from uuid import uuid4

from floodmark.errors import ConfigError
from floodmark.model import TableName
from floodmark.reader import extras
from floodmark.reader.arrow import BatchStream
from floodmark.reader.types import ColumnType

# Arrow's mark for a column of strings that is JSON: https://arrow.apache.org/docs/format/CanonicalExtensions.html
_JSON = {"ARROW:extension:name": "arrow.json", "ARROW:extension:metadata": ""}
_FOLDED = str.maketrans(ascii_uppercase, ascii_lowercase)
# Names that resolve without a schema on a connection: temporary tables first, then those of its current schema.
_IN_SIGHT = """
SELECT table_name FROM duckdb_tables() WHERE temporary
    OR (database_name = current_database() AND schema_name = current_schema())
UNION ALL SELECT view_name FROM duckdb_views() WHERE temporary
    OR (database_name = current_database() AND schema_name = current_schema())"""


def relation(
    connection: Any, table: TableName, name: str | None, stream: BatchStream, types: Sequence[ColumnType]
) -> Any:
    """Create a temporary table with all rows of an Arrow stream and return it as a relation.

    It replaces and hides nothing. Without `name` it gets the table's own name, or that name with a number if it is
    taken. Raises ConfigError if `name` is taken or DuckDB can't have the columns, and whatever the stream raised.
    """
    require_columns(table, stream.reader.schema.names)
    free = _free_name(connection, table.name) if name is None else _require_free(connection, name)
    insert(connection, f"CREATE TEMP TABLE {quoted(free)} AS", stream, types)
    return connection.table(f"temp.main.{quoted(free)}")


def require_columns(table: TableName, columns: Sequence[str], hint: str | None = None) -> None:
    """Raise ConfigError for columns that no DuckDB table can have."""
    what, on = "can't load a table into DuckDB", table.label
    if not columns:
        raise ConfigError(what, on=on, why="the table has no columns", hint=hint)
    if len(set(map(folded_name, columns))) < len(columns):
        raise ConfigError(what, on=on, why="two columns differ only in case", hint=hint)


def folded_name(name: str) -> str:
    """Fold a name as DuckDB compares names: A to Z equal a to z, and every other letter stays as it is."""
    return name.translate(_FOLDED)


def quoted(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def insert(connection: Any, into: str, stream: BatchStream, types: Sequence[ColumnType]) -> None:
    """Insert all rows of a stream with DuckDB. An error of the stream is raised unchanged."""
    incoming = f"_floodmark_incoming_{uuid4().hex}"
    connection.register(incoming, _with_json(stream.reader, types))
    try:
        columns = [_cast(field.name, kind) for field, kind in zip(stream.reader.schema, types, strict=True)]
        execute(connection, f"{into} SELECT {', '.join(columns)} FROM {incoming}")
    except extras.duckdb().Error:
        if stream.failure is not None:
            raise stream.failure from None
        raise
    finally:
        connection.unregister(incoming)


def execute(connection: Any, statement: str, values: Sequence[Any] = ()) -> None:
    """Execute in another thread. DuckDB blocks its calling thread until the end, and signals would wait for that."""
    with ThreadPoolExecutor(1, "floodmark-duckdb") as pool:
        done = pool.submit(connection.execute, statement, list(values))
        try:
            done.result()
        except BaseException:
            if not done.done():  # this thread was interrupted
                connection.interrupt()
            raise


def _with_json(reader: Any, types: Sequence[ColumnType]) -> Any:
    """Return the same batches with json columns marked as DuckDB's JSON. A cast would refuse half a surrogate pair.

    The text is known to be JSON, because it was parsed as a part of a line.
    """
    fields = [
        field.with_metadata(_JSON) if kind.kind == "json" else field
        for field, kind in zip(reader.schema, types, strict=True)
    ]
    pa = extras.pyarrow()
    return pa.RecordBatchReader.from_batches(pa.schema(fields), reader)


def _cast(name: str, kind: ColumnType) -> str:
    """Return the column's SQL, with a cast for the types that Arrow does not deliver as DuckDB's own."""
    column = quoted(name)
    return f"{column}::{kind.duckdb} AS {column}" if kind.kind in ("time", "uuid") else column


def _in_sight(connection: Any) -> set[str]:
    return {folded_name(name) for (name,) in connection.execute(_IN_SIGHT).fetchall()}


def _free_name(connection: Any, name: str) -> str:
    taken = _in_sight(connection)
    return next(one for one in chain([name], (f"{name}_{n}" for n in count(2))) if folded_name(one) not in taken)


def _require_free(connection: Any, name: str) -> str:
    if folded_name(name) in _in_sight(connection):
        raise ConfigError(
            "can't make a DuckDB relation of this name",
            on=name,
            why="the connection has a table or view of this name",
            hint="Drop it, or give another name. Without a name, a free one is chosen.",
        )
    return name
