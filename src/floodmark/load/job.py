"""Load: bring a target up to date with a snapshot. Unchanged tables are not read, changed ones are exchanged together.

A table that can't be loaded does not stop the others. It keeps its old rows in the target, and the load reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from floodmark.errors import (
    ConfigError,
    Conflict,
    EngineError,
    FloodmarkError,
    SourceMismatch,
    Stopped,
    StorageUnavailable,
    UsageError,
)
from floodmark.events import StepStarted, TableDecided, TableGivenUp
from floodmark.load.comments import outdated_comments, write_comments
from floodmark.load.history import HistoryRequest, due_versions, gone_histories, is_kept
from floodmark.load.target import LoadSource, LoadTarget, LoadWatch, StagedTable, TargetContent, shape_in
from floodmark.model import TableName
from floodmark.reader.reader import Snapshot, Table
from floodmark.stop import stopped_leaving
from floodmark.wording import plural

# The load tries this many tables in a row while the store does not answer. The other tables then fail at once.
MAX_UNREACHABLE = 2
Status = Literal["loaded", "unchanged", "failed", "gone", "dropped"]


class LoadOptions(Struct, frozen=True):
    """The user's options for a load.

    `only` names the tables to load, or None for all. `text` names columns, as `schema.table.column`, to load as they
    are in the lines. `full` loads again no matter what the target holds. An `excluded` table stays as it is in the
    target, even if it is gone from the snapshot. `history` asks to keep histories.
    """

    only: frozenset[TableName] | None = None
    text: tuple[str, ...] = ()
    drop: bool = False
    adopt_source: bool = False
    full: bool = False
    excluded: Callable[[TableName], bool] = lambda table: False
    history: HistoryRequest | None = None

    def left_out_by(self, table: TableName) -> str | None:
        """Return the option that leaves a table of the snapshot out, or None if it is included."""
        if self.excluded(table):
            return "--exclude"
        return None if self.only is None or table in self.only else "--table"


class LoadedTable(Struct, frozen=True):
    """A table's outcome. `gone`: the target holds it, but it is no longer part of the snapshot."""

    table: TableName
    status: Status
    rows: int | None = None
    error: FloodmarkError | None = None


class LoadResult(Struct, frozen=True):
    """A load's outcome, table by table."""

    run_id: str
    tables: tuple[LoadedTable, ...]

    @property
    def failures(self) -> list[FloodmarkError]:
        return [one.error for one in self.tables if one.error is not None]


def load(
    snapshot: Snapshot, target: LoadTarget, options: LoadOptions, tell: Callable[[LoadedTable], None], watch: LoadWatch
) -> LoadResult:
    """Bring the target up to date. One table's error goes into the result.

    `tell` is called as soon as a table's outcome is known, before readers of the target see any change. It is called
    again for a table that could not be published. A request to stop ends the load before it publishes, or not at all.
    Raises UsageError, ConfigError, Conflict, StorageError, Stopped.
    """
    with stopped_leaving(lambda: "The target's tables are as they were. Run the load again to bring it up to date."):
        return _load(snapshot, target, options, tell, watch)


def _load(
    snapshot: Snapshot, target: LoadTarget, options: LoadOptions, tell: Callable[[LoadedTable], None], watch: LoadWatch
) -> LoadResult:
    tables = _requested_tables(snapshot, options)
    _require_typed(tables)
    manifest = snapshot.manifest
    source = LoadSource(manifest.source.dialect, manifest.source.database, manifest.source.system_identifier)
    before = target.loaded(source)
    adopted = before is not None and before.source != source
    if before is not None and adopted and not options.adopt_source:
        raise _other_database(before.source, target.url)
    texts = _text_columns(snapshot, options)
    as_wanted = partial(
        _staged_table,
        target=target,
        watch=watch,
        existing=_existing_tables(snapshot),
        full=options.full,
        manifest=snapshot.manifest_key,
    )
    wanted = [as_wanted(table, text=texts.get(table.name, ())) for table in tables]
    stale, closing = _with_histories(snapshot, wanted, before, options)
    missing = _missing_tables(snapshot, before, options)
    to_load = {one.table.name for one in stale}
    described = outdated_comments(target, [one for one in wanted if one.table.name not in to_load])
    watch.stop.require_not_asked()
    if stale or adopted or described or closing or (missing and options.drop):
        target.prepare()
    outcomes = _stage_tables(stale, closing, missing if options.drop else [], target, tell, watch)
    staged = [one for one in stale if outcomes[one.table.name].status == "loaded"]
    drop = [name for name in missing if name in outcomes and outcomes[name].status == "dropped"]
    closed = [name for name in closing if outcomes[name].error is None]
    if staged or drop or adopted or closed:  # after an adoption, unchanged tables also belong to the new database
        watch.observer(StepStarted("publishing"))
        left = target.publish(source, snapshot.run_id, staged, drop)
        outcomes |= {name: _failed_table(name, error, tell) for name, error in left.items()}
    write_comments(target, described, watch)
    outcomes = {**_untouched_tables(wanted, missing), **outcomes}
    return LoadResult(snapshot.run_id, tuple(outcomes[name] for name in sorted(outcomes)))


