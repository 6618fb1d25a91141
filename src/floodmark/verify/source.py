"""Comparison of a manifest with the current database, which has changed since.

As in a run, the watermark proves which chunks the source still holds unchanged. Those are read again and must give the
recorded lines. If nothing can be proven (a view, a restarted server), equal lines confirm the manifest, and other lines
give no verdict. Chunks that are proven changed are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from msgspec import Struct
from msgspec.structs import replace

from floodmark.engine.base import TaskStopped
from floodmark.engine.local import LocalThreads
from floodmark.errors import SourceError
from floodmark.events import Observer, StepStarted
from floodmark.meter import ChunkMeter
from floodmark.model import Chunk, ObjectEntry, TableEntry, TableName
from floodmark.observed import Observation, TableInfo
from floodmark.pipeline.detect import plan_table, settle_plan
from floodmark.pipeline.extract import ChunkTask, Extractor, patiently
from floodmark.pipeline.plans import ChunkPlan, Policy, TablePlan
from floodmark.pipeline.remembered import remember_entry
from floodmark.source.base import SourceSnapshot
from floodmark.stop import Deadline
from floodmark.verify.report import SourceReport, TableProblem

# Reasons that say nothing about the rows themselves, which can still be the same.
_WORTH_READING = ("lineage_changed", "no_proof")
_BATCH = 64


class ComparedTable(Struct, frozen=True):
    """A table's counts and faults."""

    report: SourceReport
    problems: tuple[TableProblem, ...] = ()


class SourceComparison(Struct, frozen=True):
    """The inputs of a comparison. `redefined` returns the tables whose definition changed while they were read."""

    snapshot: SourceSnapshot
    extractor: Extractor
    observer: Observer
    deadline: Deadline
    chunk_bytes: int
    redefined: Callable[[Sequence[TableInfo]], Sequence[TableName]]


class _TableComparison:
    """A table during its comparison."""

    def __init__(self, info: TableInfo, entry: TableEntry, plan: TablePlan) -> None:
        self.info, self.entry, self.plan = info, entry, plan
        self.report = SourceReport()
        self.problems: list[TableProblem] = []

    def count(self, what: str, why: str | None = None) -> None:
        number = getattr(self.report, what) + 1
        self.report = replace(self.report, **{what: number, "why": self.report.why or why})

    def give_up(self, why: str) -> None:
        self.report, self.problems = SourceReport(unread=max(1, len(self.plan.chunks)), why=why), []

    @property
    def asked(self) -> list[ChunkPlan]:
        """Return the chunks that the source is asked about."""
        return [chunk for chunk in self.plan.chunks if chunk.question is not None]

    def stored(self) -> dict[Chunk, ObjectEntry]:
        return {one.chunk: one for one in self.entry.objects}


def compare_tables(
    comparison: SourceComparison, entries: Sequence[TableEntry], infos: Mapping[TableName, TableInfo]
) -> dict[TableName, ComparedTable]:
    """Compare every entry that has a snapshot with the source. A table's own error goes into its report."""
    works = []
    done: dict[TableName, ComparedTable] = {}
    for entry in entries:
        info = infos.get(entry.table)
        if info is None or info.denied is not None:
            why = (
                "it is not in the source, or it is not selected"
                if info is None
                else f"it can't be read ({info.denied})"
            )
            done[entry.table] = ComparedTable(SourceReport(unread=max(1, len(entry.objects)), why=why))
        else:
            policy = Policy(comparison.chunk_bytes)
            works.append(
                _TableComparison(
                    info, entry, plan_table(info, remember_entry(entry), policy, comparison.snapshot.point)
                )
            )
    comparison.observer(StepStarted("checking", _sizes((work, chunk) for work in works for chunk in work.asked)))
    for work in works:
        _settle_table(comparison, work)
    _read_chunks(comparison, works)
    changed = set(comparison.redefined([work.info for work in works]))
    for work in works:
        if work.info.table in changed:
            work.give_up("its definition changed while it was read")
        done[work.info.table] = ComparedTable(work.report, tuple(work.problems))
    return done


