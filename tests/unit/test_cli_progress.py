"""Progress where there is no terminal: log lines, and the numbers of a long command every 30 seconds."""

from __future__ import annotations

import io
import time

from fix_cli import EVIL, Clock, Tty, command_streams, entry
from floodmark.cli.output.log_events import Level
from floodmark.cli.output.logs import Log, Style
from floodmark.cli.output.progress import Lines, progress
from floodmark.cli.output.screen import Screen
from floodmark.cli.output.streams import CommandStreams, Stream
from floodmark.cli.output.tally import Tally
from floodmark.events import (
    ChunkDone,
    ChunkProgress,
    Event,
    Retried,
    RunFinished,
    RunStarted,
    StepAdvanced,
    StepStarted,
    TableDecided,
    TableFinished,
    Warned,
)
from floodmark.model import Chunk, Point, Reason, TableName

PERSON = TableName("public", "person")
STARTED = RunStarted("r1", "postgresql://h/db", "s3://mine/lake", Point("2026-11-24T01:02:03Z"), 1)
DECIDED = TableDecided(PERSON, Reason("rows_changed", "newer rows"), 12, 3, 1000)
DONE = ChunkDone(PERSON, 500, 2_000_000, 100, 1.0)


WHY = 'why="1 of 2 chunks hold newer rows"'
SIZES = "rows=2000 stored_bytes=42000 seconds=1.25"


def lines(*events: Event) -> list[str]:
    streams, _, err = command_streams()
    with progress(streams, Tally(Clock())) as observer:
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


def test_a_new_snapshot_is_told() -> None:
    assert lines(RunStarted("r1", "s", "d", Point("t"), 2)) == [
        "level=info event=run_started run_id=r1 source=s destination=d as_of=t snapshot=2"
    ]


def test_names_in_events_never_steer_a_terminal() -> None:
    told = lines(Warned(EVIL), Retried(EVIL, EVIL, 1), TableFinished(entry(EVIL)))
    assert len(told) == 3
    for line in told:
        assert "\\x1b[31m" in line and not any(letter in line for letter in "\x1b\x9b\u202e\n")


EXTRACTING = StepStarted("extracting", {PERSON: 4_000_000_000, TableName("public", "visit"): 1_000_000_000})


def at_work(clock: Clock, *more: Event) -> Tally:
    """A tally in the middle of an extraction, after ten seconds."""
    tally = Tally(clock)
    for event in (STARTED, DECIDED, EXTRACTING, *more):
        tally.take(event)
    clock.now += 10
    tally.take(DONE)
    tally.take(ChunkProgress(PERSON, Chunk("1", 0), 400_000_000, finished=True))
    tally.take(ChunkProgress(PERSON, Chunk("1", 8), 100_000_000))
    return tally


def written(tally: Tally, style: Style = "json", level: Level = "info") -> list[str]:
    """What a command in progress writes at a first and a second moment, which come soon."""
    streams, _, err = command_streams()
    streams = CommandStreams(streams.out, streams.err, {}, Log(streams.err.line, style, level))
    with Lines(streams, tally, every=0.005):
        deadline = time.monotonic() + (10 if level == "info" else 0.05)
        while err.getvalue().count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
    return [line.partition('"event":' if style == "json" else " ")[2] for line in err.getvalue().splitlines()[:2]]


def test_the_log_tells_how_far_a_command_is() -> None:
    told = written(at_work(Clock()))
    assert (
        told[0]
        == told[1]
        == (
            '"progress","step":"extracting","percent":10,"done_bytes":500000000,"total_bytes":5000000000,"rate":50000000,'
            '"elapsed":10,"eta":90,"chunks_done":1,"chunks":3,"tables":{"public.person":12}}'
        )
    )
    told = written(at_work(Clock()), "text")
    assert told[0].endswith(' elapsed=10 eta=90 chunks_done=1 chunks=3 tables="public.person 12%"')
    assert written(at_work(Clock()), level="warning") == []


def test_the_log_tells_of_steps_without_bytes() -> None:
    tally = at_work(Clock(), StepStarted("deleting", total=500, unit="keys"))
    tally.take(StepAdvanced(100))
    assert written(tally)[0] == (
        '"progress","step":"deleting","percent":20,"done":100,"total":500,"rate":10,"elapsed":10,"eta":40}'
    )
    tally.take(StepStarted("reading the catalog"))
    assert written(tally)[0] == '"progress","step":"reading the catalog","elapsed":10}'


def test_the_log_waits_30_seconds_before_it_tells_of_progress() -> None:
    streams, _, _ = command_streams()
    assert Lines(streams, at_work(Clock()))._every == 30
    assert lines(STARTED, DECIDED, EXTRACTING, ChunkProgress(PERSON, Chunk("1", 0), 5)) == lines(STARTED)


def test_names_in_progress_never_steer_a_terminal() -> None:
    evil = TableName(EVIL, EVIL)
    tally = at_work(Clock(), StepStarted("extracting", {evil: 100}))
    tally.take(ChunkProgress(evil, Chunk("1", 0), 5))
    for style in ("json", "text"):
        (line, _) = written(tally, style)  # type: ignore[arg-type]
        assert not any(letter in line for letter in "\x1b\x9b\u202e\n") and "5" in line


def test_a_quiet_command_draws_nothing() -> None:
    for live, kind in ((True, Screen), (False, Lines)):
        streams = CommandStreams(Stream(io.StringIO()), Stream(Tty()), {"TERM": "xterm"}, live=live)
        assert isinstance(progress(streams, Tally()), kind)
