"""Progress: live on a terminal, plain lines elsewhere, quiet about what did not change."""

from __future__ import annotations

import threading

import pytest

from fix_cli import EVIL, Tty, command_streams, entry
from floodmark.cli.output.progress import Lines, progress
from floodmark.cli.output.screen import Screen
from floodmark.cli.output.tally import Tally
from floodmark.cli.output.views import ChunkCounts
from floodmark.events import (
    ChunkDone,
    Event,
    Retried,
    RunFinished,
    RunStarted,
    TableDecided,
    TableFinished,
    Warned,
)
from floodmark.model import Point, Reason, TableName

PERSON = TableName("public", "person")
STARTED = RunStarted("r1", "postgresql://h/db", "s3://mine/lake", Point("2026-11-24T01:02:03Z"), 1)
DECIDED = TableDecided(PERSON, Reason("rows_changed", "newer rows"), 12, 3, 1000)
DONE = ChunkDone(PERSON, 500, 2_000_000, 100, 1.0)


WHY = 'why="1 of 2 chunks hold newer rows"'
SIZES = "rows=2000 stored_bytes=42000 seconds=1.25"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(*events: Event, clock: Clock | None = None) -> list[str]:
    streams, _, err = command_streams()
    with progress(streams, Tally(clock or Clock())) as observer:
        assert isinstance(observer, Lines)
        for event in events:
            observer(event)
    return [line.partition(" ")[2] for line in err.getvalue().splitlines()]


def test_lines_tell_what_matters() -> None:
    assert lines(
        STARTED,
        Warned("the role may write"),
        Retried("put data/x", "timeout", 2),
        DECIDED,
        DONE,
        TableFinished(entry()),
        TableFinished(entry("same", "unchanged", "unchanged")),
        TableFinished(entry("no", "failed", "denied", as_of=None)),
        RunFinished("r1", 3, 1, 100, 2.0),
    ) == [
        "level=info event=run_started run_id=r1 source=postgresql://h/db destination=s3://mine/lake "
        "as_of=2026-11-24T01:02:03Z snapshot=1",
        'level=warning event=warning run_id=r1 message="the role may write"',
        'level=warning event=retry run_id=r1 what="put data/x" why=timeout attempt=2',
        f"level=info event=table_extracted run_id=r1 table=public.person reason=rows_changed {WHY} {SIZES}",
        f"level=info event=table_unchanged run_id=r1 table=public.same reason=unchanged {WHY} {SIZES}",
        f"level=error event=table_failed run_id=r1 table=public.no reason=denied {WHY} seconds=1.25",
        "level=warning event=run_finished run_id=r1 tables=3 failed=1 uploaded_bytes=100 seconds=2.0",
    ]


def test_a_new_snapshot_is_told_and_counted_anew() -> None:
    clock = Clock()
    tally = Tally(clock)
    for event in (STARTED, DECIDED, DONE, RunStarted("r1", "s", "d", Point("t"), 2)):
        tally.take(event)
    assert tally.counts() == {}
    assert lines(RunStarted("r1", "s", "d", Point("t"), 2)) == [
        "level=info event=run_started run_id=r1 source=s destination=d as_of=t snapshot=2"
    ]


def test_a_long_run_is_told_of_now_and_then() -> None:
    clock = Clock()
    streams, _, err = command_streams()
    observer = Lines(streams, Tally(clock))
    observer(DECIDED)
    clock.now += 29
    observer(DONE)
    assert err.getvalue() == ""
    clock.now += 1
    observer(DONE)
    observer(DONE)
    assert err.getvalue().endswith(
        " level=info event=progress chunks_done=2 chunks=3 rows=1000 raw_bytes=4000000 seconds=30\n"
    )
    assert err.getvalue().count("\n") == 1


def test_names_in_events_never_steer_a_terminal() -> None:
    told = lines(Warned(EVIL), Retried(EVIL, EVIL, 1), TableFinished(entry(EVIL)))
    assert len(told) == 3
    for line in told:
        assert "\\x1b[31m" in line and not any(letter in line for letter in "\x1b\x9b\u202e\n")


def test_counts_never_exceed_what_there_is() -> None:
    tally = Tally(Clock())
    for event in (TableDecided(PERSON, Reason("forced", ""), 2, 2, 0), DONE, DONE, DONE):
        tally.take(event)
    assert tally.counts() == {PERSON: ChunkCounts(2, 2)}


def test_tallies_from_many_threads_add_up() -> None:
    tally = Tally()
    tally.take(TableDecided(PERSON, Reason("forced", ""), 4000, 4000, 0))

    def work() -> None:
        for _ in range(1000):
            tally.take(DONE)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.counts() == {PERSON: ChunkCounts(4000, 4000)}
    assert tally.overall().startswith("4000 of 4,000 chunks, 2,000,000 rows, 8.0 GB read")


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("wide")
def test_the_screen_shows_tables_at_work_and_the_whole() -> None:
    clock, err = Clock(), Tty()
    streams, _, _ = command_streams({"TERM": "xterm"}, err=err)
    tally = Tally(clock)
    with progress(streams, tally) as observer:
        assert isinstance(observer, Screen)
        for event in (STARTED, DECIDED, DONE, Warned(EVIL)):
            observer(event)
        for number in range(9):
            name = TableName("public", f"t{number}[red]")
            observer(TableDecided(name, Reason("forced", ""), 2, 2, 0))
            observer(ChunkDone(name, 1, 10, 0, 0.0))
        clock.now += 1
    text = err.getvalue()
    assert "public.person" in text and "500 rows" in text and "1/3 chunks" in text and "1.0 MB/s" in text
    assert "public.t0[red]" in text and "and 2 more tables" in text
    assert "10 of 21 chunks, 509 rows" in text
    assert "level=warning" in text and "\x1b[31m" not in text and "\x9b" not in text


@pytest.mark.usefixtures("wide")
def test_a_terminal_that_can_not_move_its_cursor_gets_lines() -> None:
    streams, _, err = command_streams({"TERM": "dumb"}, err=Tty())
    with progress(streams, Tally()) as observer:
        observer(STARTED)
    assert isinstance(observer, Lines) and "\x1b" not in err.getvalue()


@pytest.mark.usefixtures("wide")
def test_a_finished_table_leaves_the_screen() -> None:
    tally = Tally(Clock())
    for event in (TableDecided(PERSON, Reason("forced", ""), 2, 2, 0), DONE):
        tally.take(event)
    assert [name for name, _ in tally.running()] == [PERSON]
    tally.take(DONE)
    assert tally.running() == []
