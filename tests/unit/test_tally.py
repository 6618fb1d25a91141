"""The numbers of a command's progress, from its events and a clock."""

from __future__ import annotations

import threading

import pytest

from fix_cli import Clock
from floodmark.cli.output.tally import Progress, TableProgress, Tally
from floodmark.cli.output.views import ChunkCounts
from floodmark.events import (
    ChunkDone,
    ChunkProgress,
    RunStarted,
    StepAdvanced,
    StepStarted,
    TableDecided,
    TableGivenUp,
)
from floodmark.model import Chunk, Point, Reason, TableName

MB = 10**6
PERSON, VISIT = TableName("public", "person"), TableName("public", "visit")
EXTRACTING = StepStarted("extracting", {PERSON: 300 * MB, VISIT: 100 * MB})
FORCED = Reason("forced", "")


class Run:
    """A run's events, a second apart or as the test wants."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tally = Tally(self.clock)

    def decide(self, table: TableName, chunks: int) -> None:
        self.tally.take(TableDecided(table, FORCED, chunks, chunks, 0))

    def reads(self, table: TableName, number: int, done: int, after: float = 0.0) -> None:
        self.clock.now += after
        self.tally.take(ChunkProgress(table, Chunk("1", number), done))

    def ends(self, table: TableName, number: int, size: int, after: float = 0.0) -> None:
        self.clock.now += after
        if size:
            self.tally.take(ChunkDone(table, 1, 2 * size, 0, 1.0, size))
        self.tally.take(ChunkProgress(table, Chunk("1", number), size, finished=True))

    @property
    def progress(self) -> Progress:
        found = self.tally.progress()
        assert found is not None
        return found


@pytest.fixture
def run() -> Run:
    made = Run()
    made.decide(PERSON, 3)
    made.decide(VISIT, 1)
    made.tally.take(EXTRACTING)
    return made


def test_bytes_inside_a_chunk_count(run: Run) -> None:
    run.reads(PERSON, 0, 0)
    run.reads(PERSON, 0, 40 * MB, after=2)
    run.reads(VISIT, 0, 20 * MB)
    now = run.progress
    assert (now.step, now.unit, now.done, now.total, now.percent) == ("extracting", "bytes", 60 * MB, 400 * MB, 15)
    assert (now.rate, now.elapsed, now.eta) == (30 * MB, 2.0, 340 / 30)
    assert now.chunks == ChunkCounts(0, 4)
    assert now.tables == (
        TableProgress(PERSON, 40 * MB, 300 * MB, ChunkCounts(0, 3)),
        TableProgress(VISIT, 20 * MB, 100 * MB, ChunkCounts(0, 1)),
    )
    assert [one.percent for one in now.tables] == [13, 20]


def test_a_table_is_at_work_only_while_a_chunk_is(run: Run) -> None:
    run.reads(PERSON, 0, 1)
    run.reads(PERSON, 1, 1)
    run.ends(PERSON, 0, 100 * MB)
    assert [one.chunks for one in run.progress.tables] == [ChunkCounts(1, 3)]
    run.ends(PERSON, 1, 100 * MB)
    assert run.progress.tables == () and run.progress.done == 200 * MB
    assert run.tally.counts() == {PERSON: ChunkCounts(2, 3), VISIT: ChunkCounts(0, 1)}


def test_the_rate_is_that_of_the_last_seconds(run: Run) -> None:
    run.reads(PERSON, 0, MB, after=0.5)
    assert run.progress.rate is None and run.progress.eta is None, "nothing can be said in the first second"
    run.clock.now -= 0.5
    for second in range(60):
        run.reads(PERSON, 0, second * MB, after=1)
    assert run.progress.rate == MB
    for second in range(12):  # ten times as fast, for more than the window
        run.reads(PERSON, 0, (60 + 10 * second) * MB, after=1)
    assert run.progress.rate == 10 * MB
    run.reads(PERSON, 0, 179 * MB, after=0.1)  # soon after the last event
    run.clock.now += 4.9  # the server stands still
    assert run.progress.rate is not None and run.progress.rate < 7 * MB
    run.clock.now += 100
    assert run.progress.rate == 0 and run.progress.eta is None
    assert run.progress.elapsed == 60 + 12 + 105


def test_a_chunk_that_is_read_again_shows_no_way_back(run: Run) -> None:
    run.reads(PERSON, 0, 80 * MB, after=2)
    assert run.progress.done == 80 * MB
    run.ends(PERSON, 0, 0)  # its connection broke
    run.reads(PERSON, 0, 0)
    assert run.progress.done == 80 * MB
    run.reads(PERSON, 0, 90 * MB)
    assert run.progress.done == 90 * MB


def test_a_table_that_is_given_up_leaves_the_total(run: Run) -> None:
    run.reads(PERSON, 0, 0)
    run.ends(PERSON, 0, 100 * MB)
    run.reads(PERSON, 1, 50 * MB)
    run.ends(PERSON, 1, 0)
    run.tally.take(TableGivenUp(PERSON))
    assert (run.progress.done, run.progress.total) == (100 * MB, 200 * MB)
    run.ends(VISIT, 0, 100 * MB)
    assert run.progress.percent == 100 and run.progress.chunks == ChunkCounts(2, 2)


def test_a_percentage_is_100_only_at_the_end(run: Run) -> None:
    run.reads(PERSON, 0, 300 * MB)
    run.reads(VISIT, 0, 99 * MB)
    assert run.progress.percent == 99
    run.reads(VISIT, 0, 100 * MB)
    assert run.progress.percent == 99, "no chunk is finished"


def test_without_known_sizes_chunks_count() -> None:
    run = Run()
    run.decide(PERSON, 4)
    run.tally.take(StepStarted("extracting", {PERSON: 0}))
    assert (run.progress.percent, run.progress.total) == (0, None)
    run.reads(PERSON, 0, 0)
    run.tally.take(ChunkDone(PERSON, 1, 2, 0, 1.0))
    assert run.progress.percent == 25 and [one.table for one in run.progress.tables] == [PERSON]


def test_a_step_begins_at_zero(run: Run) -> None:
    run.reads(PERSON, 0, 80 * MB, after=20)
    run.tally.take(StepStarted("auditing", {VISIT: 64 * MB}))
    run.reads(PERSON, 0, 10)  # no table of this step
    now = run.progress
    assert (now.step, now.done, now.total, now.rate, now.elapsed) == ("auditing", 0, 64 * MB, None, 20.0)
    assert now.chunks is None and now.tables == ()
    run.tally.take(StepStarted("committing"))
    assert (run.progress.total, run.progress.percent) == (None, None)


def test_what_is_only_counted() -> None:
    run = Run()
    assert run.tally.progress() is None
    run.tally.take(StepStarted("deleting", total=500, unit="keys"))
    run.clock.now += 2
    run.tally.take(StepAdvanced(100))
    run.tally.take(StepAdvanced())
    now = run.progress
    assert (now.done, now.total, now.percent, now.rate, now.unit) == (101, 500, 20, 50.5, "keys")
    run.tally.take(StepStarted("reading manifests", unit="manifests"))
    run.tally.take(StepAdvanced())
    assert (run.progress.done, run.progress.total, run.progress.percent) == (1, None, None)


def test_many_tables_at_work_are_only_counted() -> None:
    run = Run()
    names = [TableName("public", f"t{number}") for number in range(20)]
    run.tally.take(StepStarted("checking", dict.fromkeys(names, 10)))
    for name in names:
        run.reads(name, 0, 0)
    assert [one.table for one in run.progress.tables] == names[:8] and run.progress.more_tables == 12


def test_a_new_snapshot_forgets_the_chunks_of_the_old_one(run: Run) -> None:
    run.tally.take(RunStarted("r1", "s", "d", Point("t"), 2))
    assert run.tally.counts() == {}


def test_counts_never_exceed_what_there_is(run: Run) -> None:
    for number in range(3):
        run.ends(VISIT, number, 100 * MB)
    assert run.tally.counts()[VISIT] == ChunkCounts(1, 1) and run.progress.done == 100 * MB


def test_tallies_from_many_threads_add_up() -> None:
    tally = Tally()
    tally.take(TableDecided(PERSON, FORCED, 4000, 4000, 0))
    tally.take(StepStarted("extracting", {PERSON: 8000}))

    def work(first: int) -> None:
        for number in range(first, first + 1000):
            tally.take(ChunkProgress(PERSON, Chunk("1", number), 1))
            tally.take(ChunkDone(PERSON, 1, 1, 0, 0.0, 2))
            tally.take(ChunkProgress(PERSON, Chunk("1", number), 2, finished=True))

    threads = [threading.Thread(target=work, args=(1000 * one,)) for one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress = tally.progress()
    assert progress is not None and (progress.done, progress.percent) == (8000, 100)
    assert progress.chunks == ChunkCounts(4000, 4000) and progress.tables == ()
