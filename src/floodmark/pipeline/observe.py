"""Decisions that need a snapshot and the destination: the settled plan of each table. `detect` makes the judgement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from floodmark.engine.base import TaskStopped
from floodmark.engine.local import LocalThreads
from floodmark.errors import SourceError
from floodmark.events import TableDecided
from floodmark.model import Chunk, Observation, TableInfo, TableName
from floodmark.pipeline.detect import ChunkPlan, assess, settle, without_objects
from floodmark.pipeline.extract import patiently, still_there
from floodmark.pipeline.work import Context, Work

# A batch of questions is one transaction. It holds its locks about as long as one chunk does.
_BATCH_QUESTIONS = 64
_BATCH_BYTES = 64 * 1024**2

Asked = tuple[Work, ChunkPlan]


def decide(context: Context, tables: Sequence[TableInfo]) -> list[Work]:
    """Observe and decide: return each table with its settled plan, or with the error that it met."""
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


def _observe(context: Context, works: Sequence[Work]) -> None:
    """Ask all questions and settle the plans. If a batch fails, ask each of its questions separately."""
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
            raise TaskStopped
        questions = [chunk.question for _, chunk in batch if chunk.question is not None]
        with ExitStack() as timers:
            for work in {id(work): work for work, _ in batch}.values():
                timers.enter_context(work.timed())
            return patiently(context.observer, "observe")(context.snapshot.observe, questions)

    return LocalThreads(context.snapshot.parallelism).run(ask, batches)


def _take(
    batch: list[Asked], found: list[Observation] | BaseException, answers: dict[tuple[TableName, Chunk], Observation]
) -> None:
    if isinstance(found, BaseException):
        for work, _ in batch:
            work.fail(found)
    else:
        answers |= {(work.table, chunk.chunk): seen for (work, chunk), seen in zip(batch, found, strict=True)}


def _batches(asked: Iterable[Asked], limit: int) -> Iterator[list[Asked]]:
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


def _look_for_objects(context: Context, work: Work) -> None:
    """Check that the objects of unchanged chunks still exist, and plan to extract the chunks whose objects are missing.

    A changed table names the objects of its unchanged chunks again, so they must still exist. An object that no
    manifest names yet was never checked before.
    """
    if not context.layout.objects_stay:
        return
    good = context.of(work.table).good
    committed = {entry.key for entry in good.objects} if good is not None else set()
    named = {}
    for chunk in work.plan.chunks:
        entry = chunk.remembered.object if chunk.proven is not None and chunk.remembered is not None else None
        if entry is not None and (work.plan.to_extract or entry.key not in committed):
            named[entry.key] = entry
    missing = set()
    for entry, stands in LocalThreads(context.snapshot.parallelism).run(
        partial(still_there, context.destination), named.values()
    ):
        if isinstance(stands, BaseException):
            raise stands
        if not stands:
            missing.add(entry.key)
    work.plan = without_objects(work.plan, missing)
