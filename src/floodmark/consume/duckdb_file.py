"""Tables in a DuckDB file: each loaded beside the one it replaces, all of them exchanged in one transaction.

What readers of the file see is one run's snapshot, the old one or the new one, whenever a load ends or is ended. What
is loaded is recorded in the schema `_floodmark`, in the same transaction. DuckDB lets one process write to a file at a
time, so two loaders can't meet. No error of DuckDB's is shown: its text may hold a value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floodmark.consume import extras
from floodmark.consume.duckdb import insert, quoted
from floodmark.consume.target import Loaded, Source, Staged
from floodmark.consume.types import ColumnType
from floodmark.errors import ConfigError, Conflict, FloodmarkError, StorageError
from floodmark.model import TableName

FORMAT, VERSION = "floodmark.duckdb", 1
_OWN = "_floodmark"
_NEW = "_floodmark_new_"
_MAGIC = slice(8, 12)
# DuckDB may use so much besides what Python and Arrow need; together they stay within 512 MiB.
_MEMORY = "192MiB"
_CREATE = f"""
CREATE SCHEMA IF NOT EXISTS {_OWN};
CREATE TABLE IF NOT EXISTS {_OWN}.format (
    format VARCHAR, version INTEGER, dialect VARCHAR, database VARCHAR, system_identifier VARCHAR);
