"""The history of a state as compressed JSON for the browser. The script in assets/report.js reads it. Pure."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from floodmark.model import TableName
from floodmark.report.facts import ABSENT, RunFacts, StateHistory, TableNow
from floodmark.report.schema_changes import shown_type

Indexes = Mapping[TableName, int]

_TABLES = ("tables", "now", "cells", "news", "changes")


def payload(state: StateHistory, *, tables: bool = True) -> str:
    """Return the state's runs, oldest first, and perhaps its tables, as JSON that is compressed and in base64."""
    runs = tuple(reversed(state.runs))
    document = {"database": state.database, "runs": [_run(run) for run in runs]}
    document |= _tables(state.tables_now(), runs) if tables else dict.fromkeys(_TABLES, ())
    return base64.b64encode(zlib.compress(msgspec.json.encode(document), 6)).decode("ascii")


def _tables(now: Sequence[TableNow], runs: Sequence[RunFacts]) -> dict[str, list[Any]]:
    names_by_run = _names_by_run(runs)
    names = _all_names(now, runs, names_by_run)
    indexes = {name: index for index, name in enumerate(names)}
    parts = (
        [[name.schema, name.name] for name in names],
        [_table(one) for one in now],
        [_cells(run, known, indexes) for run, known in zip(runs, names_by_run, strict=True)],
        [_news(run, indexes) for run in runs],
        [_changes(run, indexes) for run in runs],
    )
    return dict(zip(_TABLES, parts, strict=True))


def _names_by_run(runs: Sequence[RunFacts]) -> list[list[TableName]]:
    """Return the names of each run's tables. As a rule runs share their names: then these are unpacked once."""
    found: list[list[TableName]] = []
    for at, run in enumerate(runs):
        found.append(found[-1] if at and run.names is runs[at - 1].names else run.table_names())
    return found


def _all_names(
    now: Sequence[TableNow], runs: Sequence[RunFacts], names_by_run: Sequence[Sequence[TableName]]
) -> list[TableName]:
    """Return the tables of the newest manifest, and then those that only earlier runs had."""
    known = {one.name for one in now}
    earlier = {name for names in names_by_run for name in names} | {one.table for run in runs for one in run.changes}
    return [*(one.name for one in now), *sorted(earlier - known)]


def _table(one: TableNow) -> list[Any]:
    columns = [
        [c.name, shown_type(c), c.nullable, "" if c.comment is msgspec.UNSET else c.comment] for c in one.columns
    ]
    return [
        one.state,
        one.code,
        one.detail,
        one.rows,
        one.raw_bytes,
        one.stored_bytes,
        one.as_of,
        one.changed_at,
        round(one.seconds, 3),
        one.chunks,
        columns,
        one.primary_key,
        one.unique_keys,
        one.comment,
        one.encoding,
        one.oldest_read,
        one.object_count,
        one.layers,
        one.objects,
    ]


def _run(run: RunFacts) -> list[Any]:
    ended = None if run.finished_at is None else _epoch(run.finished_at)
    # A run that committed nothing can have moved bytes, which the next run then finds there.
    numbers = [run.moved_bytes, run.stored_bytes, run.rows] if run.key else [run.moved_bytes or None, None, None]
    return [run.run_id, run.outcome, _epoch(run.started_at), ended, run.seconds, *numbers, run.counts]


def _epoch(moment: str) -> int:
    """Return milliseconds since 1970."""
    return int(datetime.fromisoformat(moment).astimezone(UTC).timestamp() * 1000)


def _cells(run: RunFacts, names: Sequence[TableName], indexes: Indexes) -> str:
    """Return one character per table, in the order of `indexes`; nothing for a run that committed nothing."""
    if run.key is None:
        return ""
    cells = [ABSENT] * len(indexes)
    for name, state in zip(names, run.table_states(), strict=True):
        cells[indexes[name]] = state
    return "".join(cells)


def _news(run: RunFacts, indexes: Indexes) -> list[list[Any]]:
    return [
        [
            indexes[one.name],
            one.rows,
            one.rows_before,
            one.stored_bytes,
            one.stored_before,
            one.chunks,
            one.chunks_before,
            one.chunks_read,
            one.moved_bytes,
            one.seconds,
            one.code,
            one.detail,
        ]
        for one in run.table_nights()
    ]


def _changes(run: RunFacts, indexes: Indexes) -> list[list[Any]]:
    return [[one.kind, indexes[one.table], one.column, one.before, one.after] for one in run.changes]
