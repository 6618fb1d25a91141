"""The commands' results as structs made from manifests, the same for text and for JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import UNSET, Struct

from floodmark.errors import EXIT_OK, EXIT_PARTIAL
from floodmark.model import ContractDrift, Ended, Reason, Status, TableEntry, TableName
from floodmark.pipeline.job import PlannedTable, RunPlan
from floodmark.state.manifest import Head, Manifest
from floodmark.state.run_list import KnownRun


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
    """A run in `history`.

    `outcome` is success, partial, failed, stopped or unfinished. An unfinished run is at work or was killed. It has no
    exit code, end or duration. Only a run that committed has numbers of tables. `written_bytes` counts the objects that
    the run put, `stored_bytes` all objects that its manifest names. `chunks` and `chunks_done` tell how far a run came
    that did not commit, and `error` why it failed.
    """

    run_id: str
    outcome: str
    exit_code: int | None
    started_at: str
    finished_at: str | None
    duration_seconds: float | None
    tables: int | None = None
    extracted: int | None = None
    unchanged: int | None = None
    failed: int | None = None
    dropped: int | None = None
    written_bytes: int | None = None
    stored_bytes: int | None = None
    consistent: bool | None = None
    chunks: int | None = None
    chunks_done: int | None = None
    error: str | None = None


class Planned(Struct, frozen=True, kw_only=True):
    """A table in `plan`."""

    schema: str
    name: str
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class LeftOutView(Struct, frozen=True, kw_only=True):
    """A relation that is left out by default. `kind` is such as `view`."""

    schema: str
    name: str
    kind: str


class RefusedRun(Struct, frozen=True, kw_only=True):
    """The error with which the guards would end a run."""

    error: str
    hint: str | None
    exit_code: int


class PlanDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark plan`.

    `left_out` are relations that are landed only if tables.include names them in full. `refused` is null if the guards
    would not refuse the run. `drift` is what differs from the contract, if one is in force.
    """

    tables: tuple[Planned, ...]
    left_out: tuple[LeftOutView, ...] = ()
    refused: RefusedRun | None = None
    drift: tuple[ContractDrift, ...] = ()


class StatusDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark status`: the current head, its tables, and the last runs, newest first.

    `drift` is what differed from the contract in the last committed run, if one was in force.
    """

    head: Head | None = None
    tables: tuple[TableStatus, ...] = ()
    runs: tuple[RunSummary, ...] = ()
    drift: tuple[ContractDrift, ...] = ()


class HistoryDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark history`: the runs, newest first."""

    runs: tuple[RunSummary, ...] = ()


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


def run_summary(run: KnownRun) -> RunSummary:
    """Return the facts about a run, whatever its end."""
    if run.manifest is not None:
        return _committed_summary(run.manifest)
    if run.ended is not None:
        return _ended_summary(run.ended)
    assert run.working is not None
    return RunSummary(
        run_id=run.working.run_id,
        outcome="unfinished",
        exit_code=None,
        started_at=run.working.started_at,
        finished_at=None,
        duration_seconds=None,
    )


def _committed_summary(manifest: Manifest) -> RunSummary:
    """Return the facts about a run that committed, as its manifest tells them."""
    counts = statuses(manifest)
    return RunSummary(
        run_id=manifest.run_id,
        outcome="partial" if counts["failed"] else "success",
        exit_code=EXIT_PARTIAL if counts["failed"] else EXIT_OK,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        duration_seconds=_seconds_between(manifest.started_at, manifest.finished_at),
        tables=len(manifest.attempted),
        extracted=counts["extracted"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        dropped=counts["dropped"],
        written_bytes=_written_bytes(manifest),
        stored_bytes=sum(entry.stored_bytes or 0 for entry in manifest.tables if entry.status != "dropped"),
        consistent=manifest.consistent,
    )


def _ended_summary(ended: Ended) -> RunSummary:
    return RunSummary(
        run_id=ended.run_id,
        outcome=ended.outcome,
        exit_code=ended.exit_code,
        started_at=ended.started_at,
        finished_at=ended.ended_at,
        duration_seconds=_seconds_between(ended.started_at, ended.ended_at),
        written_bytes=ended.uploaded_bytes,
        chunks=None if ended.chunks is UNSET else ended.chunks,
        chunks_done=None if ended.chunks_done is UNSET else ended.chunks_done,
        error=None if ended.error is UNSET else ended.error,
    )


def _seconds_between(start: str, end: str) -> float:
    between = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return round(max(0.0, between.total_seconds()), 3)


def plan_document(plan: RunPlan) -> PlanDocument:
    error = plan.refused
    refused = None if error is None else RefusedRun(error=error.sentence, hint=error.hint, exit_code=error.exit_code)
    left_out = tuple(LeftOutView(schema=one.table.schema, name=one.table.name, kind=one.kind) for one in plan.left_out)
    tables = tuple(map(planned, plan.tables))
    return PlanDocument(tables=tables, left_out=left_out, refused=refused, drift=plan.drift)


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
    return table.to_extract > 0 or table.reason.code not in ("unchanged", "journal", "identical")


def statuses(manifest: Manifest) -> dict[Status, int]:
    """Return the number of the tables that the run worked on, per status."""
    counts: dict[Status, int] = {"unchanged": 0, "extracted": 0, "failed": 0, "dropped": 0}
    for entry in manifest.attempted:
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


def _written_bytes(manifest: Manifest) -> int:
    """Return what the run put. Release 0.1.0 did not record it: then it is the size of the new objects."""
    if manifest.uploaded_bytes is not UNSET:
        return manifest.uploaded_bytes
    return sum(map(_written, manifest.attempted))


def _written(entry: TableEntry) -> int:
    if entry.status != "extracted":
        return 0
    return sum(part.stored_bytes for part in entry.objects if part.origin == "extracted")
