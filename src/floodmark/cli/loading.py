"""The commands of consumers: `load` and `schema`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from floodmark import consume
from floodmark.cli import arguments
from floodmark.cli.output import Session, console, printable
from floodmark.cli.render import count, plural, table
from floodmark.config import load as load_settings
from floodmark.consume.duckdb_file import DuckDBFile
from floodmark.consume.load import LoadedTable, Result, Wishes
from floodmark.consume.load import load as load_tables
from floodmark.consume.parquet import ParquetPlace
from floodmark.consume.schema import ITSELF, Receiver, described, json_schemas, mojap
from floodmark.consume.target import Target
from floodmark.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    FloodmarkError,
    StorageError,
    UsageError,
    VerificationFailed,
)
from floodmark.events import Event, Observer, Retried

_NO_RECEIVER = "A JSON Schema says what the lines are, whoever takes them."
_FORMS = "Write --into duckdb:FILE, parquet:URL or glue:DATABASE."


def load(options: argparse.Namespace, session: Session) -> int:
    """Bring a DuckDB file, a Parquet folder or a Glue database up to date with the current snapshot."""
    observer = _observer(session)
    target = _target(options, observer)
    try:
        snapshot = _snapshot(options, session, observer)
        wishes = Wishes(tuple(options.table), tuple(options.text), options.drop, options.adopt_source)
        result = load_tables(snapshot, target, wishes, lambda one: _tell(one, session))
    finally:
        target.close()
    _show(result, target, options, session)
    return _exit_code(result.failures)


def schema(options: argparse.Namespace, session: Session) -> int:
    """Print what the tables look like, for other tools."""
    receiver = Receiver(options.to_layout, options.database_name, tuple(options.text))
    if options.format != "mojap" and receiver != ITSELF:
        raise UsageError("--layout, --database-name and --text go with --format mojap", hint=_NO_RECEIVER)
    manifest = _snapshot(options, session, _observer(session)).manifest
    documents = mojap(manifest, receiver) if options.format == "mojap" else json_schemas(manifest)
    if options.table:
        labels = [f"{entry.schema}.{entry.name}" for entry in described(manifest)]
        unknown = [label for label in options.table if label not in labels]
        if unknown:
            raise ConfigError("there is no such table", on=unknown[0], why="the manifest does not hold it")
        documents = [one for label, one in zip(labels, documents, strict=True) if label in options.table]
    _write_json(session, documents[0] if len(options.table) == 1 else {"tables": documents})
    return EXIT_OK


def _snapshot(options: argparse.Namespace, session: Session, observer: Observer) -> consume.Snapshot:
    """The current snapshot of the state that the options name."""
    settings = load_settings(arguments.flags(options), session.environ, state_only=True)
    if settings.state_url is None:
        why = "runs to this landing zone are stateless: nothing is remembered"
        hint = "Give --state URL or set FLOODMARK_STATE to the place where runs keep their state."
        raise ConfigError("there is no state to read", why=why, hint=hint)
    destination = settings.destination.url if settings.destination.layout == "plain" else ""
    return consume.open(destination or None, state=settings.state_url, observer=observer).latest()


def _target(options: argparse.Namespace, observer: Observer) -> Target:
    kind, _, where = options.into.partition(":")
    if not where or kind not in ("duckdb", "parquet", "glue"):
        raise UsageError("this is no place to load into", hint=_FORMS)
    if options.files is not None and kind != "glue":
        raise UsageError("--files goes with glue: alone", hint=_FORMS)
    if kind == "duckdb":
        return DuckDBFile(Path(where))
    if kind == "parquet":
        return ParquetPlace(where, observer)
    from floodmark.consume.glue import GlueDatabase  # noqa: PLC0415 - by need: boto3 takes long to load

    return GlueDatabase(where, options.files, observer)


def _observer(session: Session) -> Observer:
    def talk(event: Event) -> None:
        if isinstance(event, Retried):
            session.err.line(f"floodmark: {printable(f'retry {event.attempt}: {event.what}: {event.why}')}")

    return talk


def _tell(one: LoadedTable, session: Session) -> None:
    """A table's trouble is said when it occurs."""
    if one.error is not None:
        session.err.line(f"floodmark: {printable(one.table.label)} keeps its old rows: {printable(one.error.sentence)}")
        if one.error.hint is not None:
            session.err.line(f"  {printable(one.error.hint)}")


def _show(result: Result, target: Target, options: argparse.Namespace, session: Session) -> None:
    if options.output == "json":
        tables = [_view(one) for one in result.tables]
        _write_json(session, {"run_id": result.run_id, "target": target.url, "tables": tables})
        return
    rows = [(one.table.label, one.status, count(one.rows)) for one in result.tables]
    to = console(session.out, session.environ)
    session.out.write(table(("table", "status", ">rows"), rows, to))
    statuses = [one.status for one in result.tables]
    parts = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(("unchanged", "loaded", *statuses))]
    line = f"{plural(len(statuses), 'table')}: {', '.join(parts)}; run {result.run_id} in {target.url}"
    session.out.write(f"{printable(line)}\n")


def _view(one: LoadedTable) -> dict[str, Any]:
    error = None if one.error is None else one.error.sentence
    return {
        "schema": one.table.schema, "name": one.table.name, "status": one.status, "rows": one.rows, "error": error
    }  # fmt: skip


def _exit_code(failures: Sequence[FloodmarkError]) -> int:
    """Damage outweighs a store's trouble, and that a value that does not fit."""
    for kind in (VerificationFailed, StorageError):
        if any(isinstance(error, kind) for error in failures):
            return kind.exit_code
    return EXIT_PARTIAL if failures else EXIT_OK


def _write_json(session: Session, document: object) -> None:
    session.out.write_json(msgspec.json.format(msgspec.json.encode(document), indent=1))


COMMANDS = {"load": load, "schema": schema}