def _settle_table(comparison: SourceComparison, work: _TableComparison) -> None:
    asked = work.asked
    batches = [asked[at : at + _BATCH] for at in range(0, len(asked), _BATCH)]
    ask = patiently(comparison.observer, "observe")

    def answer(batch: Sequence[ChunkPlan]) -> list[Observation]:
        if comparison.deadline.reached():
            raise TaskStopped
        with ExitStack() as meters:
            for one in batch:
                meter = ChunkMeter(comparison.observer, work.info.table, one.chunk, one.estimated_bytes)
                meters.enter_context(meter)
            return ask(comparison.snapshot.observe, [one.question for one in batch if one.question is not None])

    answers: dict[Chunk, Observation] = {}
    for batch, found in LocalThreads(comparison.snapshot.parallelism).run_tasks(answer, batches):
        if isinstance(found, SourceError | TaskStopped):
            work.give_up(found.sentence if isinstance(found, SourceError) else "the comparison was stopped")
            work.plan = TablePlan(work.info, ())
            return
        if isinstance(found, BaseException):
            raise found
        answers |= {one.chunk: seen for one, seen in zip(batch, found, strict=True)}
    work.plan = settle_plan(work.plan, [answers[one.chunk] for one in asked], Policy(comparison.chunk_bytes))
    fell_away = work.stored().keys() - {chunk.chunk for chunk in work.plan.chunks}
    for _ in fell_away:
        work.count("changed")


def _read_chunks(comparison: SourceComparison, works: Sequence[_TableComparison]) -> None:
    again = patiently(comparison.observer, "read a chunk again")
    tasks = list(_to_read(works))
    comparison.observer(StepStarted("comparing with the source", _sizes(tasks)))

    def digest(task: tuple[_TableComparison, ChunkPlan]) -> str | None:
        work, chunk = task
        if comparison.deadline.reached():
            raise TaskStopped
        return again(comparison.extractor.content_digest, ChunkTask(work.info, chunk, "", {}))

    for (work, chunk), found in LocalThreads(comparison.snapshot.parallelism).run_tasks(digest, tasks):
        if isinstance(found, TaskStopped):
            work.count("unread", "the comparison was stopped before its end")
        elif isinstance(found, SourceError):
            work.count("unread", found.sentence)
        elif isinstance(found, BaseException):
            raise found
        else:
            _judge_chunk(work, chunk, found)


def _sizes(chunks: Iterable[tuple[_TableComparison, ChunkPlan]]) -> dict[TableName, int]:
    """Return the bytes of these chunks in the source, by table."""
    sizes = dict[TableName, int]()
    for work, chunk in chunks:
        sizes[work.info.table] = sizes.get(work.info.table, 0) + chunk.estimated_bytes
    return sizes


def _to_read(works: Sequence[_TableComparison]) -> Iterator[tuple[_TableComparison, ChunkPlan]]:
    for work in works:
        for chunk in work.plan.chunks:
            if chunk.proven is not None or (chunk.reason is not None and chunk.reason.code in _WORTH_READING):
                yield work, chunk
            else:
                work.count("changed")


def _judge_chunk(work: _TableComparison, chunk: ChunkPlan, digest: str | None) -> None:
    proven = chunk.proven is not None and chunk.remembered is not None
    known = chunk.remembered.object if proven and chunk.remembered is not None else work.stored().get(chunk.chunk)
    moved = not proven and chunk.part.ranges > 1 and digest in {one.content_sha256 for one in work.entry.objects}
    if moved or digest == (None if known is None else known.content_sha256):
        work.count("same")
    elif not proven or work.info.watched is not None:
        work.count("changed")
    else:
        work.count("wrong")
        part = chunk.chunk
        work.problems.append(
            TableProblem(
                "differs_from_source",
                None if known is None else known.key,
                f"part {part.part}, blocks {part.start} to {part.stop}, is unchanged in the source, but gives other "
                "lines than were recorded",
            )
        )
