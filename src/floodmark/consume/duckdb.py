"""Arrow streams into DuckDB, with the types and the errors they should have. The target of `load` is `duckdb_file`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from floodmark.consume import extras
from floodmark.consume.arrow import Stream
from floodmark.consume.types import ColumnType

_INCOMING = "_floodmark_incoming"


def relation(connection: Any, name: str, stream: Stream, types: Sequence[ColumnType]) -> Any:
    """A temporary table on a connection with all rows of an Arrow stream, as a relation.

    Raises what the stream raised; a table of that name stays as it was then.
    """
    insert(connection, f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS", stream, types)
    return connection.table(f"temp.{quoted(name)}")


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def insert(connection: Any, into: str, stream: Stream, types: Sequence[ColumnType]) -> None:
    """Let DuckDB take all of a stream. What the stream raises comes out as it was raised."""
    connection.register(_INCOMING, stream.reader)
    try:
        columns = [_cast(field.name, kind) for field, kind in zip(stream.reader.schema, types, strict=True)]
        _execute(connection, f"{into} SELECT {', '.join(columns)} FROM {_INCOMING}")
    except extras.duckdb().Error:
        if stream.failure is not None:
            raise stream.failure from None
        raise
    finally:
        connection.unregister(_INCOMING)


def _execute(connection: Any, statement: str) -> None:
    """Execute in another thread: DuckDB does not give this one back before its end, and signals would wait for that."""
    with ThreadPoolExecutor(1, "floodmark-duckdb") as pool:
        done = pool.submit(connection.execute, statement)
        try:
            done.result()
        except BaseException:
            if not done.done():  # this thread was interrupted
                connection.interrupt()
            raise


def _cast(name: str, kind: ColumnType) -> str:
    """Arrow brings everything but these in DuckDB's own type."""
    column = quoted(name)
    return f"{column}::{kind.duckdb} AS {column}" if kind.kind in ("time", "uuid", "json") else column
