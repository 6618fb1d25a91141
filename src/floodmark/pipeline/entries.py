"""A table's manifest entry, made from the outcomes of its chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from floodmark.errors import FloodmarkError, TableError
from floodmark.lineage import same_history
from floodmark.model import (
    ChunkMark,
    Encoding,
    JournalMark,
    ObjectEntry,
    Origin,
    PartDefinition,
    PartName,
    Point,
    Reason,
    TableEntry,
    Watermark,
)
from floodmark.observed import Observation, Part, TableInfo
from floodmark.pipeline.columns import list_names, same_columns
from floodmark.pipeline.detect import MAX_XID_GAP
from floodmark.pipeline.plans import ChunkPlan, TablePlan, weightiest
from floodmark.pipeline.remembered import Remembered, RememberedChunk
from floodmark.state.manifest import checksum

# The codes of a table whose chunks were all proven unchanged.
PROVEN = frozenset[str]({"unchanged", "journal"})


class ChunkOutcome(Struct, frozen=True, gc=False):
    """A settled chunk: its object (None: no lines) and its observation (None: no proof).

    `read_at` is the attempt's timestamp if the chunk was read and its key does not show that: its lines were there
    before, or it has none.
    """

    plan: ChunkPlan
    object: ObjectEntry | None
    observed: Observation | None
    read_at: str | None = None


class EntryFacts(Struct, frozen=True):
    """The facts that all entries of one snapshot share."""

    run_id: str
    point: Point
    encoding: Encoding


def proven_outcome(plan: ChunkPlan) -> ChunkOutcome:
    """Return the outcome of a chunk that needs no extraction: its object stays where it is.

    A range of a key can have another number than before.
    """
    assert plan.proven is not None
    known = None if plan.remembered is None else plan.remembered.object
    if known is not None and known.chunk != plan.chunk:
        known = replace(known, chunk=plan.chunk)
    return ChunkOutcome(plan, known, plan.proven)


def finished_entry(
    plan: TablePlan,
    outcomes: Sequence[ChunkOutcome],
    remembered: Remembered,
    facts: EntryFacts,
    seconds: float,
) -> TableEntry:
    """Return the entry of a table whose chunks are all settled. `outcomes` are in the order of the plan's chunks."""
    info, good = plan.info, remembered.good
    before = {entry.key for entry in good.objects} if good is not None else set()
    objects = tuple(_with_origin(one.object, before) for one in outcomes if one.object is not None)
    digest = checksum(objects)
    same_lines = good is not None and good.checksum == digest and same_columns(good.columns, info.columns)
    unchanged = same_lines and good is not None and good.encoding == facts.encoding and _all_reused(objects)
    return TableEntry(
        schema=info.table.schema,
        name=info.table.name,
        status="unchanged" if unchanged else "extracted",
        reason=_entry_reason(plan, outcomes, unchanged, good),
        as_of=facts.point.taken_at,
        changed_at=good.changed_at if good is not None and same_lines else facts.point.taken_at,
        changed_by=good.changed_by if good is not None and same_lines else facts.run_id,
        columns=info.columns,
        encoding=facts.encoding,
        fingerprint=info.fingerprint,
        watermark=_table_watermark(plan, outcomes, facts.point),
        checksum=digest,
        rows=sum(entry.rows for entry in objects),
        raw_bytes=sum(entry.raw_bytes for entry in objects),
        stored_bytes=sum(entry.stored_bytes for entry in objects),
        duration_seconds=round(seconds, 6),
        objects=objects,
        primary_key=info.primary_key or UNSET,
        unique_keys=info.unique_keys or UNSET,
        comment=info.comment or UNSET,
    )


def _with_origin(entry: ObjectEntry, before: set[str]) -> ObjectEntry:
    """Return an object with its origin: the last entry named it, or not. Most objects are the same as before."""
    origin: Origin = "reused" if entry.key in before else "extracted"
    return entry if entry.origin == origin else replace(entry, origin=origin)


def failed_entry(info: TableInfo, error: FloodmarkError, remembered: Remembered, seconds: float = 0.0) -> TableEntry:
    """Return the entry of a table that could not be read: the attempt's reason, with the last good snapshot."""
    code = error.code if isinstance(error, TableError) else "failed"
    detail = error.sentence if error.hint is None else f"{error.sentence}. {error.hint}"
    return kept_entry(info, Reason(code, detail), remembered, seconds)