def _untouched_tables(wanted: Sequence[StagedTable], missing: Sequence[TableName]) -> dict[TableName, LoadedTable]:
    """Return the outcomes of tables that the load does not touch."""
    unchanged = {one.table.name: LoadedTable(one.table.name, "unchanged", one.table.entry.rows) for one in wanted}
    return {**unchanged, **{name: LoadedTable(name, "gone") for name in missing}}


def _staged_table(
    table: Table,
    text: tuple[str, ...],
    target: LoadTarget,
    watch: LoadWatch,
    existing: frozenset[TableName],
    full: bool,
    manifest: str | None,
) -> StagedTable:
    types = table.types(text)
    return StagedTable(table, types, shape_in(target, table, types), text, watch, existing, full, manifest)


def _is_loaded(one: StagedTable, before: TargetContent | None) -> bool:
    """Return true if the target records the same rows in the same columns, and its record is to be trusted."""
    return (
        not one.full
        and before is not None
        and before.tables.get(one.table.name) == (one.table.entry.checksum, one.shape)
    )


def _with_histories(
    snapshot: Snapshot, wanted: Sequence[StagedTable], before: TargetContent | None, options: LoadOptions
) -> tuple[list[StagedTable], Mapping[TableName, Callable[[], None]]]:
    """Return the tables to load, and what stages the closed histories of tables that are gone."""
    request = options.history
    if request is None:
        return [one for one in wanted if not _is_loaded(one, before)], {}
    taken = request.target.histories()
    stale = [
        one
        for one in wanted
        if not (_is_loaded(one, before) and is_kept(taken.get(one.table.name), one.table, one.shape, snapshot))
    ]
    gone = [] if options.only is not None else gone_histories(taken, _existing_tables(snapshot))
    gone = [name for name in gone if not options.excluded(name)]
    versions = due_versions(request, snapshot, [one.table for one in stale], gone)
    closing = {name: partial(request.target.stage_closing, name, versions[name]) for name in gone}
    return [replace(one, versions=versions[one.table.name]) for one in stale], closing


def _stage_tables(
    stale: Sequence[StagedTable],
    closing: Mapping[TableName, Callable[[], None]],
    drop: Sequence[TableName],
    target: LoadTarget,
    tell: Callable[[LoadedTable], None],
    watch: LoadWatch,
) -> dict[TableName, LoadedTable]:
    """Stage all stale tables in the target, invisible to readers. If this fails early, undo what was staged."""
    for one in stale:
        entry = one.table.entry
        chunks = len(entry.objects)
        watch.observer(TableDecided(one.table.name, entry.reason, chunks, chunks, entry.stored_bytes or 0))
    watch.observer(StepStarted("loading", {one.table.name: one.table.entry.stored_bytes or 0 for one in stale}))
    tried = partial(_try_table, tell=tell, watch=watch)
    try:
        outcomes = _each_staged(stale, target, tried)
        outcomes |= {name: tried(name, "gone", act) for name, act in closing.items()}
        for name in drop:
            if name not in outcomes or outcomes[name].error is None:
                outcomes[name] = tried(name, "dropped", partial(target.require_droppable, name))
        watch.stop.require_not_asked()
    except FloodmarkError:
        target.abandon()
        raise
    return outcomes


