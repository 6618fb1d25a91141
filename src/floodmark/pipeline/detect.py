"""Change detection: remembered state + observation → the action for every chunk, with its reason. Pure.

docs/change-detection.md holds the proof. In short: within one lineage, take a chunk with no row as young as the
remembered snapshot's xmin, and with as many rows as then. Such a chunk holds exactly the same rows. Every doubt is a
reason to extract; no code here ever concludes "unchanged" from a doubt.

A table can have a journal of the transactions that wrote to it. If the journal is certain that none did since, the
chunk is proven without a question. Any doubt leads to the question. The source's list of written blocks can prove a
chunk before its question is asked: see `blocks`.

Sources without row versions can prove by digest: a chunk with the digest of a remembered chunk gives the same lines,
whatever its place was.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from floodmark.model import Chunk, ChunkMark, Fingerprint, Point, Reason, ReasonCode, TableEntry
from floodmark.observed import JournalFacts, Observation, Part, Question, TableInfo
from floodmark.pipeline.chunks import chunks_of, new_chunk_bytes, remembered_cuts
from floodmark.pipeline.columns import column_changes
from floodmark.pipeline.plans import ChunkPlan, Policy, TablePlan, counted_detail, extract_again
from floodmark.pipeline.remembered import Remembered, RememberedChunk

# Transaction ids compare only within 2^31. Half of that leaves room for transactions that run meanwhile.
MAX_XID_GAP = 2**30

_PART_GONE = Reason("rows_removed", "the table is sent whole because a part of it is gone")


def plan_table(info: TableInfo, remembered: Remembered, policy: Policy, point: Point) -> TablePlan:
    """Cut a table into chunks and give each a reason to extract it or a question to the source."""
    sure = _reason_for_all(info, remembered, policy)
    cuts = remembered_cuts(remembered)
    size = new_chunk_bytes(info, policy.chunk_bytes, grows=policy.grows)
    chunks = []
    for part in info.parts:
        if part.digests:
            chunks += _plan_by_digest(info, part, remembered, sure, policy)
            continue
        same_part = cuts.get(part.id, {})
        rewritten = bool(same_part) and part.relfilenode not in same_part
        for chunk, is_last in chunks_of(part, same_part.get(part.relfilenode), size, all_read=policy.full):
            known = remembered.chunks.get(chunk)
            reason = sure or _reason_without_asking(info, part, known, remembered.good, rewritten)
            if reason is None and known is not None:
                reason = _lineage_reason(info, known, point)
            elif reason is None and not same_part:
                reason = _reason_for_a_new_part(info, part, remembered.good)
            chunks.append(_plan_chunk(info, part, ChunkPlan(part, chunk, is_last, None, reason, known)))
    return TablePlan(info, tuple(chunks))


def _plan_chunk(info: TableInfo, part: Part, plan: ChunkPlan) -> ChunkPlan:
    """Return the plan with the journal's proof or with a question, unless there is a reason to extract the chunk."""
    if plan.reason is not None:
        return plan
    known = plan.remembered
    if known is not None and info.watched is None and _journal_proves(part.journal, known):
        seen = Observation(known.mark.rows, 0, known.mark.frozen, known.mark.relfilenode)
        return replace(plan, proven=seen, by_journal=True)
    return replace(plan, question=_question_for(info, part, plan.chunk, plan.open, known))


def _journal_proves(facts: JournalFacts | None, known: RememberedChunk) -> bool:
    """Return True if the journal is certain that no transaction wrote to a chunk since it was remembered.

    Whoever could have written since then has an id from x1 on. The journal's objects are those of then, and such a
    transaction can only have run under them (`since`). So it would be in the journal, which lacks none from the floor
    on. The caller has checked lineage, definition and file.
    """
    mark, x1 = known.journal, known.point.xmin
    if facts is None or facts.doubt is not None or mark is None or x1 is None:
        return False
    return mark.stamp == facts.stamp and mark.since <= x1 and facts.floor <= x1 and facts.newest <= x1


