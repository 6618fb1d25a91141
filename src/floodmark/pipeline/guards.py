"""The guards of a run: the facts for `losses`, from the session, the snapshot's tables and the entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from floodmark.errors import LossRefused
from floodmark.model import TableEntry, TableName
from floodmark.observed import TableInfo
from floodmark.pipeline.losses import Gone, refused_rows, refused_tables, rows_if_known
from floodmark.pipeline.session import Session
from floodmark.pipeline.work import TableWork


def tables_refusal(session: Session, tables: Sequence[TableInfo], gone: Mapping[TableName, Gone]) -> LossRefused | None:
    """Return why the guards refuse this run because of its tables, or None. `gone`: see `snapshot.tables_gone`."""
    first = session.current is None or session.other_source
    known = None if first else [name for name in session.committed_tables() if not session.left_out(name)]
    return refused_tables(session.settings.guards, [table.table for table in tables], gone, known)


def rows_refusal(session: Session, entries: Sequence[TableEntry]) -> LossRefused | None:
    """Return why the guards refuse this run because of its rows, or None. `entries` are those of its manifest.

    The whole database counts. A table that this run leaves out or could not read keeps its rows.
    """
    after = {entry.table: _rows_of(entry) for entry in entries if entry.status != "dropped"}
    return _rows_refusal(session, {entry.table for entry in entries}, after)


def planned_rows_refusal(
    session: Session, tables: Sequence[TableInfo], works: Sequence[TableWork], gone: Collection[TableName]
) -> LossRefused | None:
    """Return the same as `rows_refusal` before anything is extracted. It is None if the rows are not known yet."""
    selected = {table.table for table in tables}
    committed = session.committed_tables()
    kept = {name: known for name, known in committed.items() if name in selected or session.left_out(name)}
    after = {name: _rows_of(known.good) for name, known in kept.items() if name not in gone}
    for work in works:
        if work.error is None:
            rows = rows_if_known(work.plan)
            if rows is None:
                return None
            after[work.table] = rows
    return _rows_refusal(session, {*selected, *kept, *gone}, after)


def _rows_refusal(
    session: Session, tables: Collection[TableName], after: Mapping[TableName, int]
) -> LossRefused | None:
    """Compare with the last manifest. `tables` are those of the new one."""
    committed = session.committed_tables()
    before = {name: _rows_of(known.good) for name, known in committed.items() if name in tables}
    return refused_rows(session.settings.guards, before, after)


def _rows_of(entry: TableEntry | None) -> int:
    return 0 if entry is None or entry.checksum is None else entry.rows or 0
