"""A DuckDB file that also keeps histories. Each is written next to its predecessor, and exchanged with the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from floodmark.errors import ConfigError, DoesNotFit, FloodmarkError, ObjectMissing, VerificationFailed
from floodmark.events import Warned
from floodmark.load.duckdb import MEMORY, DuckDBFile, folded_key
from floodmark.load.duckdb_history_sql import (
    CREATE_HISTORIES,
    history_comment,
    is_history,
    record_history,
    recorded_histories,
    require_history_columns,
    write_history,
)
from floodmark.load.history import HISTORY_COLUMNS, TakenHistory, Version, history_name
from floodmark.load.target import LEAVE_OUT, LoadWatch, StagedTable
from floodmark.model import TableName
from floodmark.reader.duckdb import quoted, require_columns
from floodmark.reader.reader import Table


class DuckDBHistoryFile(DuckDBFile):
    """A target of `load` that keeps `<table>_history` for each table. See `history.HistoryTarget`."""

    def __init__(self, path: Path, memory: str = MEMORY) -> None:
        super().__init__(path, memory)
        self._kept: Mapping[TableName, TakenHistory] = {}
        self._next: dict[TableName, tuple[TableName, TakenHistory]] = {}

    def histories(self) -> Mapping[TableName, TakenHistory]:
        """Return the records of the histories that are there and are Floodmark's."""
        if self._connection is None:
            return {}
        with self._errors.translated("read the histories"):
            comments = self._table_comments()
            if folded_key(TableName("_floodmark", "histories")) not in comments:
                return {}
            recorded = recorded_histories(self._connection, self._own_schema)
        return {
            name: taken
            for name, taken in recorded.items()
            if comments.get(folded_key(history_name(name))) == history_comment(name)
        }

    def prepare(self) -> None:
        super().prepare()
        with self._errors.translated("prepare the file"):
            self._connection.execute(CREATE_HISTORIES.format(own=self._own_schema))
        self._kept = self.histories()

    def stage(self, staged: StagedTable) -> int:
        """Load a table, and write its next history: version by version, with the table's own rows at the end."""
        name, versions = staged.table.name, staged.versions
        if versions:
            require_history_columns(name, [column.name for column in staged.table.columns])
            self._require_history_name(name, staged.snapshot)
        rows = super().stage(staged)
        if versions:
            self._stage_history(name, versions, staged)
        return rows

    def stage_closing(self, table: TableName, versions: Sequence[Version]) -> None:
        self._require_history_name(table, frozenset())
        self._stage_history(table, versions, None)

    def _stage_history(self, name: TableName, versions: Sequence[Version], staged: StagedTable | None) -> None:
        """Write the next history. `staged` is the loaded table, whose rows are those of the last version."""
        taken = self._kept.get(name)
        old = None if taken is None else history_name(name)
        moment = versions[-1].moment
        for version in (*filter(_can_be_kept, versions[:-1]), versions[-1]):
            moment = version.moment if taken is None else max(version.moment, taken.moment)
            watch = LoadWatch() if staged is None else staged.watch
            try:
                rows = self._rows_of(version, staged, last=version is versions[-1])
            except (DoesNotFit, ObjectMissing, VerificationFailed) as error:  # no later load could read it either
                lost = f"the history of {name.label} lacks the version of run {version.run_id}: {error.sentence}"
                watch.observer(Warned(lost))
                continue
            if old is None and rows is None:
                continue
            new = self._staged_name(name)
            with self._errors.translated(f"write the history of {name.label}"):
                write_history(self._connection, self._catalog, new, old, rows, moment)
            for done in (old, rows):
                self._drop_staged(done)
            old = new
            taken = TakenHistory(version.run_id, moment, None, None)
        entry = None if staged is None else staged.table.entry
        shape = None if staged is None else staged.shape
        if old is not None:
            checksum = None if entry is None else entry.checksum
            self._next[name] = old, TakenHistory(versions[-1].run_id, moment, checksum, shape)

    def _rows_of(self, version: Version, staged: StagedTable | None, *, last: bool) -> TableName | None:
        """Return a table with a version's rows: the loaded one, or another one that is loaded for this."""
        if version.table is None:
            return None
        if last and staged is not None:
            return self._staged[staged.table.name]
        text = () if staged is None else staged.text
        return self._load_version(version.table, text, LoadWatch() if staged is None else staged.watch)

    def _load_version(self, table: Table, text: Sequence[str], watch: LoadWatch) -> TableName:
        chosen = tuple(one for one in text if one in {column.name for column in table.columns})
        silent = LoadWatch(stop=watch.stop)
        version = StagedTable(table, table.types(chosen), "", chosen, silent)
        new = self._staged_name(table.name)
        try:
            with self._errors.translated(f"load an earlier version of {table.label}"):
                self._fill(new, version)
        except FloodmarkError:
            self._drop_staged(new)
            raise
        return new

    def _drop_staged(self, table: TableName | None) -> None:
        """Drop a table that only served to write a history. The loaded table and the published history stay."""
        if table is None or table in self._staged.values() or not table.name.startswith(self.STAGED):
            return
        with self._errors.translated("drop a temporary table"):
            self._connection.execute(f"DROP TABLE IF EXISTS {self._qualified_name(table)}")
            self._delete_record("staged", table)

    def _require_history_name(self, name: TableName, snapshot: frozenset[TableName]) -> None:
        """Refuse a history if something else has its name, or if something of the user's depends on it."""
        wanted = history_name(name)
        landed = next((one for one in snapshot if folded_key(one) == folded_key(wanted)), None)
        taken = folded_key(wanted) in self._taken and name not in self._kept
        altered = name in self._kept and not is_history(self._connection, wanted)
        if landed is None and not taken and not altered:
            if name in self._kept:
                self._require_no_dependents(wanted)
            return
        hint = f"Rename it or drop it. Or load without --history. {LEAVE_OUT}"
        if landed is not None:
            why = f"a landed table is called {wanted.label}"
        elif altered:
            why = f"its last columns are no longer {', '.join(HISTORY_COLUMNS)}: someone altered it"
        elif folded_key(wanted) in self._ours:
            why, hint = f"an earlier load loaded {wanted.label}, which is gone since", "Load once with --drop."
        else:
            why = "Floodmark did not make it"
        raise ConfigError("can't keep a history", on=f"{self.url}: {wanted.label}", why=why, hint=hint)

    def _publish_histories(self, staged: Sequence[StagedTable]) -> None:
        """Exchange the histories of the tables that are published, and of those that are gone."""
        published = {one.table.name for one in staged}
        for name, (new, taken) in self._next.items():
            if taken.checksum is not None and name not in published:
                continue
            wanted = history_name(name)
            if name in self._kept:
                self._connection.execute(f"DROP TABLE {self._qualified_name(wanted)}")
            self._connection.execute(f"ALTER TABLE {self._qualified_name(new)} RENAME TO {quoted(wanted.name)}")
            mark = history_comment(name).replace("'", "''")
            self._connection.execute(f"COMMENT ON TABLE {self._qualified_name(wanted)} IS '{mark}'")
            record_history(self._connection, self._own_schema, name, taken)
            self._delete_record("staged", new)


def _can_be_kept(version: Version) -> bool:
    """Return true if DuckDB can have the columns of an earlier version. Otherwise only the next version counts."""
    if version.table is None:
        return True
    names = [column.name for column in version.table.columns]
    try:
        require_columns(version.table.name, names)
        require_history_columns(version.table.name, names)
    except ConfigError:
        return False
    return True