def _plan_by_digest(
    info: TableInfo, part: Part, remembered: Remembered, sure: Reason | None, policy: Policy
) -> list[ChunkPlan]:
    """Plan a part that is proven by digest: ask for each digest if any remembered chunk could have it."""
    reason = sure or _definition_reason(info, part, None, remembered.good)
    if reason is None and part.no_proof is not None:
        reason = Reason("no_proof", part.no_proof)
    known = {} if reason is not None else _known_digests(info, part, remembered)
    if reason is None and not known:
        reason = Reason("no_proof", "it was last read without a digest")
    return [
        ChunkPlan(part, chunk, is_last, None, reason, remembered.chunks.get(chunk))
        if reason is not None
        else ChunkPlan(part, chunk, is_last, Question(info.table, part, chunk, is_last, 0), digests=known)
        for chunk, is_last in chunks_of(part, None, policy.chunk_bytes)
    ]


def _known_digests(info: TableInfo, part: Part, remembered: Remembered) -> dict[str, RememberedChunk]:
    """Return the remembered chunks of a part by digest: those that were read under the same definition."""
    return {
        known.mark.digest: known
        for known in remembered.chunks.values()
        if known.mark.digest is not UNSET
        and known.mark.provable
        and known.mark.chunk.part == part.id
        and known.fingerprint == info.fingerprint
        and known.part == part.fingerprint
    }


def _question_for(info: TableInfo, part: Part, chunk: Chunk, is_last: bool, known: RememberedChunk | None) -> Question:
    """Return the question if a chunk changed. For new blocks in a known file, ask only if they hold a row."""
    if known is None:
        return Question(info.table, part, chunk, is_last, 0, probe=True)
    return Question(info.table, part, chunk, is_last, known.point.xmin or 0, info.watched)


def settle_plan(
    plan: TablePlan, observations: Sequence[Observation], policy: Policy, remembered: Remembered | None = None
) -> TablePlan:
    """Turn every question of a plan into a proof or a reason. `observations` answer `plan.questions` in order.

    If objects do not stay at the destination, a table is sent whole if any of its chunks changed, or is gone.
    """
    answers = iter(observations)
    chunks = tuple(_judge_answer(chunk, next(answers)) if chunk.question else chunk for chunk in plan.chunks)
    if not policy.objects_stay:
        if any(chunk.reason for chunk in chunks):
            chunks = tuple(_extracted_with_the_rest(chunk) for chunk in chunks)
        elif remembered is not None and not _is_all_that_was_sent(chunks, remembered):
            chunks = tuple(extract_again(chunk, _PART_GONE) for chunk in chunks)
    return replace(plan, chunks=chunks)


def _is_all_that_was_sent(chunks: Sequence[ChunkPlan], remembered: Remembered) -> bool:
    """Return True if proven chunks hold the lines that the receiver was sent last: no partition or range is gone."""
    proven = [chunk.remembered for chunk in chunks if chunk.remembered is not None]
    sent = [known for known in remembered.chunks.values() if known.stamp is not None]
    there = sorted(known.object.content_sha256 for known in proven if known.object is not None)
    if remembered.sent_since == "whole":
        return there == sorted(known.object.content_sha256 for known in sent if known.object is not None)
    good = remembered.good
    return good is None or there == sorted(entry.content_sha256 for entry in good.objects)


def without_objects(plan: TablePlan, missing: set[str]) -> TablePlan:
    """Add the chunks whose object is missing from the destination to those to extract."""
    chunks = (
        extract_again(chunk, Reason("objects_missing", "the stored object is gone"))
        if chunk.reason is None and chunk.stored_key in missing
        else chunk
        for chunk in plan.chunks
    )
    return replace(plan, chunks=tuple(chunks))


