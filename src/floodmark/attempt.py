"""One attempt of a run: everything done under one snapshot of the source. Observe, decide, extract, audit.

A table's error is the table's own, and a table that was rewritten or redefined under the snapshot is `lost`:
it needs a new snapshot, as the caller decides. An error of the destination ends the attempt.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from msgspec import Struct

from floodmark.detect import (
    ChunkPlan,
    Policy,
    Remembered,
    RememberedChunk,
    TablePlan,
    assess,
    settle,
    without_objects,
)
from floodmark.entries import Attempt, ChunkOutcome, failed, finished, kept, proven, remembered_after
from floodmark.errors import FloodmarkError, SnapshotLost, SourceError, VerificationFailed
from floodmark.events import Observer, TableDecided, TableFinished, Warned
from floodmark.extract import Extractor, Job, StopAsked, patiently, run_all
from floodmark.layout import Layout
from floodmark.model import Chunk, Encoding, ObjectEntry, Observation, Reason, TableEntry, TableInfo, TableName
from floodmark.source.base import Snapshot
from floodmark.state.manifest import checksum
from floodmark.storage.base import Storage

# A batch of questions is one transaction, and holds its locks about as long as one chunk would.
_BATCH_QUESTIONS = 64
_BATCH_BYTES = 64 * 1024**2


class Context(Struct, frozen=True):
    """What an attempt works with. `key` makes an object's key of a table and a chunk's number;
    `stopping` says that the run is to end (told to, or out of time)."""

    snapshot: Snapshot
    destination: Storage
    layout: Layout
    encoding: Encoding
    attempt: Attempt
    policy: Callable[[Remembered], Policy]
    remembered: Mapping[TableName, Remembered]
    key: Callable[[TableName, int], str]
    observer: Observer
    stopping: Callable[[], bool]
    redefined: Callable[[Sequence[TableInfo]], Sequence[TableName]]
    audit_chunks: int

    def of(self, table: TableName) -> Remembered:
        return self.remembered.get(table, Remembered())


class Work:
    """A table while it is worked on."""

    def __init__(self, plan: TablePlan) -> None:
        self.plan = plan
        self.outcomes: dict[Chunk, ChunkOutcome] = {}
        self.error: FloodmarkError | None = None
        self.lost = False
        self.stopped = False
        self._begun: float | None = None
        self._ended = 0.0

    @property
    def table(self) -> TableName:
        return self.plan.info.table

    @property
    def seconds(self) -> float:
        """From the first task's beginning to the last one's end, whatever other tables were worked on between."""
        return 0.0 if self._begun is None else max(0.0, self._ended - self._begun)

    @contextmanager
    def timed(self) -> Iterator[None]:
        begun = time.monotonic()
        self._begun = begun if self._begun is None else min(self._begun, begun)
        try:
            yield
        finally:
            self._ended = max(self._ended, time.monotonic())

    @property
    def open(self) -> bool:
        """Whether there is sense in working on."""
        return self.error is None and not self.stopped

    def fail(self, error: BaseException) -> None:
        """Take what a task ended with; what is not this table's own goes on up."""
        if isinstance(error, StopAsked):
            self.stopped = True
        elif isinstance(error, SourceError):
            self.error = self.error or error
            self.lost = self.lost or isinstance(error, SnapshotLost)
        else:
            raise error


class Result(Struct, frozen=True):
    """What an attempt came to. `lost` tables have no entry; `chunks` is what a new snapshot may start from."""

    entries: dict[TableName, TableEntry]
    lost: dict[TableName, FloodmarkError]
    chunks: dict[TableName, dict[Chunk, RememberedChunk]]


def decide(context: Context, tables: Sequence[TableInfo]) -> list[Work]:
    """Observe and decide: each table with its settled plan, or with the error it met."""
    works = []
    for info in tables:
        remembered = context.of(info.table)
        works.append(Work(assess(info, remembered, context.policy(remembered), context.snapshot.point)))
    _observe(context, works)
    for work in works:
        if work.open:
            _look_for_objects(context, work)
            plan, chunks = work.plan, work.plan.to_extract
            context.observer(
                TableDecided(
                    plan.info.table,
                    plan.reason,
                    len(plan.chunks),
                    len(chunks),
                    sum(chunk.estimated_bytes for chunk in chunks),
                )
            )
    return works


