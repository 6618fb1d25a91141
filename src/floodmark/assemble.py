"""What a run came to → the manifest it publishes: every table's entry, done, failed, dropped, or as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from floodmark import __version__
from floodmark.attempt import Result
from floodmark.detect import Remembered
from floodmark.entries import dropped, failed
from floodmark.errors import FloodmarkError, TableError
from floodmark.model import Point, SourceIdentity, TableEntry, TableInfo, TableName
from floodmark.running import Run, iso
from floodmark.source.base import Snapshot
from floodmark.state.manifest import Manifest, ManifestSource


def gone_from(this: Run, snapshot: Snapshot, tables: Iterable[TableInfo]) -> list[TableName]:
    """Tables that the state knows and the source has no more. One that was only not selected is not gone."""
    selected = {table.table for table in tables}
    away = [name for name in this.committed() if name not in selected]
    existing = snapshot.existing(away)
    return [name for name in away if name not in existing and not this.left_out(name)]


def entries_of(this: Run, tables: Sequence[TableInfo], result: Result, gone: Sequence[TableName]) -> list[TableEntry]:
    """Every table's entry: done, failed, dropped, or (not part of this run) as it was."""
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
            entries[name] = dropped(remembered.entry)
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
        started_at=iso(this.started),
        finished_at=iso(datetime.now(UTC)),
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
