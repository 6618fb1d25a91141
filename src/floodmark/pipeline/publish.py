"""The manifest of a run, made from its results: one entry for each table, done, failed, dropped or carried over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from floodmark.errors import FloodmarkError, TableError
from floodmark.model import Point, SourceIdentity, TableEntry, TableInfo, TableName
from floodmark.pipeline.attempt import Result
from floodmark.pipeline.entries import dropped, failed
from floodmark.pipeline.remembered import Remembered
from floodmark.pipeline.session import Run
from floodmark.source.base import Namesake, Snapshot
from floodmark.source.selection import picked_if_plain
from floodmark.state.manifest import Manifest, ManifestSource
from floodmark.version import __version__
from floodmark.wording import iso_time

_GONE = "the table is gone from the source"


def gone_from(this: Run, snapshot: Snapshot, tables: Iterable[TableInfo]) -> dict[TableName, str]:
    """Return the tables that the state knows and the source no longer has, each with the reason.

    A table that was only not selected does not count as gone.
    """
    selected = {table.table for table in tables}
    away = {name: known for name, known in this.committed().items() if name not in selected and not this.left_out(name)}
    existing = snapshot.existing(list(away))
    found = {name: _why_gone(this, snapshot, known, existing.get(name)) for name, known in away.items()}
    return {name: why for name, why in found.items() if why is not None}


def _why_gone(this: Run, snapshot: Snapshot, known: Remembered, now: Namesake | None) -> str | None:
    """Return the reason why a table that was not selected is gone, or None if it is not gone.

    The relation that now has its name can be one that is no table in its own right.
    """
    if now is None or known.entry is None:
        return _GONE
    name = known.entry.table
    became = {
        "table": False,
        "owned": picked_if_plain(name, this.settings.selection, snapshot.default_schema),
        "part": True,
        "other": known.entry.watermark is not None,  # else it might always have been a view
    }
    return f"{_GONE}: {name.label} is {now.what} now" if became[now.kind] else None


def entries_of(
    this: Run, tables: Sequence[TableInfo], result: Result, gone: Mapping[TableName, str]
) -> list[TableEntry]:
    """Return the entry of every table: done, failed, dropped, or carried over if it is not part of this run."""
    told = this.committed()
    entries = dict(result.entries)
    for table in tables:
        error: FloodmarkError | None = result.lost.get(table.table)
        if table.denied is not None:
            error = TableError("can't be read", code="denied", why=table.denied)
        if error is not None:
            entries[table.table] = failed(table, error, told.get(table.table, Remembered()))
    for name, remembered in told.items():
        if remembered.entry is None or name in entries:
            continue
        if name in gone:
            entries[name] = dropped(remembered.entry, gone[name])
        elif this.left_out(name):
            entries[name] = remembered.entry
    return [entries[name] for name in sorted(entries)]


def manifest_of(this: Run, snapshot: Snapshot, timestamp: str, entries: Sequence[TableEntry]) -> Manifest:
    identity: SourceIdentity = snapshot.identity
    point: Point = snapshot.point
    whole = all(entry.as_of == point.taken_at for entry in entries if entry.status != "dropped")
    return Manifest(
        run_id=this.run_id,
        parent=this.current.head.manifest if this.current is not None else None,
        tool_version=__version__,
        started_at=iso_time(this.started),
        finished_at=iso_time(datetime.now(UTC)),
        timestamp=timestamp,
        destination=this.stores.destination.url,
        layout=this.stores.layout.name,
        consistent=whole and all(entry.status != "failed" for entry in entries),
        source=ManifestSource(
            dialect=identity.dialect,
            database=identity.database,
            system_identifier=identity.system_identifier,
            server_version=identity.server_version,
            snapshot=point,
        ),
        tables=tuple(entries),
    )
