"""One attempt of a run: all work under one snapshot of the source. It observes, decides, extracts and audits.

A table's error affects only that table. A table that was rewritten or redefined under the snapshot is `lost`: it needs
a new snapshot, and the caller decides about that. An error of the destination ends the attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from floodmark.engine.base import TaskStopped
from floodmark.engine.local import LocalThreads
from floodmark.errors import FloodmarkError, SnapshotLost
from floodmark.events import TableFinished
from floodmark.model import ObjectEntry, Reason, TableEntry, TableInfo, TableName
from floodmark.pipeline.audit import audit, require_no_mismatch, require_same_definitions
from floodmark.pipeline.detect import ChunkPlan
from floodmark.pipeline.entries import ChunkOutcome, failed, finished, kept, proven
from floodmark.pipeline.extract import Extractor, Job
from floodmark.pipeline.observe import decide
from floodmark.pipeline.remembered import Remembered
from floodmark.pipeline.work import Context, Work
from floodmark.state.manifest import checksum


class Result(Struct, frozen=True):
    """The result of an attempt. `lost` tables have no entry: they need a new snapshot."""

    entries: dict[TableName, TableEntry]
    lost: dict[TableName, FloodmarkError]


def attempt(context: Context, tables: Sequence[TableInfo]) -> Result:
    """Do all the work that one snapshot allows.

    Raises StorageError and VerificationFailed. Raises SourceError if the snapshot itself is gone, or if too much was
    lost with it.
    """
    works = decide(context, tables)
    extractor = Extractor(
        context.snapshot,
        context.destination,
        context.layout,
        context.encoding,
        context.observer,
        context.stopping,
    )
    for work in works:
        if work.open:
            _take_proven(context, work)
    sending = [work.table for work in works if work.open and work.plan.to_extract]
    if sending:
        context.announce(sending)
    _extract(context, extractor, works)
    if not context.layout.objects_stay:
        _extract_what_was_held_back(context, extractor, works)
        for work in works:
            if work.open and len(work.outcomes) == len(work.plan.chunks):
                context.landed(work.table, not _same_as_before(context, work))
    _require_snapshot(context, works)
    audited = audit(context, extractor, works)
    require_same_definitions(context, works, audited)
    require_no_mismatch(context, audited)
    _require_snapshot(context, works)
    return _result(context, works)


def _take_proven(context: Context, work: Work) -> None:
    """Settle the proven chunks.

    A proven chunk that no manifest names yet counts as finished by this run.
    """
    good = context.of(work.table).good
    committed = {entry.key for entry in good.objects} if good is not None else set()
    for chunk in work.plan.chunks:
        if chunk.proven is not None:
            outcome = work.outcomes[chunk.chunk] = proven(chunk)
            if outcome.object is not None and outcome.object.key not in committed:
                context.done(work.plan.info, outcome)


def _require_snapshot(context: Context, works: Sequence[Work]) -> None:
    """Raise SnapshotLost if the snapshot is gone.

    The run uses nothing that was read under it, and proves finished chunks again under the next snapshot.
    """
    if not context.snapshot.stands():
        lost = next((work.error for work in works if work.lost), None)
        raise lost or SnapshotLost("the snapshot is gone", why="its transaction was ended while the tables were read")


def _extract(context: Context, extractor: Extractor, works: Sequence[Work]) -> None:
    _run_jobs(context, extractor, ((work, job) for work in works for job in _jobs(context, work)))


def _extract_what_was_held_back(context: Context, extractor: Extractor, works: Sequence[Work]) -> None:
    """Put the chunks that were held back because they were the same as before.

    If objects do not stay at the destination, a table is sent whole or not at all. So if any of its chunks turned out
    to be new, the chunks that were not put are put now.
    """
    again = []
    for work in works:
        if work.open and work.plan.to_extract and not _same_as_before(context, work):
            again += [
                (work, _job(context, work, number, chunk, {}))
                for number, chunk in enumerate(work.plan.chunks)
                if (had := work.outcomes[chunk.chunk].object) is not None and had.origin == "reused"
            ]
    _run_jobs(context, extractor, again)


def _same_as_before(context: Context, work: Work) -> bool:
    """Return True if these lines are the last ones that the receiver was sent of the table."""
    remembered = context.of(work.table)
    good = remembered.good if remembered.sent_since == "nothing" else None
    objects = [outcome.object for outcome in in_order(work) if outcome.object is not None]
    return good is not None and good.checksum == checksum(objects)


def _run_jobs(context: Context, extractor: Extractor, jobs: Iterable[tuple[Work, Job]]) -> None:
    def extract(task: tuple[Work, Job]) -> ChunkOutcome:
        work, job = task
        if context.stopping() or not work.open:
            raise TaskStopped
        with work.timed():
            return extractor.extract(job)

    for (work, job), outcome in LocalThreads(context.snapshot.parallelism).run(extract, jobs):
        if isinstance(outcome, BaseException):
            work.fail(outcome)
        else:
            work.outcomes[job.plan.chunk] = outcome
            context.done(work.plan.info, outcome)


def _jobs(context: Context, work: Work) -> Iterator[Job]:
    remembered = context.of(work.table)
    policy = context.policy(remembered)
    known = {} if policy.full or policy.resend else _known_objects(context, remembered)
    for number, chunk in enumerate(work.plan.chunks):
        if work.open and chunk.reason is not None:
            yield _job(context, work, number, chunk, known)


def _job(context: Context, work: Work, number: int, chunk: ChunkPlan, known: dict[str, ObjectEntry]) -> Job:
    key = context.key(work.table, number)
    return Job(work.plan.info, chunk, key, known, put_identical=context.layout.objects_stay)


def _known_objects(context: Context, remembered: Remembered) -> dict[str, ObjectEntry]:
    """Return the table's stored objects by content digest, if they are written with this run's encoding."""
    good = remembered.good
    stored = list(good.objects) if good is not None else []
    otherwise_written = {entry.key for entry in stored if good is not None and good.encoding != context.encoding}
    stored += [known.object for known in remembered.chunks.values() if known.object is not None]
    return {entry.content_sha256: entry for entry in stored if entry.key not in otherwise_written}


def in_order(work: Work) -> list[ChunkOutcome]:
    """Return the outcomes of a table's chunks, in the order of the table's lines."""
    return [work.outcomes[chunk.chunk] for chunk in work.plan.chunks]


def _result(context: Context, works: Sequence[Work]) -> Result:
    entries: dict[TableName, TableEntry] = {}
    for work in works:
        remembered = context.of(work.table)
        if work.lost:
            continue
        if work.error is not None:
            entry = failed(work.plan.info, work.error, remembered, work.seconds)
        elif work.stopped or len(work.outcomes) < len(work.plan.chunks):
            entry = kept(work.plan.info, Reason("deadline", "the run ended before the table was done"), remembered)
        else:
            entry = finished(work.plan, in_order(work), remembered, context.attempt, work.seconds)
        entries[work.table] = entry
        context.observer(TableFinished(entry))
    return Result(entries, {work.table: work.error for work in works if work.lost and work.error is not None})
