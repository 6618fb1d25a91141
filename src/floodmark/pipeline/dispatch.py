"""The extraction of all chunks that the plans name: each goes to the engine, and its outcome into the table's work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from floodmark.engine.base import TaskStopped
from floodmark.events import TableGivenUp
from floodmark.model import ObjectEntry, TableName
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.entries import ChunkOutcome
from floodmark.pipeline.extract import ChunkTask, Extractor
from floodmark.pipeline.plans import ChunkPlan
from floodmark.pipeline.remote import ChunkReply, RemoteChunks
from floodmark.pipeline.work import TableWork


def extract_chunks(attempt: Attempt, works: Sequence[TableWork]) -> None:
    """Extract every chunk that the plans name. The outcomes and errors are noted in `works`."""
    extractor = Extractor(attempt.snapshot, attempt.backends, attempt.observer, attempt.deadline)
    attempt.begin_step(
        "extracting", ((work, chunk) for work in works if work.is_open for chunk in work.plan.to_extract)
    )
    _run_tasks(attempt, extractor, ((work, task) for work in works for task in _tasks_of(attempt, work)))
    if not attempt.backends.layout.objects_stay:
        held_back = [pair for work in works for pair in _held_back(attempt, work)]
        attempt.begin_step("sending whole tables", ((work, task.plan) for work, task in held_back))
        _run_tasks(attempt, extractor, held_back)


def _run_tasks(attempt: Attempt, extractor: Extractor, tasks: Iterable[tuple[TableWork, ChunkTask]]) -> None:
    def one(pair: tuple[TableWork, ChunkTask]) -> ChunkOutcome:
        work, task = pair
        if attempt.deadline.reached() or not work.is_open:
            raise TaskStopped
        with work.timed():
            return extractor.extract_chunk(task)

    remote = _remote_chunks(attempt, extractor)
    for (work, task), outcome in attempt.engine.run_tasks(one, tasks, None if remote is None else remote.away):
        if remote is not None:
            outcome = _returned(remote, work, task, outcome)
        if isinstance(outcome, BaseException):
            work.record_error(outcome)
            attempt.observer(TableGivenUp(work.table))
        else:
            if outcome.object is None or outcome.object.origin == "reused":
                outcome = replace(outcome, read_at=attempt.timestamp)  # the key of an object does not tell it
            work.outcomes[task.plan.chunk] = outcome
            attempt.chunk_done(work, outcome)


def _remote_chunks(attempt: Attempt, extractor: Extractor) -> RemoteChunks | None:
    """Return what other machines need, None if they must not read the snapshot, or if objects don't stay.

    A task can run twice, on two machines. Where objects don't stay, a late put could land a file again.
    """
    shared = attempt.snapshot.shared
    if shared is None or not attempt.backends.layout.objects_stay:
        return None
    return RemoteChunks(attempt, shared, extractor)


def _returned(
    remote: RemoteChunks, work: TableWork, task: ChunkTask, result: ChunkOutcome | ChunkReply | BaseException
) -> ChunkOutcome | BaseException:
    """Return the outcome that a thread of this process would have had."""
    away = remote.was_away(work, task)
    if isinstance(result, ChunkReply):
        return remote.outcome(task, result)
    return remote.error(work, result) if away and isinstance(result, BaseException) else result


def _tasks_of(attempt: Attempt, work: TableWork) -> Iterator[ChunkTask]:
    policy = attempt.policy_for(work.table)
    known = {} if policy.full or policy.resend else _known_objects(attempt, work.table)
    for number, chunk in enumerate(work.plan.chunks):
        if work.is_open and chunk.reason is not None:
            yield _task_for(attempt, work, number, chunk, known)


def _held_back(attempt: Attempt, work: TableWork) -> Iterator[tuple[TableWork, ChunkTask]]:
    """Yield the chunks that were not put because they were the same as before, and that must be put now.

    If objects do not stay at the destination, a table is sent whole or not at all. So if any of its chunks turned out
    to be new, the other chunks are put as well.
    """
    if work.is_open and work.plan.to_extract and not attempt.same_as_sent(work):
        for number, chunk in enumerate(work.plan.chunks):
            had = work.outcomes[chunk.chunk].object
            if had is not None and had.origin == "reused":
                yield work, _task_for(attempt, work, number, chunk, {})


def _task_for(
    attempt: Attempt, work: TableWork, number: int, chunk: ChunkPlan, known: dict[str, ObjectEntry]
) -> ChunkTask:
    key, stays = attempt.object_key(work.table, number), attempt.backends.layout.objects_stay
    return ChunkTask(work.plan.info, chunk, key, known, put_identical=stays)


def _known_objects(attempt: Attempt, table: TableName) -> dict[str, ObjectEntry]:
    """Return the table's stored objects by content digest, if they are written with this run's encoding."""
    remembered = attempt.remembered_of(table)
    good = remembered.good
    stored = list(good.objects) if good is not None else []
    otherwise_written = {
        entry.key for entry in stored if good is not None and good.encoding != attempt.backends.encoding
    }
    stored += [known.object for known in remembered.chunks.values() if known.object is not None]
    return {entry.content_sha256: entry for entry in stored if entry.key not in otherwise_written}
