"""`floodmark load`: bring a DuckDB file, Parquet files, a Glue database or an Iceberg namespace up to date."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from floodmark.cli.interruptible import run_interruptible
from floodmark.cli.landed import current_snapshot, excluded_tables, included_tables, landed_reader, landed_settings
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.figures import count
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.log_events import finished_line, table_line
from floodmark.cli.output.logs import Log
from floodmark.cli.output.render import folded_line
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.config import Settings
from floodmark.config.urls import check_place
from floodmark.engine.opening import open_engine
from floodmark.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    FloodmarkError,
    StorageError,
    UsageError,
    VerificationFailed,
)
from floodmark.escaping import printable
from floodmark.events import Observer, StepStarted
from floodmark.load.duckdb import MEMORY, DuckDBFile
from floodmark.load.duckdb_history import DuckDBHistoryFile
from floodmark.load.history import HistoryRequest, HistoryTarget
from floodmark.load.job import LoadedTable, LoadOptions, LoadResult
from floodmark.load.job import load as load_tables
from floodmark.load.parquet import ParquetPlace
from floodmark.load.target import CONVERTERS, LoadTarget, LoadWatch
from floodmark.places import either_contains
from floodmark.reader.extras import require_pyiceberg
from floodmark.stop import Stop
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_NO_FILE = re.compile(r"[A-Za-z0-9_+.-]{2,}:|:", re.ASCII)
_LEFT = "Readers see the old tables, or all the new ones. Run the load again to bring the target up to date."
_FORMS = "Write --into duckdb:FILE, parquet:URL, glue:DATABASE or iceberg:NAMESPACE."
_ONLY_WITH = {
    "files": ("--files", "glue", "glue:DATABASE"),
    "memory": ("--memory", "duckdb", "duckdb:FILE"),
    "catalog": ("--catalog", "iceberg", "iceberg:NAMESPACE"),
    "warehouse": ("--warehouse", "iceberg", "iceberg:NAMESPACE"),
    "keep_snapshots": ("--keep-snapshots", "iceberg", "iceberg:NAMESPACE"),
}


class LoadedView(Struct, frozen=True, kw_only=True):
    """A table of a load. `status` is loaded, unchanged, failed, gone or dropped."""

    schema: str
    name: str
    status: str
    rows: int | None
    error: str | None


class LoadDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark load`. `run_id` is the run whose snapshot was loaded."""

    run_id: str | None = None
    target: str | None = None
    tables: tuple[LoadedView, ...] = ()


