"""The log: JSON objects where no terminal is, the same as key=value on one, and nothing that steers either."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fix_cli import EVIL, entry
from floodmark.cli import commands, logs, main
from floodmark.cli.logs import Log, chosen
from floodmark.errors import ConfigError
from floodmark.events import Audited, ChunkDone, RunStarted, TableDecided, TableFinished, Warned
from floodmark.model import Point, Reason, TableName

PERSON = TableName("public", "person")
CANARY = "c4n4ry-hunter2"
RUN = ["run", "--source", "sqlite:///a.db", "--destination", "out"]
Reader = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (logs.FORMAT, logs.LEVEL, "FLOODMARK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with closing(sqlite3.connect("a.db")) as database:
        database.executescript(f"CREATE TABLE t (a); INSERT INTO t VALUES ('{CANARY}'); CREATE TABLE u (a)")


def told(capsys: Reader) -> list[dict[str, Any]]:
    """stderr, which must be a JSON object a line."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_run_writes_a_json_line_for_each_table_and_for_itself(capsys: Reader) -> None:
    assert main(RUN) == 0
    found = told(capsys)
    assert all(list(line)[:3] == ["timestamp", "level", "event"] for line in found)
    run = [line for line in found if "run_id" in line]
    assert [line["event"] for line in run] == ["run started", "table extracted", "table extracted", "run finished"]
    assert len({line["run_id"] for line in run}) == 1
    assert [line.get("table") for line in run] == [None, "main.t", "main.u", None]
    assert run[1]["rows"] == 1 and run[-1]["tables"] == 2 and CANARY not in str(found)


@pytest.mark.parametrize(("level", "events"), [("warning", 1), ("error", 0)])
def test_what_is_below_the_level_is_left_out(capsys: Reader, level: str, events: int) -> None:
    assert main([*RUN, "--log-level", level]) == 0
    assert len(told(capsys)) == events


def test_decisions_and_chunks_are_for_debugging(capsys: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.LEVEL, "debug")
    assert main(RUN) == 0
    assert {"table decided", "chunk extracted"} <= {line["event"] for line in told(capsys)}


def test_what_ends_a_run_is_a_json_line_too(capsys: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.db").unlink()
    assert main(RUN) == 12
    last = told(capsys)[-1]
    assert (last["level"], last["exit_code"]) == ("error", 12) and "can't open the source" in last["event"]

    def broken(*_: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr(commands.runs, "run", broken)
    assert main(RUN) == 1
    last = told(capsys)[-1]
    assert "internal error: ValueError" in last["event"] and last["exit_code"] == 1 and CANARY not in str(last)


def test_text_is_the_same_in_pairs_and_its_errors_are_sentences(capsys: Reader) -> None:
    assert main([*RUN, "--log-format", "text"]) == 0
    assert 'event="table extracted" run_id=' in capsys.readouterr().err
    assert main([*RUN, "--log-format", "text", "--table", "nobody"]) == 10
    assert "\nfloodmark: " in "\n" + capsys.readouterr().err


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_name_breaks_a_line_or_steers_a_terminal(style: logs.Style) -> None:
    lines: list[str] = []
    log = Log(lines.append, style, "debug")
    evil = TableName(EVIL, EVIL)
    for event in (
        RunStarted("r", EVIL, EVIL, Point(EVIL), 1, EVIL),
        TableDecided(evil, Reason("forced", EVIL), 1, 1, 0),
        ChunkDone(evil, 1, 1, 1, 0.1),
        TableFinished(entry(EVIL, detail=EVIL)),
        Audited(evil, False),
        Warned(EVIL),
    ):
        log.take(event)
    assert len(lines) == 6
    for line in lines:
        assert not any(letter in line for letter in "\x1b\x9b\u202e\n") and "run_id" in line
    if style == "json":
        assert json.loads(lines[0])["source"] == EVIL and json.loads(lines[-1])["event"] == EVIL


@pytest.mark.parametrize(
    ("options", "environ", "terminal", "expected"),
    [
        ({}, {}, True, ("text", "warning")),
        ({}, {}, False, ("json", "info")),
        ({}, {logs.FORMAT: "text", logs.LEVEL: "error"}, False, ("text", "error")),
        ({"log_format": "json", "log_level": "debug"}, {logs.FORMAT: "text"}, True, ("json", "debug")),
        ({"log_format": "auto"}, {logs.FORMAT: "json"}, True, ("text", "warning")),
    ],
)
def test_how_it_is_chosen(options: Any, environ: Any, terminal: bool, expected: tuple[str, str]) -> None:
    assert chosen(options, environ, terminal) == expected


def test_a_wrong_variable_is_named_and_its_value_is_not() -> None:
    with pytest.raises(ConfigError) as refusal:
        chosen({}, {logs.LEVEL: CANARY}, False)
    assert refusal.value.on == logs.LEVEL and "warning" in str(refusal.value.hint) and CANARY not in str(refusal.value)


def test_the_log_brings_no_rich_and_silence_brings_nothing() -> None:
    script = """
import sys
from floodmark.cli.logs import Log
log = Log(lambda line: None, "json", "warning")
log.say("info", "x", {})
before = "structlog" in sys.modules
log.say("error", "x", {})
print(before, "structlog" in sys.modules, "rich" in sys.modules)
import rich.console
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
