"""Tables in an Iceberg catalog with their histories. Each history is an Iceberg table next to its table.

A table and its history are two commits. The history's own record says what it took. So a load that ends between the two
leaves a history that is behind, and the next load brings it up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from floodmark.errors import ConfigError, FloodmarkError
from floodmark.events import Event, Observer, Warned
from floodmark.load.duckdb import MEMORY
from floodmark.load.duckdb_history_sql import require_history_columns
from floodmark.load.duckdb_scratch import HistoryScratch
from floodmark.load.history import TakenHistory, Version, history_name
from floodmark.load.iceberg import IcebergNamespace
from floodmark.load.iceberg_catalog import translated
from floodmark.load.iceberg_history_record import KeptHistory
from floodmark.load.iceberg_history_table import HistoryChange, HistoryFiles
from floodmark.load.iceberg_schema import WantedColumn
from floodmark.load.target import LEAVE_OUT, LoadSource, LoadWatch, StagedTable, TargetContent
from floodmark.model import TableName
from floodmark.reader import extras


class IcebergHistories(IcebergNamespace):
    """A target of `load` that keeps `<table>_history` for each table. See `history.HistoryTarget`.

    DuckDB computes each history in a file of its own, in the folder for temporary files, with up to `memory`.
    """

    def __init__(
        self,
        namespace: str,
        observer: Observer,
        *,
        catalog: str | None = None,
        warehouse: str | None = None,
        keep: int | None = None,
        memory: str = MEMORY,
    ) -> None:
        extras.duckdb()
        super().__init__(namespace, observer, catalog=catalog, warehouse=warehouse, keep=keep)
        self._memory = memory
        self._kept: dict[TableName, KeptHistory] = {}
        self._next: dict[TableName, HistoryChange] = {}

    def loaded(self, source: LoadSource) -> TargetContent | None:
        content = super().loaded(source)
        for there, table in self._foreign.items():
            if table is not None and KeptHistory.is_ours(table):
                kept = KeptHistory(table)
                if there == self._history(kept.name):
                    self._kept[kept.name] = kept
        return content

    def histories(self) -> Mapping[TableName, TakenHistory]:
        """Return the records of the histories that are there and are Floodmark's."""
        return {name: kept.taken for name, kept in self._kept.items()}

    def stage(self, staged: StagedTable) -> int:
        """Stage a table and its next history."""
        name = staged.table.name
        require_history_columns(name, [column.name for column in staged.table.columns])
        self._require_history(name, staged.snapshot)
        rows = super().stage(staged)
        try:
            self._stage_history(name, staged.versions, staged)
        except BaseException:
            self._changes.pop(name).remove_written()
            raise
        return rows

    def stage_closing(self, table: TableName, versions: Sequence[Version]) -> None:
        self._require_history(table, frozenset())
        self._stage_history(table, versions, None)

    def publish(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        failed = super().publish(source, run_id, staged, drop)
        for name, change in self._next.items():
            if change.committed:
                self._expire(self._history(name))
            else:  # the table could not be published
                change.remove_written()
        return failed

    def abandon(self) -> None:
        super().abandon()
        for change in self._next.values():
            change.remove_written()

    def _with_histories(self, acts: Mapping[TableName, Callable[[], None]]) -> Mapping[TableName, Callable[[], None]]:
        """Let a table come before its history, and let a table that is gone be dropped after its history."""

        def with_history(name: TableName, change: HistoryChange) -> None:
            if change.is_closing:
                self._commit_history(change)
            if name in acts:
                acts[name]()
            if not change.is_closing:
                self._commit_history(change)

        due = {name: change for name, change in self._next.items() if name in acts or change.is_closing}
        return {**acts, **{name: partial(with_history, name, change) for name, change in due.items()}}

    def _commit_history(self, change: HistoryChange) -> None:
        with translated("can't publish the history", self._label(self._history(change.table))):
            try:
                change.commit()
            except Exception:
                change.remove_written()
                raise

    def _stage_history(self, name: TableName, versions: Sequence[Version], staged: StagedTable | None) -> None:
        """Compute the next history, and write its files. `staged` is the table with the rows of the last version."""
        kept = self._kept.get(name)
        there = self._history(name)
        with TemporaryDirectory(prefix="floodmark-history-", ignore_cleanup_errors=True) as folder:
            scratch = HistoryScratch(Path(folder) / "history.duckdb", self._memory, name)
            try:
                files = None
                if kept is not None:
                    with translated("can't read the history", self._label(there)):
                        files = HistoryFiles(kept)
                    scratch.hold(files.stream(files.current), kept.taken)
                if staged is None:
                    scratch.stage_closing(name, versions)
                else:
                    watch = LoadWatch(_only_warnings(staged.watch.observer), staged.watch.stop)
                    scratch.stage(replace(staged, watch=watch, snapshot=frozenset()))
                taken = scratch.taken()
                if taken is not None:
                    scratch.free_memory()
                    self._next[name] = self._written(scratch, files, taken, kept, name)
            finally:
                scratch.close()

    def _written(
        self,
        scratch: HistoryScratch,
        files: HistoryFiles | None,
        taken: TakenHistory,
        kept: KeptHistory | None,
        name: TableName,
    ) -> HistoryChange:
        there = self._history(name)
        wanted = [WantedColumn(one.name, one.kind) for one in scratch.columns()]
        with translated("can't write to the history", self._label(there)):
            change = HistoryChange(self._catalog, self._identifier(there), kept, name, taken, wanted, self._load)
            try:
                change.stage(scratch, files)
            except BaseException:
                change.remove_written()
                raise
        return change

    def _require_history(self, name: TableName, snapshot: frozenset[TableName]) -> None:
        """Refuse a history if something else has its name, or if someone else changed it."""
        there = self._history(name)
        landed = next((one for one in snapshot if self._name(one) == there), None)
        if landed is None and name in self._kept:
            self._kept[name].require_as_left()
            return
        if there in self._broken:
            raise self._broken[there]
        hint = f"Rename it or drop it. Or load without --history. {LEAVE_OUT}"
        if landed is not None:
            why = f"a landed table is called {landed.label}"
        elif there in self._tables:
            why = f"an earlier load loaded {self._tables[there].name.label}, which is gone since"
            hint = "Load once with --drop."
        elif there in self._foreign:
            why = "Floodmark did not make it for this table"
        else:
            return
        raise ConfigError("can't keep a history", on=self._label(there), why=why, hint=hint)

    def _history(self, name: TableName) -> str:
        """Return the name of a table's history in the catalog."""
        return self._name(history_name(name))


def _only_warnings(observer: Observer) -> Observer:
    """Return an observer that passes warnings on. The lines are read a second time, which is no progress."""

    def observe(event: Event) -> None:
        if isinstance(event, Warned):
            observer(event)

    return observe