def load(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Bring a DuckDB file, Parquet files, a Glue database or an Iceberg namespace up to date with the snapshot."""
    with prints_if_no_state(LoadDocument(), options, streams):
        result, place = run_interruptible(
            streams, Tally(), lambda observer, stop: _loaded(options, streams, observer, stop), lambda: _LEFT
        )
    log = streams.log
    for one in result.tables:
        if one.error is None:  # a table's error was reported when it occurred
            log.write(table_line(one.status, {"table": one.table.label, "rows": one.rows}, None))
    log.write(finished_line("load_finished", {"target": place}, [one.status for one in result.tables]))
    _show(result, place, options, streams)
    return _exit_code(result.failures)


def _loaded(
    options: argparse.Namespace, streams: CommandStreams, observer: Observer, stop: Stop
) -> tuple[LoadResult, str]:
    """Load, and return the result and the target's place."""
    observer(StepStarted("reading the state"))
    settings = landed_settings(options, streams)
    target = _target(options, settings, observer)
    try:
        snapshot = current_snapshot(settings, observer)
        log = streams.log
        log.bind(run_id=snapshot.run_id)
        only = included_tables(options.table, snapshot.manifest, snapshot.tables) if options.table else None
        excluded = excluded_tables(options.exclude, snapshot.manifest)
        history = None
        if options.history and isinstance(target, HistoryTarget):
            history = HistoryRequest(target, landed_reader(settings, observer).history)
        request = LoadOptions(
            only, tuple(options.text), options.drop, options.adopt_source, options.full, excluded, history
        )
        chosen = None if isinstance(target, DuckDBFile) else settings.engine
        with open_engine(chosen, observer, stop) as cluster:
            watch = LoadWatch(observer, stop, cluster.engine(observer, CONVERTERS))
            result = load_tables(snapshot, target, request, partial(_log_failure, log), watch)
    finally:
        target.close()
    return result, target.url


def _target(options: argparse.Namespace, settings: Settings, observer: Observer) -> LoadTarget:
    kind, _, where = options.into.partition(":")
    if not where.strip() or kind not in ("duckdb", "parquet", "glue", "iceberg"):
        raise UsageError("this is not a target for a load", hint=_FORMS)
    also = (("memory", "iceberg"),) if options.history else ()  # DuckDB computes the histories
    for name, (option, needed, form) in _ONLY_WITH.items():
        if getattr(options, name) is not None and kind != needed and (name, kind) not in also:
            raise UsageError(f"{option} needs --into {form}", hint=_FORMS)
    if options.engine is not None and kind == "duckdb":
        hint = "One process writes a DuckDB file. Leave --engine out, or choose another target."
        raise UsageError("--engine needs --into parquet:URL, glue:DATABASE or iceberg:NAMESPACE", hint=hint)
    if options.history and kind not in ("duckdb", "iceberg"):
        raise UsageError("--history needs --into duckdb:FILE or iceberg:NAMESPACE", hint=_FORMS)
    if kind == "duckdb":
        _require_file(where)
        opened = DuckDBHistoryFile if options.history else DuckDBFile
        return opened(Path(where).expanduser(), options.memory or MEMORY)
    if kind == "iceberg":
        return _iceberg(where, options, settings, observer)
    if kind == "parquet":
        where = _expanded(where)
        where = check_place(where, "--into")
    _require_apart(where if kind == "parquet" else options.files, settings)
    if kind == "parquet":
        return ParquetPlace(where, observer)
    from floodmark.load.glue import GlueDatabase  # noqa: PLC0415 - by need: boto3 takes long to load

    return GlueDatabase(where, options.files, observer)


def _iceberg(namespace: str, options: argparse.Namespace, settings: Settings, observer: Observer) -> LoadTarget:
    require_pyiceberg()
    from floodmark.load.iceberg import IcebergNamespace  # noqa: PLC0415 - by need: an extra that takes long to load
    from floodmark.load.iceberg_histories import IcebergHistories  # noqa: PLC0415 - by need: as above

    warehouse = options.warehouse
    if warehouse is not None:
        warehouse = check_place(_expanded(warehouse), "--warehouse")
        _require_apart(warehouse, settings)
        warehouse = warehouse if warehouse.startswith("s3://") else str(Path(warehouse).absolute())
    make = partial(IcebergHistories, memory=options.memory or MEMORY) if options.history else IcebergNamespace
    target = make(namespace, observer, catalog=options.catalog, warehouse=warehouse, keep=options.keep_snapshots)
    _require_apart(target.warehouse, settings)
    return target


def _expanded(where: str) -> str:
    """Expand a ~, because no shell does it after a colon."""
    return str(Path(where).expanduser()) if where.startswith("~") else where


def _require_apart(place: str | None, settings: Settings) -> None:
    """Require that files of a load and files of runs, which `prune` manages, never share a place."""
    data = settings.destination.url and f"{settings.destination.url}/data"
    for what, other in (("the destination's data", data), ("the state", settings.state_url)):
        if place and other and either_contains(place, other):
            why, hint = f"it is inside {what}, or contains it", "Load into another place."
            raise ConfigError("this place can't be the target", on=place, why=why, hint=hint)


def _require_file(where: str) -> None:
    """Require a file. DuckDB also accepts memory, which ends with the process, and servers.

    A server's address can hold a password.
    """
    kind = _NO_FILE.match(where)
    if kind is not None:
        hint = "Write duckdb:FILE. If the name has a colon, write duckdb:./NAME."
        raise UsageError("this is not a file", on=f"duckdb:{kind[0]}…", hint=hint)


def _log_failure(log: Log, one: LoadedTable) -> None:
    if one.error is not None:
        log.write(table_line(one.status, {"table": one.table.label}, one.error))


def _show(result: LoadResult, place: str, options: argparse.Namespace, streams: CommandStreams) -> None:
    if options.output == "json":
        tables = tuple(map(_view, result.tables))
        streams.print_json(LoadDocument(run_id=result.run_id, target=place, tables=tables))
        return
    streams.out.write(_table(result.tables, options, console(streams.out, streams.environ)))
    if options.quiet:
        return
    statuses = [one.status for one in result.tables]
    parts = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(("unchanged", "loaded", *statuses))]
    line = f"{plural(len(statuses), 'table')}: {', '.join(parts)}; run {result.run_id} in {place}"
    streams.out.write(wrap(printable(line), console(streams.out, streams.environ)))


def _table(tables: Sequence[LoadedTable], options: argparse.Namespace, to: Console) -> str:
    """Return a table of what was done. Unchanged tables are one line."""
    listed = [one for one in tables if options.verbose or one.status != "unchanged"]
    listed = [one for one in listed if one.error is not None] if options.quiet else listed
    rows = [
        (one.table.label, one.status, count(one.rows), "" if one.error is None else one.error.sentence)
        for one in listed
    ]
    columns = [Column("table"), Column("status"), Column("rows", right=True, rank=1), Column("why", sentence=True)]
    return (draw(columns, rows, to) if rows else "") + folded_line(0 if options.quiet else len(tables) - len(listed))


def _view(one: LoadedTable) -> LoadedView:
    error = None if one.error is None else one.error.sentence
    return LoadedView(schema=one.table.schema, name=one.table.name, status=one.status, rows=one.rows, error=error)


def _exit_code(failures: Sequence[FloodmarkError]) -> int:
    """Return the exit code: damage outweighs a storage error, which outweighs a value that does not fit."""
    for kind in (VerificationFailed, StorageError):
        if any(isinstance(error, kind) for error in failures):
            return kind.exit_code
    return EXIT_PARTIAL if failures else EXIT_OK
