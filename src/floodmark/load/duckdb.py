"""Tables in a DuckDB file. Each is loaded next to its predecessor, and one transaction exchanges all of them.

Readers of the file see one run's snapshot, the old or the new one, whenever a load ends or is interrupted. The schema
`_floodmark` records what is loaded, in the same transaction. DuckDB lets only one process write to a file at a time, so
two loaders can't meet. No DuckDB error is shown, because its text can hold a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from floodmark.errors import ConfigError, Conflict, FloodmarkError
from floodmark.load.comments import column_comments, table_comment
from floodmark.load.duckdb_comments import column_comments_in, comment_statements, has_mark, is_marked, with_mark
from floodmark.load.duckdb_connection import connect_file, require_duckdb, row_group_rows
from floodmark.load.duckdb_dependents import dependents
from floodmark.load.duckdb_errors import DuckDBErrors, not_replaceable
from floodmark.load.target import LEAVE_OUT, LoadSource, StagedTable, TargetContent
from floodmark.model import TableName
from floodmark.reader import extras
from floodmark.reader.duckdb import folded_name, insert, quoted, require_columns
from floodmark.reader.types import ColumnType

FORMAT, VERSION = "floodmark.duckdb", 1
_OWN = "_floodmark"
# The memory limit of DuckDB. This excludes what Python and Arrow need. Together they stay within 512 MiB.
MEMORY = "192MiB"
# DuckDB's own schemas, which exist in every file.
_RESERVED = ("information_schema", "pg_catalog")
_CREATE = """
CREATE SCHEMA IF NOT EXISTS {own};
CREATE TABLE IF NOT EXISTS {own}.format (
    format VARCHAR, version INTEGER, dialect VARCHAR, database VARCHAR, system_identifier VARCHAR);
CREATE TABLE IF NOT EXISTS {own}.tables (
    "schema" VARCHAR, name VARCHAR, run_id VARCHAR, as_of TIMESTAMPTZ, rows BIGINT, loaded_at TIMESTAMPTZ,
    checksum VARCHAR, shape VARCHAR);
