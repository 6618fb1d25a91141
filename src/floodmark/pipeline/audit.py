"""The last checks before an attempt's lines are used: an audit of chunks called unchanged, and of definitions.

`audit_budget` chooses the chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from floodmark.engine.base import TaskStopped
from floodmark.errors import SnapshotLost, SourceError, VerificationFailed
from floodmark.events import ChunkAudited, StepStarted, Warned
from floodmark.observed import TableInfo
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.audit_budget import Candidate, choose_audits
from floodmark.pipeline.extract import ChunkTask, Extractor, patiently
from floodmark.pipeline.plans import ChunkPlan
from floodmark.pipeline.work import TableWork
from floodmark.state.last_read import last_read

AuditedChunk = tuple[TableWork, ChunkPlan, bool]


def audit_tables(attempt: Attempt, works: Sequence[TableWork]) -> int:
    """Make the last checks. A table that fails one needs a new snapshot.

    Return the bytes of the audit's share that are left for the next run.

    Raises SnapshotLost if the snapshot is gone, and VerificationFailed if a chunk was wrongly called unchanged.
    """
    attempt.require_snapshot(works)
    chosen, carried = _choose(attempt, works)
    audited = _read_again(attempt, chosen)
    _require_same_definitions(attempt, works, audited)
    _require_no_mismatch(attempt, audited)
    attempt.require_snapshot(works)
    return carried


def _choose(attempt: Attempt, works: Sequence[TableWork]) -> tuple[list[tuple[TableWork, ChunkPlan]], int]:
    """Return the chunks to audit: of those that were proven unchanged, as many as the budget allows."""
    proven = [(work, chunk) for work in works if work.is_open for chunk in work.plan.chunks if chunk.proven]
    candidates = [_candidate(chunk) for _, chunk in proven]
    settings = attempt.settings
    choice = choose_audits(candidates, settings.audit_share, attempt.audit_carried, reads=settings.audit)
    return [proven[number] for number in choice.chosen], choice.carried


def _candidate(chunk: ChunkPlan) -> Candidate:
    known = chunk.remembered
    return Candidate("" if known is None else last_read(known.mark, known.object), chunk.estimated_bytes)


def _read_again(attempt: Attempt, chosen: Sequence[tuple[TableWork, ChunkPlan]]) -> list[AuditedChunk]:
    """Re-extract chunks that were proven unchanged; return each with True if its lines are still the same."""
    attempt.begin_step("auditing", chosen)
    extractor = Extractor(attempt.snapshot, attempt.backends, attempt.observer, attempt.deadline)

    def same_lines(task: tuple[TableWork, ChunkPlan]) -> bool:
        work, chunk = task
        known = chunk.remembered.object if chunk.remembered is not None else None
        digest = extractor.content_digest(ChunkTask(work.plan.info, chunk, "", {}))
        return digest == (None if known is None else known.content_sha256)

    audited: list[AuditedChunk] = []
    for (work, chunk), same in attempt.engine.run_tasks(same_lines, chosen):
        if isinstance(same, SnapshotLost):
            work.discard_result(same)
        elif isinstance(same, TaskStopped) and attempt.deadline.stop_asked:
            continue  # the run ends here, and says so itself
        elif isinstance(same, SourceError | TaskStopped):
            why = same.sentence if isinstance(same, SourceError) else "the run is ending"
            attempt.observer(Warned(f"a chunk of {work.table.label} could not be audited: {why}"))
        elif isinstance(same, BaseException):
            raise same
        elif work.is_open:  # another chunk of the table may have found it replaced
            audited.append((work, chunk, same))
            work.outcomes[chunk.chunk] = replace(work.outcomes[chunk.chunk], read_at=attempt.timestamp)
    return audited


def _require_same_definitions(attempt: Attempt, works: Sequence[TableWork], audited: Sequence[AuditedChunk]) -> None:
    """Reject the lines of a table if its definition changed while they were read."""
    read = {work.table: work for work in works if work.is_open and work.plan.to_extract}
    read |= {work.table: work for work, _, _ in audited}
    attempt.observer(StepStarted("comparing definitions"))
    compare = patiently(attempt.observer, "compare definitions")
    for table in compare(attempt.redefined_tables, [work.plan.info for work in read.values()]):
        read[table].discard_result(SnapshotLost("the definition changed while the table was read", on=table.label))


def _require_no_mismatch(attempt: Attempt, audited: Sequence[AuditedChunk]) -> None:
    for work, _, same in audited:
        if work.is_open:
            attempt.observer(ChunkAudited(work.table, same))
    infos = [work.plan.info for work, _, same in audited if not same and work.is_open]
    wrong = sorted({info.table.label for info in infos})
    if wrong:
        raise VerificationFailed(
            "the audit found a changed chunk that was called unchanged",
            on=", ".join(wrong),
            why="its lines differ from those that are stored",
            hint="Nothing was committed. Extract it again: `floodmark run --full --table TABLE`. "
            f"{_explain_mismatch(infos)}",
        )


def _explain_mismatch(wrong: Sequence[TableInfo]) -> str:
    """Return the meaning of a mismatch for the operator.

    If a proof was wrong, it is a bug to report. If the table is watched by a column, the text says only what a column
    can't show.
    """
    by_column = sorted({f"{info.table.label} by {info.watched}" for info in wrong if info.watched is not None})
    told = (
        f"`detect: column` ({', '.join(by_column)}) compares only the row count and the greatest value. It misses "
        "changes that leave both the same. If such changes happen, set `detect: exact`."
    )
    if all(info.watched is not None for info in wrong):
        return told
    report = "Please report this: a proof must never be wrong."
    return f"{report} {told}" if by_column else report
