"""Connections to a DuckDB file, with limits of memory and threads that fit the width of a table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from floodmark.errors import ConfigError
from floodmark.load.duckdb_errors import DuckDBErrors
from floodmark.reader import extras
from floodmark.reader.duckdb import quoted

_MAGIC = slice(8, 12)
# DuckDB holds one row group per thread in memory before it writes it: 122,880 rows by default, all columns at once. A
# table with more columns than this gets fewer rows per group. Ordinary tables would grow by a third or more that way.
_WIDE, _VALUES_IN_ROW_GROUP, _VECTOR = 100, 2_048_000, 2048
_WIDE_NAME = "_floodmark_target"


def connect_file(path: Path, memory: str, row_group: int, errors: DuckDBErrors, *, read_only: bool) -> tuple[Any, str]:
    """Open a file with row groups of this many rows, or 0 for DuckDB's default.

    Returns the connection and the quoted name of the file's catalog.
    """
    duckdb = extras.duckdb()
    config = {
        "memory_limit": memory,
        "threads": min(4, os.cpu_count() or 1) if row_group != _VECTOR else 1,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        full_path = str(path.absolute())  # else DuckDB reads what precedes a colon as a database type
        if row_group:  # only ATTACH has this option
            config["temp_directory"] = f"{full_path}.tmp"
            connection = duckdb.connect(config=config)
            literal = full_path.replace("'", "''")
            connection.execute(f"ATTACH '{literal}' AS {_WIDE_NAME} (ROW_GROUP_SIZE {row_group})")
            connection.execute(f"USE {_WIDE_NAME}")
        else:
            connection = duckdb.connect(full_path, read_only=read_only, config=config)
        connection.execute("SET TimeZone = 'UTC'")  # else a moment as text depends on the machine
        return connection, quoted(connection.execute("SELECT current_database()").fetchone()[0])
    except duckdb.Error as error:
        raise errors.not_opened(error) from None


def require_duckdb(path: Path) -> None:
    """Check the file's first bytes. DuckDB itself would fetch an extension to open another type of file."""
    try:
        with path.open("rb") as file:
            start = file.read(_MAGIC.stop)
    except OSError as error:
        raise ConfigError("can't read the DuckDB file", on=str(path), why=error.strerror) from None
    if start[_MAGIC] != b"DUCK":
        raise ConfigError(
            "can't open the DuckDB file",
            on=str(path),
            why="it is not a DuckDB file",
            hint="Name a DuckDB file, or a file that does not exist yet.",
        )


def row_group_rows(columns: int) -> int:
    """Return the number of rows per row group for this many columns, or 0 for DuckDB's default."""
    return max(_VALUES_IN_ROW_GROUP // columns // _VECTOR, 1) * _VECTOR if columns > _WIDE else 0