CREATE TABLE IF NOT EXISTS {_OWN}.tables (
    "schema" VARCHAR, name VARCHAR, run_id VARCHAR, as_of TIMESTAMPTZ, rows BIGINT, loaded_at TIMESTAMPTZ,
    checksum VARCHAR, shape VARCHAR)"""


class DuckDBFile:
    """A target of `load`. Nothing is written before `prepare`: an unchanged day opens the file for reading alone."""

    def __init__(self, path: Path) -> None:
        self._duckdb = extras.duckdb()
        self._connection: Any = None
        self.url = str(path)
        if path.exists():
            _require_duckdb(path)
            self._connection = self._connected(read_only=True)

    def loaded(self) -> Loaded | None:
        """What the file holds of Floodmark's, None for nothing. Raises ConfigError where a newer one wrote it."""
        if self._connection is None or not self._has_table(TableName(_OWN, "format")):
            return None
        with self._translated("read what was loaded"):
            rows = self._connection.execute(f"SELECT * FROM {_OWN}.format").fetchall()
            if not rows:  # the first load did not come to its end
                return None
            if len(rows) != 1 or rows[0][:2] != (FORMAT, VERSION):
                raise ConfigError(
                    "this file was loaded by another Floodmark",
                    on=self.url,
                    why=f"its {_OWN}.format is not {FORMAT} version {VERSION}",
                    hint="Use the Floodmark that wrote it, or load into another file.",
                )
            tables = self._connection.execute(f'SELECT "schema", name, checksum, shape FROM {_OWN}.tables').fetchall()
        return Loaded(
            Source(*rows[0][2:]), {TableName(schema, name): (checksum, own) for schema, name, checksum, own in tables}
        )

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        return tuple(kind.duckdb for kind in types)

    def stage(self, staged: Staged) -> int:
        """Load a table beside the one it will replace. Raises what its rows' stream raised, StorageError."""
        name = staged.table.name
        self._require_ours(staged)
        with self._translated(f"load {name.label}"):
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(name.schema)}")
            new = f"{quoted(name.schema)}.{quoted(_NEW + name.name)}"
            insert(self._connection, f"CREATE OR REPLACE TABLE {new} AS", staged.stream(infinite=True), staged.types)
        return staged.table.entry.rows or 0

    def publish(self, source: Source, run_id: str, staged: Sequence[Staged], drop: Sequence[TableName]) -> None:
        """Exchange all staged tables, and drop others, in one transaction."""
        with self._translated("exchange the tables"):
            self._connection.execute("BEGIN")
            self._connection.execute(f"DELETE FROM {_OWN}.format")
            self._connection.execute(
                f"INSERT INTO {_OWN}.format VALUES (?, ?, ?, ?, ?)",
                [FORMAT, VERSION, source.dialect, source.database, source.system_identifier],
            )
            for name in (*drop, *(one.table.name for one in staged)):
                self._connection.execute(f"DROP TABLE IF EXISTS {quoted(name.schema)}.{quoted(name.name)}")
                self._connection.execute(f'DELETE FROM {_OWN}.tables WHERE "schema" = ? AND name = ?', [*_key(name)])
            for one in staged:
                self._rename(one, run_id)
            self._connection.execute("COMMIT")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rename(self, staged: Staged, run_id: str) -> None:
        name, entry = staged.table.name, staged.table.entry
        self._connection.execute(
            f"ALTER TABLE {quoted(name.schema)}.{quoted(_NEW + name.name)} RENAME TO {quoted(name.name)}"
        )
        record = [*_key(name), run_id, entry.as_of, entry.rows, datetime.now(UTC), entry.checksum, staged.shape]
        self._connection.execute(f"INSERT INTO {_OWN}.tables VALUES (?, ?, ?, ?, ?, ?, ?, ?)", record)

    def prepare(self) -> None:
        """Open for writing, and clear away what an interrupted load left."""
        self.close()
        self._connection = self._connected(read_only=False)
        with self._translated("prepare the file"):
            self._connection.execute(_CREATE)
        self.abandon()

    def abandon(self) -> None:
        with self._translated("clear away what was not finished"):
            left = self._connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE starts_with(table_name, ?)", [_NEW]
            ).fetchall()
            for schema, name in left:
                self._connection.execute(f"DROP TABLE {quoted(schema)}.{quoted(name)}")

    def _require_ours(self, staged: Staged) -> None:
        """Names differ by more than case in DuckDB; and what Floodmark did not load it does not replace."""
        name = staged.table.name
        lower = [column.name.lower() for column in staged.table.columns]
        if len(set(lower)) < len(lower):
            raise ConfigError(
                "a table can't be loaded into DuckDB", on=name.label, why="two columns differ only in case"
            )
        if not lower:
            raise ConfigError("a table can't be loaded into DuckDB", on=name.label, why="it has no column")
        known = self._connection.execute(
            f'SELECT count(*) FROM {_OWN}.tables WHERE "schema" = ? AND name = ?', [*_key(name)]
        ).fetchone()[0]
        if not known and self._has_table(name):
            raise ConfigError(
                "there is a table or view of this name already",
                on=f"{self.url}: {name.label}",
                why="Floodmark did not load it, and does not replace it (names that differ only in case are one)",
                hint="Rename it, or load into another file.",
            )

    def _has_table(self, name: TableName) -> bool:
        with self._translated("look into the file"):
            found = self._connection.execute(
                "SELECT count(*) FROM information_schema.tables "
                "WHERE lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
                [*_key(name)],
            ).fetchone()
        return bool(found[0])

    def _connected(self, *, read_only: bool) -> Any:
        config = {
            "memory_limit": _MEMORY,
            "threads": min(4, os.cpu_count() or 1),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            return self._duckdb.connect(self.url, read_only=read_only, config=config)
        except self._duckdb.Error as error:
            raise self._not_opened(error) from None

    def _not_opened(self, error: Exception) -> FloodmarkError:
        if "lock" in str(error) or isinstance(error, self._duckdb.ConnectionException):
            return Conflict(
                "the DuckDB file is in use",
                on=self.url,
                why="another process has it open, and DuckDB lets no two in while one writes",
                hint="Close it there (another load, a notebook), and load again.",
            )
        return ConfigError(
            "the DuckDB file can't be opened",
            on=self.url,
            why=f"DuckDB {self._duckdb.__version__} gave {type(error).__name__}",
            hint="Check that its folder exists and can be written, and that no newer DuckDB wrote it.",
        )

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._duckdb.Error as error:
            raise StorageError(f"can't {what}", on=self.url, why=f"DuckDB gave {type(error).__name__}") from None


def _require_duckdb(path: Path) -> None:
    """By its first bytes: DuckDB itself would fetch an extension to open another kind of file."""
    try:
        with path.open("rb") as file:
            start = file.read(_MAGIC.stop)
    except OSError as error:
        raise ConfigError("the DuckDB file can't be read", on=str(path), why=error.strerror) from None
    if start[_MAGIC] != b"DUCK":
        raise ConfigError(
            "this is no DuckDB file",
            on=str(path),
            why="it does not begin as one",
            hint="Name a file that DuckDB made, or one that does not exist yet.",
        )


def _key(name: TableName) -> tuple[str, str]:
    return name.schema, name.name
