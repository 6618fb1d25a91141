"""Questions to the source and the destination, and the settled plan of each table. `detect` makes the judgement."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

from floodmark.engine.base import TaskStopped
from floodmark.engine.local import LocalThreads
from floodmark.errors import SourceError
from floodmark.events import StepAdvanced, StepStarted, TableDecided, TableGivenUp, WrittenBlocksRead
from floodmark.meter import ChunkMeter
from floodmark.model import Chunk, ObjectEntry, TableName, WalBase
from floodmark.observed import BlockQuestion, Observation, WrittenBlocks
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.blocks import block_questions, bytes_to_spare, prove_unwritten
from floodmark.pipeline.detect import plan_table, settle_plan, without_objects
from floodmark.pipeline.extract import patiently, still_there
from floodmark.pipeline.plans import ChunkPlan, TablePlan
from floodmark.pipeline.work import TableWork
from floodmark.source.base import BlockLog

# A batch of questions is one transaction. It holds its locks about as long as one chunk does.
_BATCH_QUESTIONS = 64
_BATCH_BYTES = 64 * 1024**2
# A wait for the list of written blocks must not take longer than a scan at this speed, but at least a moment.
SCANNED_PER_SECOND = 256 * 1024**2
SHORTEST_WAIT = 0.2
_BETWEEN_LOOKS = 0.02
# The list tells of the whole server, so it can be long although it spares little. So reading it must not take longer
# than a scan either, but at least this.
SHORTEST_READING = 1.0
# A checkpoint is a load on the server: it must spare the scan of this much.
BYTES_FOR_A_CHECKPOINT = 256 * 1024**2
# Threads that look at objects. The store takes most of the time of a look, and the source has no part in it.
LOOKS = 16
# A question about an empty table also takes time: about as much as a question that reads this many bytes.
_BYTES_OF_A_QUESTION = 128 * 1024

Asked = tuple[TableWork, ChunkPlan]


def observe_tables(attempt: Attempt) -> list[TableWork]:
    """Return each readable table with its settled plan, or with the error that it met."""
    works = []
    for info in attempt.readable_tables:
        plan = plan_table(info, attempt.remembered_of(info.table), attempt.policy_for(info.table), attempt.point)
        works.append(TableWork(plan))
    _look_for_writes(attempt, works)
    _ask_questions(attempt, works)
    _look_for_objects(attempt, [work for work in works if work.is_open])
    for work in works:
        if work.is_open:
            _tell_decision(attempt, work.plan)
    return works


def _look_for_writes(attempt: Attempt, works: Sequence[TableWork]) -> None:
    """Prove the chunks in which no block was written, if the source keeps a list of written blocks."""
    log = attempt.snapshot.block_log
    questions = block_questions(work.plan for work in works)
    if log is None or not any(work.plan.questions for work in works):
        return
    begun = time.monotonic()
    answers: dict[WalBase, WrittenBlocks] = {}
    if questions:
        _await_list(attempt, log, questions[0].base, bytes_to_spare(work.plan for work in works))
        answers = _read_list(attempt, log, questions, bytes_to_spare(work.plan for work in works))
    asked = sum(len(work.plan.questions) for work in works)
    for work in works:
        work.plan = prove_unwritten(work.plan, answers)
    spared = asked - sum(len(work.plan.questions) for work in works)
    doubts = (work.plan.why_counted for work in works)
    doubt = next((why for why in doubts if why), None)
    attempt.observer(WrittenBlocksRead(asked, spared, round(time.monotonic() - begun, 3), doubt))


def _read_list(
    attempt: Attempt, log: BlockLog, questions: Iterable[BlockQuestion], size: int
) -> dict[WalBase, WrittenBlocks]:
    """Ask the list for each base, the newest first, in no more time than a scan of what it can spare takes."""
    end = time.monotonic() + max(SHORTEST_READING, size / SCANNED_PER_SECOND)
    answers: dict[WalBase, WrittenBlocks] = {}
    for question in questions:
        if attempt.deadline.reached():
            break
        answers[question.base] = log.written(question, end - time.monotonic())
    return answers


def _await_list(attempt: Attempt, log: BlockLog, base: WalBase, size: int) -> None:
    """Wait for the list to be complete, but no longer than a scan of what it can spare takes, nor than the limit."""
    limit = attempt.settings.limits.wal_summary_wait
    if not limit or log.coverage(base) != "pending":
        return
    expected, scan = log.seconds_until_complete(), size / SCANNED_PER_SECOND
    end = time.monotonic() + min(limit, max(SHORTEST_WAIT, scan))
    if expected != 0 and log.may_checkpoint and size >= BYTES_FOR_A_CHECKPOINT:
        attempt.observer(StepStarted("waiting for a checkpoint"))
        log.checkpoint()
        end = max(end, time.monotonic() + SHORTEST_WAIT)  # for the summary that the checkpoint ended
    elif expected is None or expected > min(limit, scan):
        return
    elif expected:
        attempt.observer(StepStarted("waiting for a checkpoint"))
    while log.coverage(base) == "pending" and time.monotonic() < end and not attempt.deadline.wait(_BETWEEN_LOOKS):
        pass


def _tell_decision(attempt: Attempt, plan: TablePlan) -> None:
    """Tell the observer what is decided about a table."""
    chunks = plan.to_extract
    size = sum(chunk.estimated_bytes for chunk in chunks)
    unwritten = sum(chunk.unwritten for chunk in plan.chunks)
    attempt.observer(TableDecided(plan.info.table, plan.reason, len(plan.chunks), len(chunks), size, unwritten))


def _ask_questions(attempt: Attempt, works: Sequence[TableWork]) -> None:
    """Ask all questions and settle the plans. If a batch fails, ask_batch each of its questions separately."""
    asked = [(work, chunk) for work in works for chunk in work.plan.chunks if chunk.question is not None]
    attempt.begin_step("checking", asked)
    answers: dict[tuple[TableName, Chunk], Observation] = {}
    alone: list[Asked] = []
    for batch, found in _answer_batches(attempt, _group_questions(asked, _BATCH_BYTES)):
        if isinstance(found, SourceError) and len(batch) > 1:
            alone += batch
        else:
            _take_answers(attempt, batch, found, answers)
    for batch, found in _answer_batches(attempt, ([one] for one in alone)):
        _take_answers(attempt, batch, found, answers)
    for work in works:
        if work.is_open:
            seen = [answers[work.table, question.chunk] for question in work.plan.questions]
            policy, remembered = attempt.policy_for(work.table), attempt.remembered_of(work.table)
            work.plan = settle_plan(work.plan, seen, policy, remembered)


def _answer_batches(
    attempt: Attempt, batches: Iterable[list[Asked]]
) -> Iterator[tuple[list[Asked], list[Observation] | BaseException]]:
    def ask_batch(batch: list[Asked]) -> list[Observation]:
        if attempt.deadline.reached():
            raise TaskStopped
        questions = [chunk.question for _, chunk in batch if chunk.question is not None]
        begun = time.monotonic()
        try:
            with ExitStack() as meters:
                for work, chunk in batch:
                    meters.enter_context(ChunkMeter(attempt.observer, work.table, chunk.chunk, chunk.estimated_bytes))
                return patiently(attempt.observer, "observe")(attempt.snapshot.observe, questions)
        finally:
            _share_time(batch, time.monotonic() - begun)

    return attempt.engine.run_tasks(ask_batch, batches)


def _share_time(batch: Sequence[Asked], seconds: float) -> None:
    """Divide the time of a batch between its tables by the bytes that each question reads."""
    weights = [chunk.estimated_bytes + _BYTES_OF_A_QUESTION for _, chunk in batch]
    for (work, _), weight in zip(batch, weights, strict=True):
        work.add_seconds(seconds * weight / sum(weights))


def _take_answers(
    attempt: Attempt,
    batch: list[Asked],
    found: list[Observation] | BaseException,
    answers: dict[tuple[TableName, Chunk], Observation],
) -> None:
    if isinstance(found, BaseException):
        for work, _ in batch:
            work.record_error(found)
            attempt.observer(TableGivenUp(work.table))
    else:
        answers |= {(work.table, chunk.chunk): seen for (work, chunk), seen in zip(batch, found, strict=True)}


def _group_questions(asked: Iterable[Asked], limit: int) -> Iterator[list[Asked]]:
    """Group small chunks, so that one transaction observes many and reads about as much as one large chunk."""
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


def _look_for_objects(attempt: Attempt, works: Sequence[TableWork]) -> None:
    """Check that the objects of unchanged chunks still exist, and plan to extract the chunks whose objects are gone."""
    named = {entry.key: entry for work in works for entry in _objects_to_find(attempt, work)}
    if not named:
        return
    attempt.observer(StepStarted("looking for objects", total=len(named), unit="objects"))

    def find(entry: ObjectEntry) -> bool:
        if attempt.deadline.stop_asked:
            raise TaskStopped
        return still_there(attempt.backends.destination, entry)

    missing = set()
    for entry, stands in LocalThreads(LOOKS).run_tasks(find, named.values()):
        if isinstance(stands, TaskStopped):
            continue  # the run ends before it uses the plan
        if isinstance(stands, BaseException):
            raise stands
        attempt.observer(StepAdvanced())
        if not stands:
            missing.add(entry.key)
    for work in works:
        work.plan = without_objects(work.plan, missing)


def _objects_to_find(attempt: Attempt, work: TableWork) -> Iterator[ObjectEntry]:
    """Yield the objects of a table's unchanged chunks that the run relies on.

    A changed table names the objects of its unchanged chunks again, so they must still exist. An object that no
    manifest names yet was never checked before.
    """
    if not attempt.backends.layout.objects_stay:
        return
    committed = attempt.committed_keys(work.table)
    for chunk in work.plan.chunks:
        entry = chunk.remembered.object if chunk.proven is not None and chunk.remembered is not None else None
        if entry is not None and (work.plan.to_extract or entry.key not in committed):
            yield entry
