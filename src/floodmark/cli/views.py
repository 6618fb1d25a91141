"""What the commands show, as structs made from manifests: the same for text and for JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from floodmark.model import Reason, Status, TableEntry, TableName
from floodmark.run import PlannedTable
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
    """A run in `history`. `written_bytes` are those of objects it put, `stored_bytes` those of all it names."""

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
    """How many of a table's chunks were read, and how many it has."""

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
    """Whether a run would do more about the table than call it unchanged."""
    return table.to_extract > 0 or table.reason.code not in ("unchanged", "identical")


def statuses(manifest: Manifest) -> dict[Status, int]:
    """How many tables have each status."""
    counts: dict[Status, int] = {"unchanged": 0, "extracted": 0, "failed": 0, "dropped": 0}
    for entry in manifest.tables:
        counts[entry.status] += 1
    return counts


def chunk_counts(entry: TableEntry, told: Mapping[TableName, ChunkCounts]) -> ChunkCounts:
    """What the run told of a table's chunks or, where it told nothing, what its entry shows."""
    if entry.table in told:
        return told[entry.table]
    total = max(len(entry.objects), len(entry.watermark.chunks) if entry.watermark else 0)
    read = sum(part.origin == "extracted" for part in entry.objects) if entry.status == "extracted" else 0
    return ChunkCounts(read, total)


def age(moment: str, now: datetime) -> int:
    """Whole seconds from an ISO 8601 moment to now, 0 where clocks disagree."""
    return max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))


def _written(entry: TableEntry) -> int:
    if entry.status != "extracted":
        return 0
    return sum(part.stored_bytes for part in entry.objects if part.origin == "extracted")