CREATE TABLE IF NOT EXISTS {own}.staged ("schema" VARCHAR, name VARCHAR)"""
_TABLES = "SELECT schema_name, table_name, comment FROM duckdb_tables() WHERE database_name = current_database()"
_VIEWS = "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = current_database()"


class DuckDBFile:
    """A target of `load`. Nothing is written before `prepare`: if nothing changed, the file is opened read-only."""

    # The names of tables that are not published yet begin so.
    STAGED = "_floodmark_new_"

    def __init__(self, path: Path, memory: str = MEMORY) -> None:
        self._duckdb, self._memory = extras.duckdb(), memory
        extras.pyarrow()  # the rows need it: without it, no table can be loaded
        self._connection: Any = None
        self._catalog, self._row_group = "", 0
        self._ours: dict[tuple[str, str], TableName] = {}
        self._taken: set[tuple[str, str]] = set()
        self._named: dict[tuple[str, str], TableName] = {}
        self._staged: dict[TableName, TableName] = {}
        self._path, self.url = path, str(path)
        self._errors = DuckDBErrors(self.url, memory)
        if path.exists():
            require_duckdb(path)
            self._connection = self._connect(read_only=True)

    def loaded(self, source: LoadSource) -> TargetContent | None:
        """Return what Floodmark loaded into the file, or None. Raises ConfigError if a newer Floodmark wrote it."""
        if self._connection is None:
            return None
        with self._errors.translated("read the loaded tables"):
            if folded_key(TableName(_OWN, "format")) not in self._table_comments():
                return None
            rows = self._connection.execute(f"SELECT * FROM {self._own_schema}.format").fetchall()
            if not rows:  # the first load did not finish
                return None
            if len(rows) != 1 or rows[0][:2] != (FORMAT, VERSION):
                raise ConfigError(
                    "can't load into this file",
                    on=self.url,
                    why=f"another Floodmark wrote it: its {_OWN}.format is not {FORMAT} version {VERSION}",
                    hint="Use the Floodmark that wrote it, or load into another file.",
                )
            return TargetContent(LoadSource(*rows[0][2:]), self._unchanged_tables())

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        return tuple(kind.duckdb for kind in types)

    def prepare(self) -> None:
        """Open the file for writing, remove the remains of an interrupted load, and list what the file holds."""
        self._reopen(0)
        with self._errors.translated("prepare the file"):
            self._connection.execute(_CREATE.format(own=self._own_schema))
            self.abandon()
            held = self._unchanged_tables()
            for name in self._recorded().keys() - held.keys():
                self._delete_record("tables", name)
            self._ours = {folded_key(name): name for name in (*self._marked_tables(), *held)}
            views = self._connection.execute(_VIEWS).fetchall()
            self._taken = {*self._table_comments(), *(folded_key(TableName(*view)) for view in views)}

    def stage(self, staged: StagedTable) -> int:
        """Load a table next to the one it will replace. Raises what its row stream raised, StorageError."""
        name = staged.table.name
        self._require_fit(staged)
        self.require_droppable(name)
        if self._row_group != (rows := row_group_rows(len(staged.types))):
            self._reopen_midway(rows)
        new = self._staged_name(name)
        with self._errors.translated(f"load {name.label}"):
            self._fill(new, staged)
        self._staged[name] = new
        return staged.table.entry.rows or 0

    def require_droppable(self, name: TableName) -> None:
        """Check that nothing depends on a loaded table. A user's foreign key, for example, prevents the drop."""
        ours = self._ours.get(folded_key(name))
        if ours is not None:
            self._require_no_dependents(ours)

    def publish(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Exchange all staged tables, and drop others, in one transaction."""
        with self._errors.translated("replace the tables"):
            self._connection.execute("BEGIN")
            self._connection.execute(f"DELETE FROM {self._own_schema}.format")
            self._connection.execute(
                f"INSERT INTO {self._own_schema}.format VALUES (?, ?, ?, ?, ?)",
                [FORMAT, VERSION, source.dialect, source.database, source.system_identifier],
            )
            for name in drop:
                self._drop(name, of=name)
            for one in staged:
                self._drop(one.table.name)
                self._rename(one, run_id)
            self._publish_histories(staged)
            self._connection.execute("COMMIT")
        return {}

    def outdated_comments(self, tables: Sequence[StagedTable]) -> Sequence[StagedTable]:
        """Return the loaded tables whose comments are others. A comment that Floodmark can't set stays behind."""
        if self._connection is None:
            return ()
        with self._errors.translated("read the comments"):
            held, marks = column_comments_in(self._connection), self._table_comments()
        return [
            one
            for one in tables
            if marks.get(folded_key(one.table.name)) != _whole_comment(one)
            or held.get(folded_key(one.table.name), ()) != column_comments(one.table)
        ]

    def write_comments(self, staged: StagedTable) -> None:
        """Write the comments of a loaded table in one transaction. DuckDB refuses if an index depends on the table."""
        with self._errors.translated(f"comment on {staged.table.label}"):
            self._connection.execute("BEGIN")
            try:
                self._comment(staged, clear=True)
                self._connection.execute("COMMIT")
            except self._duckdb.Error:
                self._connection.execute("ROLLBACK")
                raise

    def _comment(self, staged: StagedTable, *, clear: bool) -> None:
        qualified = self._qualified_name(staged.table.name)
        for statement in comment_statements(qualified, staged.table, _whole_comment(staged), clear=clear):
            self._connection.execute(statement)

    def abandon(self) -> None:
        if self._connection is None:  # another process has the file now; the next load removes what is recorded
            return
        with self._errors.translated("remove an unfinished load"):
            left = self._connection.execute(f"SELECT * FROM {self._own_schema}.staged").fetchall()
            for schema, name in left:
                self._connection.execute(f"DROP TABLE IF EXISTS {self._qualified_name(TableName(schema, name))}")
            self._connection.execute(f"DELETE FROM {self._own_schema}.staged")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _own_schema(self) -> str:
        return f"{self._catalog}.{_OWN}"

    def _qualified_name(self, name: TableName) -> str:
        """Return the qualified SQL name, with the file's own name, which can equal a schema's name."""
        return f"{self._catalog}.{quoted(name.schema)}.{quoted(name.name)}"

    def _table_comments(self) -> dict[tuple[str, str], str | None]:
        """Return every table in the file with its comment."""
        tables = self._connection.execute(_TABLES).fetchall()
        return {folded_key(TableName(schema, name)): comment for schema, name, comment in tables}

    def _unchanged_tables(self) -> dict[TableName, tuple[str, str]]:
        """Return the tables that are unchanged since their load, with checksum and shape.

        Their comment ends with Floodmark's mark.
        """
        marks, recorded = self._table_comments(), self._recorded()
        return {
            name: facts
            for name, facts in recorded.items()
            if has_mark(marks.get(folded_key(name)), _mark(name, *facts))
        }

    def _marked_tables(self) -> list[TableName]:
        """Return the tables whose comment is Floodmark's, recorded or not.

        Release 0.1.0 removes the record of a table with a comment of the source. Such a table is replaced.
        """
        return [
            name
            for schema, table, comment in self._connection.execute(_TABLES).fetchall()
            if is_marked(comment, _mark_of(name := TableName(schema, table)))
        ]

    def _recorded(self) -> dict[TableName, tuple[str, str]]:
        rows = self._connection.execute(
            f'SELECT "schema", name, checksum, shape FROM {self._own_schema}.tables'
        ).fetchall()
        return {TableName(schema, name): (checksum, shape) for schema, name, checksum, shape in rows}

    def _require_fit(self, staged: StagedTable) -> None:
        """Refuse a table whose name differs only by case from another, or whose name an object of the user's has."""
        name = staged.table.name
        require_columns(name, [column.name for column in staged.table.columns], LEAVE_OUT)
        if folded_name(name.schema) in _RESERVED:
            why = "DuckDB reserves this schema"
            raise ConfigError("can't load a table into DuckDB", on=name.label, why=why, hint=LEAVE_OUT)
        ours = self._ours.get(folded_key(name))
        holder = ours if ours in staged.snapshot else self._named.setdefault(folded_key(name), name)
        if holder != name:
            why = f"{holder.label} and {name.label} have one name in DuckDB"
            raise ConfigError("can't load a table into DuckDB", on=name.label, why=why, hint=LEAVE_OUT)
        if ours is None and folded_key(name) in self._taken:
            raise ConfigError(
                "can't replace a table or view",
                on=f"{self.url}: {name.label}",
                why="Floodmark did not load it (names that differ only in case are equal)",
                hint="Rename it or drop it, or load into another file. Or leave the table out with --exclude.",
            )

    def _staged_name(self, name: TableName) -> TableName:
        """Return the name of a new table in the schema of another one. It is recorded, for a later load to drop it."""
        new = TableName(name.schema, f"{self.STAGED}{uuid4().hex}")
        with self._errors.translated(f"load {name.label}"):
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._catalog}.{quoted(name.schema)}")
            self._connection.execute(f"INSERT INTO {self._own_schema}.staged VALUES (?, ?)", [new.schema, new.name])
        return new

    def _fill(self, new: TableName, staged: StagedTable) -> None:
        """Create a table with the rows of a landed one. Raises what its row stream raised, and DuckDB's errors."""
        into = f"CREATE TABLE {self._qualified_name(new)} AS"
        insert(self._connection, into, staged.stream(infinite=True), staged.types)

    def _publish_histories(self, staged: Sequence[StagedTable]) -> None:
        """Exchange the histories, within the transaction of `publish`. This target keeps none."""

    def _drop(self, name: TableName, of: TableName | None = None) -> None:
        """Drop the table that was loaded under a name, in any case. If `of` is given, drop only that table."""
        ours = self._ours.get(folded_key(name))
        if ours is None or of not in (None, ours):
            return
        self._connection.execute(f"DROP TABLE {self._qualified_name(ours)}")
        self._delete_record("tables", ours)
        del self._ours[folded_key(name)]

    def _rename(self, staged: StagedTable, run_id: str) -> None:
        name, entry, new = staged.table.name, staged.table.entry, self._staged[staged.table.name]
        checksum = entry.checksum or ""
        self._connection.execute(f"ALTER TABLE {self._qualified_name(new)} RENAME TO {quoted(name.name)}")
        self._comment(staged, clear=False)
        record = [*_name_parts(name), run_id, entry.as_of, entry.rows, datetime.now(UTC), checksum, staged.shape]
        self._connection.execute(f"INSERT INTO {self._own_schema}.tables VALUES (?, ?, ?, ?, ?, ?, ?, ?)", record)
        self._delete_record("staged", new)

    def _require_no_dependents(self, table: TableName) -> None:
        with self._errors.translated(f"list what depends on {table.label}"):
            found = dependents(self._connection, self._qualified_name(table), table)
        if found is not None:
            raise not_replaceable(self.url, table, found)

    def _delete_record(self, where: str, name: TableName) -> None:
        self._connection.execute(
            f'DELETE FROM {self._own_schema}.{where} WHERE "schema" = ? AND name = ?', [*_name_parts(name)]
        )

    def _reopen(self, row_group: int) -> None:
        """Open the file for writing with row groups of this many rows, or 0 for DuckDB's default."""
        self.close()
        self._row_group = row_group
        self._connection = self._connect(read_only=False)

    def _connect(self, *, read_only: bool) -> Any:
        connection, self._catalog = connect_file(
            self._path, self._memory, self._row_group, self._errors, read_only=read_only
        )
        return connection

    def _reopen_midway(self, row_group: int) -> None:
        """Open the file again between two tables. If another process took it meanwhile, no more can be loaded."""
        try:
            self._reopen(row_group)
        except FloodmarkError as error:
            raise Conflict(error.what, on=error.on, why=error.why, hint=error.hint) from None


def folded_key(name: TableName) -> tuple[str, str]:
    """Return the key by which DuckDB distinguishes tables."""
    return folded_name(name.schema), folded_name(name.name)


def _name_parts(name: TableName) -> tuple[str, str]:
    return name.schema, name.name


def _whole_comment(staged: StagedTable) -> str:
    """Return the comment for a loaded table: the source's, and Floodmark's mark."""
    mark = _mark(staged.table.name, staged.table.entry.checksum or "", staged.shape)
    return with_mark(table_comment(staged.table), mark)


def _mark(name: TableName, checksum: str, shape: str) -> str:
    """Return the mark of a loaded table. No other table has the same."""
    return f"{_mark_of(name)}{checksum}, shape {shape}"


def _mark_of(name: TableName) -> str:
    """Return the beginning of a table's mark."""
    return f"Loaded by Floodmark: {name.label}, checksum "