def _extract_counted(chunk: ChunkPlan, code: ReasonCode, rows: int) -> ChunkPlan:
    return extract_again(chunk, Reason(code, counted_detail(code, rows) or ""), rows)


def _reason_for_all(info: TableInfo, remembered: Remembered, policy: Policy) -> Reason | None:
    if policy.full:
        return Reason("forced", "--full was given")
    good = remembered.good
    if good is None and (policy.resend or not remembered.chunks):
        return Reason("first_run", "never extracted before")
    if remembered.sent_since == "half":
        return Reason("resend", "an earlier run began to send it and did not finish")
    if policy.resend:
        return Reason("resend", "it was last sent too long ago; the receiver can have lost it")
    return None


def _definition_reason(
    info: TableInfo, part: Part, known: RememberedChunk | None, good: TableEntry | None
) -> Reason | None:
    """Return the change in the definition or the configuration, or None if no change is known."""
    then = known.fingerprint if known else (good.fingerprint if good else None)
    if then is None:
        return None
    if _older_guards(then, info):
        # An earlier version made its digests from other facts. The digests do not compare, but the columns do.
        columns = column_changes(good.columns, info.columns) if good is not None else None
        if columns is not None:
            return Reason("schema_changed", columns)
    elif then.schema != info.fingerprint.schema:
        return Reason("schema_changed", _redefinition_detail(info, good))
    elif known is not None and known.part != part.fingerprint:
        return Reason(
            "schema_changed", f"the definition of partition {part.table.label}, or of a type that it uses, changed"
        )
    if then.config != info.fingerprint.config:
        return Reason("config_changed", "the columns, masks, filter or output format changed")
    return None


def _older_guards(then: Fingerprint, info: TableInfo) -> bool:
    return then.guards_version < info.fingerprint.guards_version


def _redefinition_detail(info: TableInfo, good: TableEntry | None) -> str:
    """Return the change of the columns since they were last landed, as far as it is known."""
    if good is None:
        return "the definition of the table, or of a type that it uses, changed"
    return column_changes(good.columns, info.columns) or (
        "the definition of the table, or of a type that it uses, changed; the names and types of its columns did not"
    )


def _reason_without_asking(
    info: TableInfo, part: Part, known: RememberedChunk | None, good: TableEntry | None, rewritten: bool
) -> Reason | None:
    """Return why a chunk must be extracted regardless of its rows, or None if its rows can answer."""
    if reason := _definition_reason(info, part, known, good):
        return reason
    if part.no_proof is not None:
        return Reason("no_proof", part.no_proof)
    if not part.measured:
        # Its last chunk can now hold more blocks than when it was remembered: the row counts would not compare.
        return Reason("no_proof", "the table was locked, so its size could not be measured")
    if rewritten or (known is not None and known.mark.relfilenode != part.relfilenode):
        return Reason("rewritten", "the table was rewritten or truncated")
    if known is None:
        return Reason("first_run", "never extracted before") if good is None else None
    if _older_guards(known.fingerprint, info):
        return Reason("no_proof", "an earlier version of Floodmark read it, with weaker checks")
    if not known.mark.provable:
        return Reason("no_proof", "no proof was possible when it was last read")
    return None


def _reason_for_a_new_part(info: TableInfo, part: Part, good: TableEntry | None) -> Reason:
    """Return why a part without remembered chunks is extracted although the table is remembered."""
    if part.id == str(info.oid):
        return Reason("rows_changed", "new blocks")
    if good is not None and any(one.chunk == Chunk(str(info.oid)) for one in good.objects):
        return Reason("no_proof", "it was read through its parent, which proves nothing about its partitions")
    return Reason("rows_changed", f"partition {part.table.label} was added")


