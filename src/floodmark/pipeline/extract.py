"""The extraction of chunks: rows → JSON lines → compressed, hashed, spooled, compared, put.

A chunk is finished in the spool before any of its bytes leave. So a chunk that turns out to be wrong (a broken
connection, a table rewritten meanwhile) is thrown away, and a repeated put starts at byte 0.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.backends import Backends
from floodmark.engine.base import TaskStopped
from floodmark.errors import (
    ConditionFailed,
    OutcomeUnknown,
    SourceUnavailable,
    TableError,
)
from floodmark.events import ChunkDone, Observer, TableGivenUp
from floodmark.meter import ChunkMeter, LineRatio
from floodmark.model import ObjectEntry, TableName
from floodmark.objects.numbers import quote_large
from floodmark.objects.spool import LineSpool
from floodmark.observed import TableInfo
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.entries import ChunkOutcome
from floodmark.pipeline.plans import ChunkPlan
from floodmark.pipeline.work import TableWork
from floodmark.retrying import Patience, RetryPolicy, retrying
from floodmark.source.base import SourceSnapshot, Write
from floodmark.stop import Deadline
from floodmark.storage.base import Body, Condition, IfAbsent, Storage
from floodmark.storage.probe import exists_as_put

_PATIENCE = Patience(tries=4, longest=20)


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

    for (work, task), outcome in attempt.engine.run_tasks(one, tasks):
        if isinstance(outcome, BaseException):
            work.record_error(outcome)
            attempt.observer(TableGivenUp(work.table))
        else:
            if outcome.object is None or outcome.object.origin == "reused":
                outcome = replace(outcome, read_at=attempt.timestamp)  # the key of an object does not tell it
            work.outcomes[task.plan.chunk] = outcome
            attempt.chunk_done(work, outcome)


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


class ChunkTask(Struct, frozen=True):
    """A chunk to extract, with the key of its object and the objects that it can turn out to equal.

    `known` holds the table's stored objects by content digest. If the chunk equals one of them, and that one still
    exists at the destination, the entry names it again and nothing is put.
    """

    info: TableInfo
    plan: ChunkPlan
    key: str
    known: dict[str, ObjectEntry]
    put_identical: bool = True


class Extractor:
    """Extracts chunks from one snapshot to one destination. Several threads can call its methods.

    It looks at the deadline between blocks. If the deadline is reached, `TaskStopped` ends the chunk.
    """

    def __init__(self, snapshot: SourceSnapshot, backends: Backends, observer: Observer, deadline: Deadline) -> None:
        self._snapshot = snapshot
        self._destination = backends.destination
        self._layout = backends.layout
        self._encoding = backends.encoding
        self._observer = observer
        self._deadline = deadline
        self._ratio = LineRatio()

    def extract_chunk(self, task: ChunkTask) -> ChunkOutcome:
        """Extract one chunk. Retry after a broken connection as long as the snapshot exists."""
        return patiently(self._observer, f"extract a chunk of {task.info.table.label}")(self._extract_once, task)

    def _extract_once(self, task: ChunkTask) -> ChunkOutcome:
        begun, table, plan = time.monotonic(), task.info.table, task.plan
        with LineSpool(self._encoding.compression) as spool, self._meter(task) as meter:
            write = self._line_writer(spool.take, meter)
            got = self._snapshot.extract(task.info, plan.part, plan.chunk, plan.open, write)
            spool.finish()
            self._ratio.add(table, spool.raw_bytes, plan.estimated_bytes)
            entry = self._store_lines(task, spool, got.lines) if got.lines else None
            uploaded = entry.stored_bytes if entry is not None and entry.origin == "extracted" else 0
            seconds = time.monotonic() - begun
            self._observer(ChunkDone(table, got.lines, spool.raw_bytes, uploaded, seconds, plan.estimated_bytes))
            return ChunkOutcome(plan, entry, got.observed)

    def _meter(self, task: ChunkTask) -> ChunkMeter:
        """Return a meter of the chunk's bytes in the source. A chunk that was read before has about as many lines."""
        table, plan = task.info.table, task.plan
        known = plan.remembered.object if plan.remembered is not None else None
        expected = known.raw_bytes if known is not None else self._ratio.expected_lines(table, plan.estimated_bytes)
        return ChunkMeter(self._observer, table, plan.chunk, plan.estimated_bytes, expected)

    def _line_writer(self, take: Write, meter: ChunkMeter) -> Write:
        """Return a consumer of the source's lines that passes them on in the run's encoding. It raises TaskStopped."""
        quote = self._encoding.numbers is not UNSET

        def passed_on(lines: bytes | bytearray | memoryview) -> None:
            if self._deadline.reached():
                raise TaskStopped
            take(quote_large(lines) if quote else lines)
            meter.add(len(lines))

        return passed_on

    def content_digest(self, task: ChunkTask) -> str | None:
        """Return the content digest of a chunk, None if it has no lines. Store nothing."""
        digest, plan = hashlib.sha256(), task.plan
        with self._meter(task) as meter:
            write = self._line_writer(digest.update, meter)
            got = self._snapshot.extract(task.info, plan.part, plan.chunk, plan.open, write)
        return digest.hexdigest() if got.lines else None

    def _store_lines(self, task: ChunkTask, spool: LineSpool, lines: int) -> ObjectEntry:
        known = task.known.get(spool.content_sha256)
        if known is not None and (not task.put_identical or still_there(self._destination, known)):
            return replace(known, chunk=task.plan.chunk, origin="reused")
        body = spool.body
        limit = self._layout.max_object_bytes
        if limit is not None and body.size > limit:
            raise TableError(
                "an object is too large for the receiver",
                on=task.info.table.label,
                why=f"it has {body.size:,} bytes, and the receiver accepts {limit:,}",
                hint="Set a smaller chunk_size. A table that is read whole, such as a view, can't be split.",
            )
        self._put_object(task.key, body)
        return ObjectEntry(
            key=task.key,
            rows=lines,
            raw_bytes=spool.raw_bytes,
            stored_bytes=body.size,
            sha256=body.sha256,
            content_sha256=spool.content_sha256,
            chunk=task.plan.chunk,
            origin="extracted",
        )

    def _put_object(self, key: str, body: Body) -> None:
        """Put an object.

        The key is this run's own, so an object that already exists there can only be this run's earlier try.
        """
        condition: Condition = IfAbsent() if self._layout.objects_stay else None
        try:
            self._destination.put(key, body, condition)
        except (OutcomeUnknown, ConditionFailed):
            if not exists_as_put(self._destination, key, body.size, body.sha256):
                raise


def still_there(destination: Storage, entry: ObjectEntry) -> bool:
    """Return True if an object that a manifest names exists at the destination."""
    return exists_as_put(destination, entry.key, entry.stored_bytes, entry.sha256)


def patiently(observer: Observer, what: str) -> RetryPolicy:
    """Return a retry policy for broken connections. A source reports one only while its snapshot exists."""
    return retrying(what, lambda error: isinstance(error, SourceUnavailable), observer, _PATIENCE)
