"""The live view of a command, as a terminal of 80 columns shows it."""

from __future__ import annotations

import re
import signal

import pytest
from rich.cells import cell_len

from fix_cli import EVIL, Clock, Tty, command_streams
from floodmark.cli.output.progress import Lines, progress
from floodmark.cli.output.screen import Screen
from floodmark.cli.output.streams import console
from floodmark.cli.output.tally import Tally
from floodmark.events import ChunkDone, ChunkProgress, Event, StepAdvanced, StepStarted, TableDecided, Warned
from floodmark.model import Chunk, Reason, TableName
from floodmark.stop import NEVER, Stop

PERSON, VISIT = TableName("public", "person"), TableName("public", "visit")
LONG = TableName("public", "a_very_long_table_name_that_someone_gave_to_the_archived_letters")
GB = 10**9


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


class Shown:
    """A live view whose picture a test looks at."""

    def __init__(self, stop: Stop = NEVER) -> None:
        self.clock = Clock()
        self.tally = Tally(self.clock)
        self.streams, _, _ = command_streams({"TERM": "xterm", "NO_COLOR": "1"}, err=Tty())
        self.console = console(self.streams.err, self.streams.environ)
        self.screen = Screen(self.console, self.tally, self.streams.log, stop)

    def take(self, *events: Event) -> None:
        for event in events:
            self.screen(event)

    @property
    def lines(self) -> list[str]:
        with self.console.capture() as capture:
            self.console.print(self.screen.picture())
        found = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in capture.get().splitlines()]
        assert all(cell_len(line) <= 80 for line in found), found
        return found


def extracting(shown: Shown, *tables: TableName, size: int = 2 * GB) -> None:
    for table in tables:
        shown.take(TableDecided(table, Reason("forced", ""), 12, 12, size))
    shown.take(StepStarted("extracting", dict.fromkeys(tables, size)))
    shown.clock.now += 8
    for number, table in enumerate(tables, 1):
        shown.take(ChunkDone(table, 1, 2, 3, 0.1))
        shown.take(ChunkProgress(table, Chunk("1", 0), GB // 5, finished=True))
        shown.take(ChunkProgress(table, Chunk("1", 8), number * GB // 10))


def test_an_extraction_at_80_columns() -> None:
    shown = Shown()
    extracting(shown, PERSON, VISIT)
    assert shown.lines == [
        "public.person                              15%  300 MB of 2.0 GB  1 of 12 chunks",
        "public.visit                               20%  400 MB of 2.0 GB  1 of 12 chunks",
        "extracting ━━━━━━━━╸                                          17% 2 of 24 chunks",
        "700 MB of 4.0 GB, 87.5 MB/s, 0:08 elapsed, 0:37 left",
    ]


def test_long_names_and_large_numbers_fit() -> None:
    shown = Shown()
    extracting(shown, LONG, TableName(LONG.name, LONG.name), size=999_000 * GB)
    shown.clock.now += 500_000
    shown.take(ChunkProgress(LONG, Chunk("1", 8), GB // 5))
    assert shown.lines[0] == "public.a_very_long_table_name_that_someon…  0%  400 MB of 999 TB  1 of 12 chunks"
    assert shown.lines[1].startswith("a_very_long_table_name_that_someone_gave_…  0%")
    assert shown.lines[3].startswith("800 MB of 2.0 PB, 200 B/s, 138:53:28 elapsed, ")


def test_many_tables_at_work() -> None:
    shown = Shown()
    extracting(shown, *(TableName("public", f"t{number}[red]") for number in range(10)))
    assert shown.lines[7].startswith("public.t7[red]") and shown.lines[8] == "and 2 more tables"
    assert len(shown.lines) == 11


def test_the_other_steps() -> None:
    shown = Shown()
    assert shown.lines == []
    shown.take(StepStarted("waiting for the server"))
    assert shown.lines == ["waiting for the server, 0:00 elapsed"]
    shown.clock.now += 65
    assert shown.lines == ["waiting for the server, 1:05 elapsed"]
    shown.take(StepStarted("checking", {PERSON: 300}), ChunkProgress(PERSON, Chunk("1"), 0))
    assert shown.lines == [
        "public.person                                                   0%  0 B of 300 B",
        "checking " + " " * 69 + "0%",
        "0 B of 300 B, 1:05 elapsed",
    ]
    shown.take(StepStarted("reading manifests", unit="manifests"), StepAdvanced(1200))
    shown.clock.now += 2
    assert shown.lines == ["reading manifests, 1,200 manifests, 600 manifests/s, 1:07 elapsed"]
    shown.take(StepStarted("deleting", total=500, unit="keys"), StepAdvanced(125))
    shown.clock.now += 5
    assert shown.lines[-1] == "125 of 500 keys, 25 keys/s, 1:12 elapsed, 0:15 left"


def test_a_source_without_sizes() -> None:
    shown = Shown()
    shown.take(TableDecided(PERSON, Reason("forced", ""), 4, 4, 0), StepStarted("extracting", {PERSON: 0}))
    shown.take(ChunkProgress(PERSON, Chunk("1"), 0), ChunkDone(PERSON, 1, 2, 3, 0.1))
    assert shown.lines[0].split() == ["public.person", "1", "of", "4", "chunks"]
    assert shown.lines[1].endswith("25% 1 of 4 chunks") and shown.lines[2] == "0:00 elapsed"


def test_names_never_steer_the_terminal() -> None:
    shown = Shown()
    extracting(shown, TableName("p", EVIL))
    assert "\\x1b[31m" in shown.lines[0] and not any(letter in shown.lines[0] for letter in "\x1b\x9b\u202e")


def test_a_request_to_stop_is_all_that_is_shown_then() -> None:
    stop = Stop()
    shown = Shown(stop)
    extracting(shown, PERSON)
    stop.ask(signal.SIGINT)
    assert shown.lines == ["Stopping: what is in progress ends first. Ctrl-C again ends at once."]


def test_the_view_is_drawn_and_removed() -> None:
    clock, err = Clock(), Tty()
    streams, _, _ = command_streams({"TERM": "xterm"}, err=err)
    with progress(streams, Tally(clock)) as screen:
        assert isinstance(screen, Screen)
        assert screen.clearing() == b"\r\x1b[2K\x1b[?25h", "nothing is drawn yet"
        screen(StepStarted("extracting", {PERSON: 100}))
        screen(ChunkProgress(PERSON, Chunk("1"), 50))
        screen(Warned(EVIL))
        screen._live.refresh()
        assert screen.clearing() == b"\r\x1b[2K" + 2 * b"\x1b[1A\x1b[2K" + b"\x1b[?25h", "three lines"
    assert screen.clearing() == b"\x1b[?25h", "it is removed"
    text = err.getvalue()
    assert "public.person" in text and "50 B of 100 B" in text and text.endswith("\x1b[1A\x1b[2K" * 3)
    assert "level=warning" in text and "\x1b[31m" not in text and "\x9b" not in text


def test_a_terminal_that_can_not_move_its_cursor_gets_lines() -> None:
    streams, _, err = command_streams({"TERM": "dumb"}, err=Tty())
    with progress(streams, Tally()) as observer:
        observer(StepStarted("extracting", {PERSON: 100}))
    assert isinstance(observer, Lines) and "\x1b" not in err.getvalue()