def _lineage_reason(info: TableInfo, known: RememberedChunk, point: Point) -> Reason | None:
    then, now = known.point, point
    if info.watched is not None and known.table_oid == info.oid:
        return None  # the user chose detection by a column, so lineage does not matter
    if known.table_oid != info.oid:
        return Reason("lineage_changed", "the table was dropped and created again")
    if then.lineage is None or now.lineage is None or None in (then.xmin, then.xmax, now.xmin, now.xmax):
        return Reason("lineage_changed", "the source keeps no transaction history")
    if now.lineage.stats_reset is None:
        return Reason("lineage_changed", "the server does not show its crashes (no pg_stat_bgwriter.stats_reset)")
    if interruption := then.lineage.interruption(now.lineage):
        return Reason("lineage_changed", interruption)
    assert then.xmin is not None and then.xmax is not None and now.xmin is not None and now.xmax is not None
    if now.xmin < then.xmin or now.xmax < then.xmax:
        return Reason("lineage_changed", "transaction ids went backwards")
    if now.xmax - then.xmin >= MAX_XID_GAP:
        return Reason("lineage_changed", "too many transactions since then to compare their ids")
    return None


def _judge_answer(chunk: ChunkPlan, seen: Observation) -> ChunkPlan:
    """Judge one chunk by its observation: the last step of the proof."""
    if chunk.part.digests:
        return _judge_by_digest(chunk, seen)
    if chunk.remembered is None:
        return _judge_new_blocks(chunk, seen)
    mark = chunk.remembered.mark
    if seen.relfilenode != mark.relfilenode:
        return extract_again(chunk, Reason("rewritten", "the table was rewritten or truncated"))
    if chunk.question is not None and chunk.question.watched is not None:
        return _judge_by_column(chunk, mark, seen)
    if seen.young:
        return _extract_counted(chunk, "rows_changed", seen.young)
    if seen.rows < mark.rows:
        return _extract_counted(chunk, "rows_removed", mark.rows - seen.rows)
    if seen.rows != mark.rows or seen.frozen != mark.frozen:
        return extract_again(chunk, Reason("rows_changed", "the row count changed without a newer transaction"))
    return ChunkPlan(chunk.part, chunk.chunk, chunk.open, None, None, chunk.remembered, seen)


def _judge_by_digest(chunk: ChunkPlan, seen: Observation) -> ChunkPlan:
    """Judge a chunk by the digest of its values. The row count must agree too, as a second check."""
    known = None if seen.digest is None else chunk.digests.get(seen.digest)
    if known is None or known.mark.rows != seen.rows:
        return extract_again(chunk, Reason("rows_changed", "its digest changed"))
    return ChunkPlan(chunk.part, chunk.chunk, chunk.open, None, None, known, seen)


def _judge_new_blocks(chunk: ChunkPlan, seen: Observation) -> ChunkPlan:
    """Extract new blocks only if the snapshot shows a row in them."""
    if seen.relfilenode != chunk.part.relfilenode:
        return extract_again(chunk, Reason("rewritten", "the table was rewritten or truncated"))
    if seen.rows:
        return extract_again(chunk, Reason("rows_changed", "new blocks"))
    return ChunkPlan(chunk.part, chunk.chunk, chunk.open, proven=Observation(0, 0, 0, seen.relfilenode))


def _judge_by_column(chunk: ChunkPlan, mark: ChunkMark, seen: Observation) -> ChunkPlan:
    """Judge a chunk by its row count and the watched column's greatest value.

    This is no proof: a change that leaves both as they were goes unseen.
    """
    if seen.rows < mark.rows:
        return _extract_counted(chunk, "rows_removed", mark.rows - seen.rows)
    if seen.rows != mark.rows or seen.newest != mark.newest:
        return extract_again(chunk, Reason("rows_changed", "the count or the watched column's greatest value changed"))
    return ChunkPlan(chunk.part, chunk.chunk, chunk.open, None, None, chunk.remembered, seen)


def _extracted_with_the_rest(chunk: ChunkPlan) -> ChunkPlan:
    if chunk.reason is not None:
        return chunk
    return extract_again(chunk, Reason("rows_changed", "the table is sent whole because another chunk changed"))
