"""`floodmark contract`: write the contract, compare the database with it, and take over what was approved."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import UNSET, Struct, UnsetType

from floodmark.backends import open_source
from floodmark.cli.output import render
from floodmark.cli.output.files import replace_file
from floodmark.cli.output.grid import wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.config import Contract, Flags, Secret, Settings
from floodmark.config.contract_file import read_contract
from floodmark.config.load import load_tables
from floodmark.contract.edit import Approval, accept, contract_of
from floodmark.contract.text import contract_text
from floodmark.errors import EXIT_DRIFT, EXIT_OK, ConfigError, UsageError
from floodmark.escaping import printable
from floodmark.model import ContractDrift, TableName
from floodmark.observed import TableInfo
from floodmark.pipeline.terms import contract_drift
from floodmark.source.base import SourceSnapshot
from floodmark.source.selection import literal_parts
from floodmark.wording import plural

_NEXT = "Review it, set `contract: {file: …}` in floodmark.yaml, and commit both."
_APPROVE = "To approve one: floodmark contract accept TABLE, or TABLE.COLUMN"


class ContractDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark contract check`. `database` is missing if the contract names none."""

    file: str
    database: str | UnsetType = UNSET
    tables: int
    drift: tuple[ContractDrift, ...] = ()


def contract(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Call the command of the group."""
    return {"write": _write, "check": _check, "accept": _accept}[options.contract_command](options, streams)


def _write(options: argparse.Namespace, streams: CommandStreams) -> int:
    settings = _settings(options, streams, in_force=False)
    path, known = settings.contract_file, Contract()
    if not options.force:
        _require_free(path)
    else:
        with suppress(ConfigError):  # a file that is missing or damaged has no notes to keep
            known = read_contract(path)[0]
    with _snapshot(settings) as snapshot:
        made = contract_of(_tables(snapshot, settings), snapshot.identity.database, known)
    _write_file(path, made, overwrite=options.force)
    columns = sum(len(table.columns) for table in made.tables.values())
    wrote = f"wrote {path}: {plural(len(made.tables), 'table')}, {plural(columns, 'column')}. {_NEXT}"
    streams.out.write(wrap(printable(wrote), console(streams.out, streams.environ)))
    return EXIT_OK


def _check(options: argparse.Namespace, streams: CommandStreams) -> int:
    settings = _settings(options, streams, in_force=True)
    terms = settings.selection.contract
    assert terms is not None
    with _snapshot(settings) as snapshot:
        drift = contract_drift(terms, snapshot, _tables(snapshot, settings))
    tables = len(terms.contract.tables)
    if options.output == "json":
        named = UNSET if terms.contract.database is None else terms.contract.database
        streams.print_json(ContractDocument(file=terms.file, database=named, tables=tables, drift=drift))
    else:
        to = console(streams.out, streams.environ)
        streams.out.write(render.contract_lines(drift, to))
        found = f"{plural(len(drift), 'difference')}. {_APPROVE}" if drift else "no difference"
        streams.out.write(wrap(printable(f"{terms.file}: {plural(tables, 'table')}, {found}"), to))
    return EXIT_DRIFT if drift else EXIT_OK


def _accept(options: argparse.Namespace, streams: CommandStreams) -> int:
    settings = _settings(options, streams, in_force=False)
    path = settings.contract_file
    before = read_contract(path)[0]
    with _snapshot(settings) as snapshot:
        shown = {info.table: info for info in _tables(snapshot, settings)}
        named = [_approval(text, {*shown, *before.tables}, snapshot.default_schema) for text in options.approved]
    after = accept(before, named, shown)
    _write_file(path, after, overwrite=True)
    lines = [f"{one.label}: {_told(one, before, after)}" for one in named]
    streams.out.write("".join(f"{printable(line)}\n" for line in lines))
    return EXIT_OK


def _settings(options: argparse.Namespace, streams: CommandStreams, *, in_force: bool) -> Settings:
    source = None if options.source is None else Secret(options.source)
    return load_tables(Flags(config=options.config, source=source), streams.environ, contract=in_force)


@contextmanager
def _snapshot(settings: Settings) -> Iterator[SourceSnapshot]:
    snapshot = open_source(settings).snapshot()
    try:
        yield snapshot
    finally:
        snapshot.close()


def _tables(snapshot: SourceSnapshot, settings: Settings) -> list[TableInfo]:
    return snapshot.tables(settings.selection, "")  # no lines are made, so no encoding is needed


def _approval(text: str, known: set[TableName], default_schema: str) -> Approval:
    """Return what a name on the command line means: a table, or a column of a table."""
    parts = literal_parts(text, "floodmark contract accept", most=3)
    if len(parts) == 3:
        return Approval(TableName(parts[0], parts[1]), parts[2])
    if len(parts) == 1:
        return Approval(TableName(default_schema, parts[0]))
    whole, inner = TableName(*parts), TableName(default_schema, parts[0])
    return Approval(inner, parts[1]) if whole not in known and inner in known else Approval(whole)


def _told(approval: Approval, before: Contract, after: Contract) -> str:
    """Return what became of an approval, in words."""
    old, new = before.tables.get(approval.table), after.tables.get(approval.table)
    if approval.column is None:
        return "removed" if new is None else "unchanged" if new == old else "accepted"
    then = None if old is None else old.columns.get(approval.column)
    now = None if new is None else new.columns.get(approval.column)
    return "removed" if now is None else "unchanged" if now == then else "accepted"


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        hint = "Use `floodmark contract accept` to change it, or --force to overwrite it."
        raise UsageError("the contract already exists", on=str(path), hint=hint)


def _write_file(path: Path, made: Contract, *, overwrite: bool) -> None:
    """Write the whole file, or leave the old one as it is. A symbolic link stays one."""
    try:
        replace_file(path, contract_text(made).encode(), overwrite=overwrite)
    except FileExistsError:
        _require_free(path)
        raise
    except OSError as error:
        hint = "The file is as it was. Make its folder writable, or name another file in contract.file."
        raise UsageError("the contract can't be written", on=str(path), why=error.strerror, hint=hint) from None