def attempt(context: Context, tables: Sequence[TableInfo]) -> Result:
    """Do everything that one snapshot allows. Raises StorageError, VerificationFailed."""
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
            work.outcomes = {chunk.chunk: proven(chunk) for chunk in work.plan.chunks if chunk.proven is not None}
    _extract(context, extractor, works)
    if not context.layout.objects_stay:
        _extract_what_was_held_back(context, extractor, works)
    audited = _audit(context, extractor, works)
    _require_same_definitions(context, works, audited)
    _require_no_mismatch(audited)
    return _result(context, works)


Asked = tuple[Work, ChunkPlan]


def _observe(context: Context, works: Sequence[Work]) -> None:
    """Ask all questions and settle the plans. Where a batch meets an error, its questions are asked singly."""
    asked = [(work, chunk) for work in works for chunk in work.plan.chunks if chunk.question is not None]
    answers: dict[tuple[TableName, Chunk], Observation] = {}
    alone: list[Asked] = []
    for batch, found in _answers(context, _batches(asked, _BATCH_BYTES)):
        if isinstance(found, SourceError) and len(batch) > 1:
            alone += batch
        else:
            _take(batch, found, answers)
    for batch, found in _answers(context, ([one] for one in alone)):
        _take(batch, found, answers)
    for work in works:
        if work.open:
            seen = [answers[work.table, question.chunk] for question in work.plan.questions]
            work.plan = settle(work.plan, seen, context.policy(context.of(work.table)))


def _answers(
    context: Context, batches: Iterable[list[Asked]]
) -> Iterator[tuple[list[Asked], list[Observation] | BaseException]]:
    def ask(batch: list[Asked]) -> list[Observation]:
        if context.stopping():
            raise StopAsked
        questions = [chunk.question for _, chunk in batch if chunk.question is not None]
        with ExitStack() as timers:
            for work in {id(work): work for work, _ in batch}.values():
                timers.enter_context(work.timed())
            return patiently(context.observer, "observe")(context.snapshot.observe, questions)

    return run_all(ask, batches, context.snapshot.parallelism)


def _take(
    batch: list[Asked], found: list[Observation] | BaseException, answers: dict[tuple[TableName, Chunk], Observation]
) -> None:
    if isinstance(found, BaseException):
        for work, _ in batch:
            work.fail(found)
    else:
        answers |= {(work.table, chunk.chunk): seen for (work, chunk), seen in zip(batch, found, strict=True)}


def _batches(asked: Iterable[Asked], limit: int) -> Iterator[list[Asked]]:
    """Small chunks are observed many to a transaction, which reads about as much as one large one would."""
    batch: list[Asked] = []
    size = 0
    for one in asked:
        weight = one[1].estimated_bytes
        if batch and (size + weight > limit or len(batch) == _BATCH_QUESTIONS):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield batch


def _look_for_objects(context: Context, work: Work) -> None:
    """A changed table names its unchanged chunks' objects again, so they must still be there."""
    if not context.layout.objects_stay or not work.plan.to_extract:
        return
    keys = {chunk.stored_key for chunk in work.plan.chunks if chunk.proven is not None} - {None}
    found = run_all(lambda key: context.destination.stat(str(key)), keys, context.snapshot.parallelism)
    missing = set()
    for key, stat in found:
        if isinstance(stat, BaseException):
            raise stat
        if stat is None:
            missing.add(str(key))
    work.plan = without_objects(work.plan, missing)


def _extract(context: Context, extractor: Extractor, works: Sequence[Work]) -> None:
    _run_jobs(context, extractor, ((work, job) for work in works for job in _jobs(context, work)))


def _extract_what_was_held_back(context: Context, extractor: Extractor, works: Sequence[Work]) -> None:
    """Where objects do not stay, a table is sent whole or not at all: if any of its chunks turned out to be
    new, those that were not put because they were the same as before are put after all."""
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
    good = context.of(work.table).good
    objects = [outcome.object for outcome in in_order(work) if outcome.object is not None]
    return good is not None and good.checksum == checksum(objects)


