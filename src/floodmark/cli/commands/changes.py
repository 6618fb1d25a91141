"""`floodmark changes`: the rows that changed since a run or since a consumer's cursor, as JSON lines or in numbers."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from floodmark.cli.landed import chosen_snapshot, committed_runs, landed_ledger, landed_reader, landed_settings
from floodmark.cli.output.figures import count
from floodmark.cli.output.grid import Column as Heading
from floodmark.cli.output.grid import draw, wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.config import Settings
from floodmark.differences import ChangedColumn
from floodmark.errors import EXIT_OK, UsageError
from floodmark.model import Column, TableName
from floodmark.reader.cursor import CURSOR_NAME, StoredCursor
from floodmark.reader.reader import Reader, Snapshot
from floodmark.reader.row_changes import RowChange, RowOperation, TableChange, TableOperation
from floodmark.source.selection import pick_tables
from floodmark.state.ledger import Ledger
from floodmark.state.run_ids import CURRENT, NO_SUCH_RUN
from floodmark.wording import plural

_BLOCK = 1000
_NULL = Raw(b"null")
_COLUMNS = (
    Heading("table"),
    Heading("change"),
    Heading("inserted", right=True),
    Heading("updated", right=True),
    Heading("deleted", right=True),
    Heading("details", sentence=True),
)


class ComparedRecord(Struct, frozen=True, kw_only=True):
    """The first line: the two runs that are compared. `since` is null for a cursor that has taken nothing yet."""

    op: Literal["compare"] = "compare"
    since: str | None
    run_id: str


class TableRecord(Struct, frozen=True, kw_only=True):
    """A change of a table as a whole. Rows of the table follow only after `created`."""

    op: TableOperation
    schema: str
    name: str
    detail: str
    columns_added: tuple[Column, ...]
    columns_removed: tuple[Column, ...]
    columns_changed: tuple[ChangedColumn, ...]


class RowRecord(Struct, frozen=True, kw_only=True):
    """A row that changed. `key`, `old` and `new` are JSON objects or null, with each value as it was landed."""

    op: RowOperation
    schema: str
    name: str
    key: Raw
    old: Raw
    new: Raw
    columns: tuple[str, ...]


def changes(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Write the changes, until all are written or the reader closes its end."""
    settings = landed_settings(options, streams)
    snapshot = chosen_snapshot(settings, streams.report_retry, options.run)
    reader = landed_reader(settings, streams.report_retry)
    since = _since(options.since, settings, reader, streams)
    found = reader.row_changes(since, snapshot, tables=_chosen_tables(options.tables, since, snapshot))
    if options.output == "jsonl":
        _write_lines(found, ComparedRecord(since=since.run_id, run_id=snapshot.run_id), streams)
    else:
        streams.out.write(_summary(found, since.run_id, snapshot.run_id, streams))
    return EXIT_OK


def _since(name: str, settings: Settings, reader: Reader, streams: CommandStreams) -> Snapshot | StoredCursor:
    """Return the run of a name, or the cursor, if history holds no such run. Raises UsageError for any other name."""
    ledger = landed_ledger(settings, streams.report_retry)
    if name == CURRENT:
        return reader.latest()
    try:
        (manifest,) = committed_runs(ledger, [name])
    except UsageError as error:
        cursor = reader.cursor(name) if CURSOR_NAME.fullmatch(name) else None
        if cursor is not None and cursor.cursor is not None:
            return cursor
        if error.why != NO_SUCH_RUN:
            raise
        raise _unknown(name, ledger) from None
    return reader.snapshot_of(manifest)


def _unknown(name: str, ledger: Ledger) -> UsageError:
    """Return the error for a name that is neither a run nor a cursor. It names the oldest run that is left."""
    *_, oldest = ledger.history()
    return UsageError(
        "can't tell what changed",
        on=name,
        why=f"{NO_SUCH_RUN}, and no consumer has a cursor of this name; the oldest run that is left is {oldest.run_id}",
        hint="Name a run that `floodmark history` lists. If prune deleted it, read the tables again instead.",
    )


def _chosen_tables(
    patterns: Sequence[str], since: Snapshot | StoredCursor, snapshot: Snapshot
) -> frozenset[TableName] | None:
    """Return the tables of either snapshot that match any pattern, or None without patterns. Raises ConfigError."""
    if not patterns:
        return None
    names = {TableName(one.schema, one.name) for one in (*since.taken, *snapshot.taken)}
    default_schema = snapshot.manifest.source.default_schema
    return frozenset(pick_tables(sorted(names), patterns, default_schema, "the pair of snapshots", "TABLE"))


def _write_lines(found: Iterator[RowChange | TableChange], compared: ComparedRecord, streams: CommandStreams) -> None:
    encode, lines = msgspec.json.encode, [msgspec.json.encode(compared)]
    for one in found:
        lines.append(encode(_row_record(one) if isinstance(one, RowChange) else _table_record(one)))
        if len(lines) >= _BLOCK:
            streams.out.write_rows(b"\n".join((*lines, b"")))
            lines = []
            if streams.out.gone:
                return
    if lines:
        streams.out.write_rows(b"\n".join((*lines, b"")))


def _row_record(one: RowChange) -> RowRecord:
    key, old, new = (_NULL if value is None else Raw(value) for value in (one.key, one.old, one.new))
    schema, name = one.table.schema, one.table.name
    return RowRecord(op=one.op, schema=schema, name=name, key=key, old=old, new=new, columns=one.columns)


def _table_record(one: TableChange) -> TableRecord:
    return TableRecord(
        op=one.op,
        schema=one.table.schema,
        name=one.table.name,
        detail=one.detail,
        columns_added=one.columns_added,
        columns_removed=one.columns_removed,
        columns_changed=one.columns_changed,
    )


def _summary(found: Iterator[RowChange | TableChange], since: str | None, run_id: str, streams: CommandStreams) -> str:
    """Return the number of changed rows of each table that has any change."""
    numbers: dict[TableName, Counter[str]] = {}
    tables: dict[TableName, TableChange] = {}
    for one in found:
        counted = numbers.setdefault(one.table, Counter())
        if isinstance(one, TableChange):
            tables[one.table] = one
        else:
            counted[one.op] += 1
    to = console(streams.out, streams.environ)
    rows = [_summary_row(table, counted, tables.get(table)) for table, counted in numbers.items()]
    last = f"{plural(len(rows), 'table')} changed from {since or 'nothing'} to run {run_id}"
    return (draw(_COLUMNS, rows, to) if rows else "") + wrap(last, to)


def _summary_row(table: TableName, counted: Counter[str], whole: TableChange | None) -> tuple[str, ...]:
    """Return the cells of a table. If no rows are given, their number is not known."""
    known = whole is None or whole.op == "created"
    cells = [count(counted[op] if known else None) for op in ("insert", "update", "delete")]
    return table.label, "rows" if whole is None else whole.op, *cells, "" if whole is None else whole.detail
