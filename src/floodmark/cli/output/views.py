"""The commands' results as structs made from manifests, the same for text and for JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from floodmark.model import Reason, Status, TableEntry, TableName
from floodmark.pipeline.job import PlannedTable
from floodmark.state.manifest import Manifest


class TableStatus(Struct, frozen=True, kw_only=True):
    """A table in `status`. `age_seconds` is how long ago the source held exactly these rows."""

    schema: str
    name: str
    status: Status
    reason: Reason
    rows: int | None
    stored_bytes: int | None
    as_of: str | None
    age_seconds: int | None
    changed_at: str | None


class RunSummary(Struct, frozen=True, kw_only=True):
    """A run in `history`. `written_bytes` counts the objects it put, `stored_bytes` all objects it names."""

    run_id: str
    started_at: str
    finished_at: str
    tables: int
    extracted: int
    unchanged: int
    failed: int
    dropped: int
    written_bytes: int
    stored_bytes: int
    consistent: bool


class Planned(Struct, frozen=True, kw_only=True):
    """A table in `plan`."""

    schema: str
    name: str
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class ChunkCounts(Struct, frozen=True):
    """The number of a table's chunks that were read, and of all its chunks."""

    read: int
    total: int


def table_status(entry: TableEntry, now: datetime) -> TableStatus:
    return TableStatus(
        schema=entry.schema,
        name=entry.name,
        status=entry.status,
        reason=entry.reason,
        rows=entry.rows,
        stored_bytes=entry.stored_bytes,
        as_of=entry.as_of,
        age_seconds=None if entry.as_of is None else age(entry.as_of, now),
        changed_at=entry.changed_at,
    )


def run_summary(manifest: Manifest) -> RunSummary:
    counts = statuses(manifest)
    return RunSummary(
        run_id=manifest.run_id,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        tables=len(manifest.tables),
        extracted=counts["extracted"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        dropped=counts["dropped"],
        written_bytes=sum(map(_written, manifest.tables)),
        stored_bytes=sum(entry.stored_bytes or 0 for entry in manifest.tables if entry.status != "dropped"),
        consistent=manifest.consistent,
    )


def planned(table: PlannedTable) -> Planned:
    return Planned(
        schema=table.table.schema,
        name=table.table.name,
        reason=table.reason,
        chunks=table.chunks,
        to_extract=table.to_extract,
        estimated_bytes=table.estimated_bytes,
    )


def has_work(table: PlannedTable) -> bool:
    """Return true if a run would do more with the table than report it unchanged."""
    return table.to_extract > 0 or table.reason.code not in ("unchanged", "identical")


def statuses(manifest: Manifest) -> dict[Status, int]:
    """Return the number of tables per status."""
    counts: dict[Status, int] = {"unchanged": 0, "extracted": 0, "failed": 0, "dropped": 0}
    for entry in manifest.tables:
        counts[entry.status] += 1
    return counts


def chunk_counts(entry: TableEntry, told: Mapping[TableName, ChunkCounts]) -> ChunkCounts:
    """Return a table's chunk counts from the run's events, or from its entry if the run sent none."""
    if entry.table in told:
        return told[entry.table]
    total = max(len(entry.objects), len(entry.watermark.chunks) if entry.watermark else 0)
    read = sum(part.origin == "extracted" for part in entry.objects) if entry.status == "extracted" else 0
    return ChunkCounts(read, total)


def age(moment: str, now: datetime) -> int:
    """Return whole seconds from an ISO 8601 time to now, or 0 if clocks disagree."""
    return max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))


def _written(entry: TableEntry) -> int:
    if entry.status != "extracted":
        return 0
    return sum(part.stored_bytes for part in entry.objects if part.origin == "extracted")