def _run_jobs(context: Context, extractor: Extractor, jobs: Iterable[tuple[Work, Job]]) -> None:
    def extract(task: tuple[Work, Job]) -> ChunkOutcome:
        work, job = task
        if context.stopping() or not work.open:
            raise StopAsked
        with work.timed():
            return extractor.extract(job)

    for (work, job), outcome in run_all(extract, jobs, context.snapshot.parallelism):
        if isinstance(outcome, BaseException):
            work.fail(outcome)
        else:
            work.outcomes[job.plan.chunk] = outcome


def _jobs(context: Context, work: Work) -> Iterator[Job]:
    remembered = context.of(work.table)
    known = {} if context.policy(remembered).full else _known_objects(context, remembered)
    for number, chunk in enumerate(work.plan.chunks):
        if work.open and chunk.reason is not None:
            yield _job(context, work, number, chunk, known)


def _job(context: Context, work: Work, number: int, chunk: ChunkPlan, known: dict[str, ObjectEntry]) -> Job:
    key = context.key(work.table, number)
    return Job(work.plan.info, chunk, key, known, put_identical=context.layout.objects_stay)


def _known_objects(context: Context, remembered: Remembered) -> dict[str, ObjectEntry]:
    """The table's stored objects by content, if they are written as this run writes."""
    good = remembered.good
    stored = list(good.objects) if good is not None else []
    otherwise_written = {entry.key for entry in stored if good is not None and good.encoding != context.encoding}
    stored += [known.object for known in remembered.chunks.values() if known.object is not None]
    return {entry.content_sha256: entry for entry in stored if entry.key not in otherwise_written}


Audit = tuple[Work, ChunkPlan, bool]


def _audit(context: Context, extractor: Extractor, works: Sequence[Work]) -> list[Audit]:
    """Re-extract a few chunks that were proven unchanged; each with whether its lines are what they were."""
    candidates = [(work, chunk) for work in works if work.open for chunk in work.plan.chunks if chunk.proven]
    chosen = random.Random(context.attempt.run_id).sample(candidates, min(context.audit_chunks, len(candidates)))

    def audit(task: tuple[Work, ChunkPlan]) -> bool:
        work, chunk = task
        known = chunk.remembered.object if chunk.remembered is not None else None
        digest = extractor.digest(Job(work.plan.info, chunk, "", {}))
        return digest == (None if known is None else known.content_sha256)

    audited: list[Audit] = []
    for (work, chunk), same in run_all(audit, chosen, context.snapshot.parallelism):
        if isinstance(same, SourceError | StopAsked):
            why = same.sentence if isinstance(same, SourceError) else "the run is ending"
            context.observer(Warned(f"a chunk of {work.table.label} could not be audited: {why}"))
        elif isinstance(same, BaseException):
            raise same
        else:
            audited.append((work, chunk, same))
    return audited


def _require_same_definitions(context: Context, works: Sequence[Work], audited: Sequence[Audit]) -> None:
    """Where a definition changed while lines were read, the lines are not to be used."""
    read = {work.table: work for work in works if work.open and work.plan.to_extract}
    read |= {work.table: work for work, _, _ in audited}
    for table in context.redefined([work.plan.info for work in read.values()]):
        work = read[table]
        work.outcomes.clear()
        work.fail(SnapshotLost("the definition changed while the table was read", on=table.label))


def _require_no_mismatch(audited: Sequence[Audit]) -> None:
    wrong = sorted({work.table.label for work, _, same in audited if not same and work.open})
    if wrong:
        raise VerificationFailed(
            "the audit found a chunk that was called unchanged and is not",
            on=", ".join(wrong),
            why="its lines differ from those that are stored",
            hint="Nothing was committed. Extract it anew with `floodmark run --full --table TABLE`, and please "
            "report this: it must never happen.",
        )


def in_order(work: Work) -> list[ChunkOutcome]:
    """The outcomes of a table's chunks, in the order of its lines."""
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
    chunks = {w.table: remembered_after(list(w.outcomes.values()), w.plan, context.attempt.point) for w in works}
    return Result(entries, {w.table: w.error for w in works if w.lost and w.error is not None}, chunks)
