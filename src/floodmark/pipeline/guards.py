"""The guards of a run: the facts for `losses`, from the session, the snapshot's tables and the entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from floodmark.errors import LossRefused
from floodmark.model import TableEntry, TableInfo, TableName
from floodmark.pipeline.losses import refused_rows, refused_tables, rows_if_known
from floodmark.pipeline.session import Session
from floodmark.pipeline.work import TableWork


def tables_refusal(session: Session, tables: Sequence[TableInfo], gone: Collection[TableName]) -> LossRefused | None:
    """Return why the guards refuse this run because of its tables, or None. `gone`: see `snapshot.tables_gone`."""
    first = session.current is None or session.other_source
    known = None if first else [name for name in session.committed_tables() if not session.left_out(name)]
    return refused_tables(session.settings.guards, [table.table for table in tables], gone, known)


def rows_refusal(session: Session, entries: Sequence[TableEntry], gone: Collection[TableName]) -> LossRefused | None:
    """Return why the guards refuse this run because of its rows, or None. `entries` are those of its manifest."""
    read = (entry for entry in entries if entry.status in ("extracted", "unchanged"))
    return _rows_refusal(session, {one.table: one.rows or 0 for one in read if not session.left_out(one.table)}, gone)


def planned_rows_refusal(
    session: Session, works: Sequence[TableWork], gone: Collection[TableName]
) -> LossRefused | None:
    """Return the same as `rows_refusal` before anything is extracted. It is None if the rows are not known yet."""
    known = {work.table: rows_if_known(work.plan) for work in works if work.error is None}
    after = {table: rows for table, rows in known.items() if rows is not None}
    return _rows_refusal(session, after, gone) if len(after) == len(known) else None


def _rows_refusal(session: Session, after: Mapping[TableName, int], gone: Collection[TableName]) -> LossRefused | None:
    before = {
        name: known.good.rows or 0
        for name, known in session.committed_tables().items()
        if known.good is not None and (name in after or name in gone)
    }
    return refused_rows(session.settings.guards, before, after)
