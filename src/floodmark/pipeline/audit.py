"""The last checks before an attempt's lines are used: an audit of chunks called unchanged, and of definitions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from floodmark.engine.base import TaskStopped
from floodmark.engine.local import LocalThreads
from floodmark.errors import SnapshotLost, SourceError, VerificationFailed
from floodmark.events import Audited, Warned
from floodmark.model import TableInfo
from floodmark.pipeline.detect import ChunkPlan
from floodmark.pipeline.extract import Extractor, Job, patiently
from floodmark.pipeline.work import Context, Work

Audit = tuple[Work, ChunkPlan, bool]


def audit(context: Context, extractor: Extractor, works: Sequence[Work]) -> list[Audit]:
    """Re-extract a few chunks that were proven unchanged; return each with True if its lines are still the same."""
    candidates = [(work, chunk) for work in works if work.open for chunk in work.plan.chunks if chunk.proven]
    chosen = random.Random(context.attempt.run_id).sample(candidates, min(context.audit_chunks, len(candidates)))

    def same_lines(task: tuple[Work, ChunkPlan]) -> bool:
        work, chunk = task
        known = chunk.remembered.object if chunk.remembered is not None else None
        digest = extractor.digest(Job(work.plan.info, chunk, "", {}))
        return digest == (None if known is None else known.content_sha256)

    audited: list[Audit] = []
    for (work, chunk), same in LocalThreads(context.snapshot.parallelism).run(same_lines, chosen):
        if isinstance(same, SnapshotLost):
            work.outcomes.clear()
            work.fail(same)
        elif isinstance(same, SourceError | TaskStopped):
            why = same.sentence if isinstance(same, SourceError) else "the run is ending"
            context.observer(Warned(f"a chunk of {work.table.label} could not be audited: {why}"))
        elif isinstance(same, BaseException):
            raise same
        else:
            audited.append((work, chunk, same))
    return audited


def require_same_definitions(context: Context, works: Sequence[Work], audited: Sequence[Audit]) -> None:
    """Reject the lines of a table if its definition changed while they were read."""
    read = {work.table: work for work in works if work.open and work.plan.to_extract}
    read |= {work.table: work for work, _, _ in audited}
    redefined = patiently(context.observer, "compare definitions")
    for table in redefined(context.redefined, [work.plan.info for work in read.values()]):
        work = read[table]
        work.outcomes.clear()
        work.fail(SnapshotLost("the definition changed while the table was read", on=table.label))


def require_no_mismatch(context: Context, audited: Sequence[Audit]) -> None:
    for work, _, same in audited:
        if work.open:
            context.observer(Audited(work.table, same))
    infos = [work.plan.info for work, _, same in audited if not same and work.open]
    wrong = sorted({info.table.label for info in infos})
    if wrong:
        raise VerificationFailed(
            "the audit found a chunk that was called unchanged and is not",
            on=", ".join(wrong),
            why="its lines differ from those that are stored",
            hint=f"Nothing was committed. Extract it anew with `floodmark run --full --table TABLE`. {_meaning(infos)}",
        )


def _meaning(wrong: Sequence[TableInfo]) -> str:
    """Return the meaning of a mismatch for the operator.

    If a proof was wrong, it is a bug to report. If the table goes by a column, the text says only what a column can't
    show.
    """
    by_column = sorted({f"{info.table.label} by {info.watched}" for info in wrong if info.watched is not None})
    told = (
        f"`detect: column` ({', '.join(by_column)}) sees the number of rows and the greatest value alone: changes that "
        "leave both as they were are missed. Where such are made, leave `detect` at exact."
    )
    if all(info.watched is not None for info in wrong):
        return told
    report = "Please report this: a proof must never be wrong."
    return f"{report} {told}" if by_column else report