def kept_entry(info: TableInfo, reason: Reason, remembered: Remembered, seconds: float = 0.0) -> TableEntry:
    """Return a `failed` entry that keeps the last good snapshot, if there is one."""
    table = info.table
    before = remembered.entry or TableEntry(schema=table.schema, name=table.name, status="failed", reason=reason)
    return replace(before, status="failed", reason=reason, duration_seconds=round(seconds, 6), carried_over=UNSET)


def dropped_entry(entry: TableEntry, reason: Reason) -> TableEntry:
    """Return the final entry of a table that is gone from the source, or is no table of its own any more."""
    return replace(
        entry,
        status="dropped",
        reason=reason,
        watermark=None,
        duration_seconds=0.0,
        carried_over=UNSET,
    )


def carried_over(entry: TableEntry) -> TableEntry:
    """Return the entry of a table that this run left out, as another run made it."""
    return replace(entry, carried_over=True)


def remembered_chunk(outcome: ChunkOutcome, info: TableInfo, point: Point) -> RememberedChunk | None:
    """Return a finished chunk as a remembered state for later snapshots to prove unchanged.

    Return None if the source can't prove anything about the chunk.
    """
    if outcome.observed is None:
        return None
    mark, part = _chunk_mark(outcome, outcome.observed, None), outcome.plan.part
    return RememberedChunk(
        mark,
        _point_for([part], point),
        info.oid,
        info.fingerprint,
        outcome.object,
        part.fingerprint,
        part.stamp,
        _code_of(outcome),
        _journal_mark(outcome.plan, point),
    )


def _code_of(outcome: ChunkOutcome) -> str | None:
    """Return the code of the reason why a chunk was read that no manifest names yet, under this snapshot or before."""
    plan = outcome.plan
    if plan.reason is not None:
        return plan.reason.code
    return None if plan.remembered is None else plan.remembered.reason


def _entry_reason(
    plan: TablePlan, outcomes: Sequence[ChunkOutcome], unchanged: bool, good: TableEntry | None
) -> Reason:
    """Return the entry's reason after all chunks are settled. `good` is the last entry."""
    planned, gone = plan.reason, _gone_partitions(plan.info, good)
    if unchanged:
        if planned.code in PROVEN:
            return planned
        return Reason("identical", f"read again ({planned.code}: {planned.detail}): the same lines as before")
    if planned.code not in PROVEN:
        return planned if gone is None else Reason(planned.code, f"{planned.detail}; {gone}")
    before = {entry.key for entry in good.objects} if good is not None else set()
    new = [one for one in outcomes if _is_uncommitted(one, before)]
    if new:
        codes = {code for code in map(_code_of, new) if code is not None}
        code = weightiest(codes) or ("first_run" if good is None else "rows_changed")
        return Reason(code, "it was read under an earlier snapshot, and is unchanged since")
    if good is None:
        return Reason("first_run", "never extracted before; it has no rows")
    by_ranges = any(part.ranges or part.digests for part in plan.info.parts)
    lost = "a range of its key has no rows any more" if by_ranges else "a partition was detached or dropped"
    return Reason("rows_removed", gone or lost)


def _is_uncommitted(outcome: ChunkOutcome, before: set[str]) -> bool:
    """Return True if no manifest has this state of the chunk yet: its object is new, or it gave no lines."""
    if outcome.object is not None:
        return outcome.object.key not in before
    return outcome.plan.remembered is not None and outcome.plan.remembered.stamp is not None


def _gone_partitions(info: TableInfo, good: TableEntry | None) -> str | None:
    """Return which partitions of the last entry are gone, in words, or None if none is known to be gone."""
    names = good.watermark.names if good is not None and good.watermark is not None else UNSET
    there = {part.id for part in info.parts}
    gone = [one.table.label for one in (() if names is UNSET else names) if one.part not in there]
    if not gone:
        return None
    verb = "was" if len(gone) == 1 else "were"
    return f"{'partition' if len(gone) == 1 else 'partitions'} {list_names(gone)} {verb} detached or dropped"