def _each_staged(
    stale: Sequence[StagedTable],
    target: LoadTarget,
    tried: Callable[[TableName, Status, Callable[[], int]], LoadedTable],
) -> dict[TableName, LoadedTable]:
    """Try each table until the store is gone. Each further table would wait through all its retries again."""
    outcomes: dict[TableName, LoadedTable] = {}
    unreachable = 0
    for one in stale:
        act = partial(target.stage, one) if unreachable < MAX_UNREACHABLE else _not_tried
        outcomes[one.table.name] = outcome = tried(one.table.name, "loaded", act)
        if isinstance(outcome.error, StorageUnavailable):
            unreachable += 1
        elif one.table.objects:
            unreachable = 0
    return outcomes


def _not_tried() -> int:
    raise StorageUnavailable("not tried", why="the store could not be reached for the tables before it")


def _try_table(
    table: TableName,
    status: Status,
    act: Callable[[], int | None],
    tell: Callable[[LoadedTable], None],
    watch: LoadWatch,
) -> LoadedTable:
    """Do one table's work before all are published. Its errors stay its own.

    Raises Conflict after another loader's success, EngineError for a broken cluster, Stopped.
    """
    watch.stop.require_not_asked()
    try:
        outcome = LoadedTable(table, status, act())
    except (Conflict, EngineError, Stopped):
        raise
    except FloodmarkError as error:
        watch.observer(TableGivenUp(table))
        return _failed_table(table, error, tell)
    tell(outcome)
    return outcome


def _failed_table(table: TableName, error: FloodmarkError, tell: Callable[[LoadedTable], None]) -> LoadedTable:
    outcome = LoadedTable(table, "failed", error=error)
    tell(outcome)
    return outcome


def _requested_tables(snapshot: Snapshot, options: LoadOptions) -> list[Table]:
    """Return the requested tables, by default all."""
    return [table for table in snapshot.tables if options.left_out_by(table.name) is None]


def _require_typed(tables: Sequence[Table]) -> None:
    """Refuse a lake of CSV with one error instead of one per table. In a mixed lake, only the CSV table fails."""
    encodings = [table.entry.encoding for table in tables]
    if encodings and all(one is not None and one.format == "csv" for one in encodings):
        raise ConfigError(
            "can't load CSV",
            on=tables[0].label if len(tables) == 1 else f"all {plural(len(tables), 'table')}",
            why="its fields are the source's own text, so an array looks like a string",
            hint="Load from a lake of JSON Lines (destination.format: jsonl).",
        )


def _text_columns(snapshot: Snapshot, options: LoadOptions) -> Mapping[TableName, tuple[str, ...]]:
    """Return the columns to load as text, by table.

    Raises ConfigError for a column that does not exist, and UsageError for a column of a table that is left out.
    """
    columns = {f"{t.label}.{column.name}": (t.name, column.name) for t in snapshot.tables for column in t.columns}
    found: dict[TableName, tuple[str, ...]] = {}
    for label in options.text:
        if label not in columns:
            hint = "Write it as schema.table.column."
            raise ConfigError("unknown column", on=label, why="no table of the snapshot has this column", hint=hint)
        table, column = columns[label]
        left_out_by = options.left_out_by(table)
        if left_out_by is not None:
            why, hint = f"{left_out_by} leaves its table out", "Remove that option, or this --text."
            raise UsageError("can't use --text", on=label, why=why, hint=hint)
        found[table] = (*found.get(table, ()), column)
    return found


def _missing_tables(snapshot: Snapshot, before: TargetContent | None, options: LoadOptions) -> list[TableName]:
    """Return the tables that only the target holds. Returns nothing if the user named tables to load."""
    if before is None or options.only is not None:
        return []
    return sorted(name for name in before.tables.keys() - _existing_tables(snapshot) if not options.excluded(name))


def _existing_tables(snapshot: Snapshot) -> frozenset[TableName]:
    """Return the source's tables as of the snapshot, including those that were never read."""
    return snapshot.unread.union(table.name for table in snapshot.tables)


def _other_database(before: LoadSource, url: str) -> SourceMismatch:
    return SourceMismatch(
        "can't load into this target",
        on=url,
        why=f"its tables are of {before.dialect} database {before.database} "
        f"(system identifier {before.system_identifier})",
        hint="Load into another place or, if the database was moved or restored on purpose, once with --adopt-source.",
    )