def _all_reused(objects: Sequence[ObjectEntry]) -> bool:
    return all(entry.origin == "reused" for entry in objects)


def _table_watermark(plan: TablePlan, outcomes: Sequence[ChunkOutcome], point: Point) -> Watermark | None:
    marks = []
    parts: dict[str, str] = {}
    index = 0
    for outcome in outcomes:
        if outcome.observed is not None:
            marks.append(_chunk_mark(outcome, outcome.observed, None if outcome.object is None else index))
            parts[outcome.plan.part.id] = outcome.plan.part.fingerprint
        index += outcome.object is not None
    if not marks:
        return None
    return Watermark(
        _point_for(plan.info.parts, point),
        plan.info.oid,
        tuple(marks),
        part_definitions(parts),
        _part_names(plan.info),
        journal_marks(_journal_mark(outcome.plan, point) for outcome in outcomes if outcome.observed is not None),
    )


def _point_for(parts: Sequence[Part], point: Point) -> Point:
    """Return the point for a watermark. It has no base in the WAL if the size of a part could not be measured.

    The part's last chunk can then hold blocks that are chunks of their own next time. A count shows that, and the list
    of written blocks does not.
    """
    return point if all(part.measured for part in parts) else replace(point, wal=UNSET)


def _journal_mark(plan: ChunkPlan, point: Point) -> JournalMark | None:
    """Return the mark of a part's journal in this snapshot, or None if it can't be used.

    A mark that an earlier snapshot made under the same objects knows better since when they were there. If the part's
    size could not be measured, its last chunk can hold blocks that are chunks of their own next time. A count shows
    that, and the journal does not.
    """
    facts, known = plan.part.journal, plan.remembered
    if facts is None or facts.doubt is not None or point.xmax is None or not plan.part.measured:
        return None
    mark = JournalMark(plan.part.id, facts.stamp, point.xmax)
    then = None if known is None else known.journal
    if known is None or then is None or then.stamp != mark.stamp or not _same_ids(known.point, point):
        return mark
    return replace(mark, since=min(mark.since, then.since))


def _same_ids(then: Point, now: Point) -> bool:
    """Return True if the transaction ids of two snapshots compare."""
    if then.lineage is None or then.xmin is None or now.xmax is None:
        return False
    return same_history(then.lineage, now.lineage) and now.xmax - then.xmin < MAX_XID_GAP


def journal_marks(found: Iterable[JournalMark | None]) -> tuple[JournalMark, ...] | UnsetType:
    """Return the marks for a watermark. Of several for one part and one snapshot the earliest `since` holds."""
    marks: dict[str, JournalMark] = {}
    for mark in found:
        if mark is not None and (mark.part not in marks or mark.since < marks[mark.part].since):
            marks[mark.part] = mark
    return tuple(marks.values()) or UNSET


def _part_names(info: TableInfo) -> tuple[PartName, ...] | UnsetType:
    """Return the names of a table's partitions for a watermark."""
    parts = [part for part in info.parts if part.table != info.table]
    return tuple(PartName(part.id, part.table.schema, part.table.name) for part in parts) or UNSET


def part_definitions(parts: Mapping[str, str]) -> tuple[PartDefinition, ...] | UnsetType:
    """Return the fingerprints of a table's parts for a watermark: those that differ from the table's own."""
    return tuple(PartDefinition(part, schema) for part, schema in parts.items() if schema) or UNSET


def _chunk_mark(outcome: ChunkOutcome, seen: Observation, index: int | None) -> ChunkMark:
    return ChunkMark(
        outcome.plan.chunk,
        seen.relfilenode,
        seen.rows,
        seen.frozen,
        index,
        provable=outcome.plan.part.no_proof is None,
        newest=seen.newest,
        digest=UNSET if seen.digest is None else seen.digest,
        audited=_audited_at(outcome),
    )


def _audited_at(outcome: ChunkOutcome) -> str | UnsetType:
    """Return when a chunk was last read, if its object's key does not tell it."""
    if outcome.read_at is not None:
        return outcome.read_at
    known = outcome.plan.remembered
    return UNSET if outcome.plan.reason is not None or known is None else known.mark.audited
