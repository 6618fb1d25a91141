"""The log: JSON objects where no terminal is, the same as key=value on one, and nothing that steers either."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fix_cli import EVIL, entry
from floodmark.cli.main import main
from floodmark.cli.output import logs
from floodmark.cli.output.log_events import EVENTS, Line
from floodmark.cli.output.logs import Log, chosen
from floodmark.errors import ConfigError
from floodmark.events import ChunkAudited, ChunkDone, RunFinished, RunStarted, TableDecided, TableFinished, Warned
from floodmark.model import Point, Reason, TableName
from floodmark.pipeline import job

PERSON = TableName("public", "person")
CANARY = "c4n4ry-hunter2"
RUN = ["run", "--source", "sqlite:///a.db", "--destination", "./out"]
Reader = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (logs.FORMAT, logs.LEVEL, "FLOODMARK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with closing(sqlite3.connect("a.db")) as database:
        database.executescript(f"CREATE TABLE t (a); INSERT INTO t VALUES ('{CANARY}'); CREATE TABLE u (a)")


def told(capsys: Reader) -> list[dict[str, Any]]:
    """stderr, which must be a JSON object a line, each with an event and fields that log_events names."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for line in lines:
        assert set(line) <= {"timestamp", "level", "event", "run_id", *EVENTS[line["event"]].fields}, line
    return lines


def test_a_run_writes_a_json_line_for_each_table_and_for_itself(capsys: Reader) -> None:
    assert main(RUN) == 0
    found = told(capsys)
    assert all(list(line)[:3] == ["timestamp", "level", "event"] for line in found)
    run = [line for line in found if "run_id" in line]
    assert [line["event"] for line in run] == ["run_started", "table_extracted", "table_extracted", "run_finished"]
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
    assert {"table_decided", "chunk_done"} <= {line["event"] for line in told(capsys)}


def test_what_ends_a_run_is_a_json_line_too(capsys: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.db").unlink()
    assert main(RUN) == 12
    last = told(capsys)[-1]
    assert (last["level"], last["event"], last["exit_code"]) == ("error", "command_failed", 12)
    assert "can't open the source" in last["error"]

    def broken(*_: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr(job, "run", broken)
    assert main(RUN) == 1
    last = told(capsys)[-1]
    assert (last["event"], last["error"], last["exit_code"]) == ("internal_error", "ValueError", 1)
    assert last["place"].startswith("floodmark.cli.commands.run:") and CANARY not in str(last)


def test_text_is_the_same_in_pairs_and_its_errors_are_sentences(capsys: Reader) -> None:
    assert main([*RUN, "--log-format", "text"]) == 0
    assert "event=table_extracted run_id=" in capsys.readouterr().err
    assert main([*RUN, "--log-format", "text", "--table", "nobody"]) == 10
    assert "\nfloodmark: " in "\n" + capsys.readouterr().err


LOAD = ["load", "--destination", "./out", "--into", "parquet:./files"]
DELIVER = ["deliver", "--destination", "./out", "--to", "./zone"]
LABELS = ["main.t", "main.u"]


@pytest.mark.parametrize(("command", "done", "end"), [(LOAD, "loaded", "load"), (DELIVER, "delivered", "delivery")])
def test_a_load_and_a_delivery_talk_as_a_run_does(
    capsys: Reader, monkeypatch: pytest.MonkeyPatch, command: list[str], done: str, end: str
) -> None:
    assert main(RUN) == 0
    run_id = told(capsys)[-1]["run_id"]
    for status in (done, "unchanged"):
        assert main(command) == 0
        found = told(capsys)
        assert [line["event"] for line in found] == [f"table_{status}"] * 2 + [f"{end}_finished"]
        assert [line.get("table") for line in found] == [*LABELS, None] and found[0]["rows"] == 1
        assert all(list(line)[:3] == ["timestamp", "level", "event"] and line["run_id"] == run_id for line in found)
        assert found[-1][status] == found[-1]["tables"] == 2 and {line["level"] for line in found} == {"info"}
    assert main([*command, "--log-level", "warning"]) == 0 and not told(capsys)
    assert main([*command, "--table", "nobody"]) == 10
    assert told(capsys)[-1]["exit_code"] == 10
    monkeypatch.setenv(logs.FORMAT, "text")
    assert main(command) == 0
    *tables, finished = capsys.readouterr().err.splitlines()
    assert all(f" level=info event=table_unchanged run_id={run_id} " in line for line in tables)
    assert [line.partition(" table=")[2] for line in tables] == ["main.t rows=1", "main.u rows=0"]
    assert f"event={end}_finished run_id={run_id} " in finished and finished.endswith(" tables=2 unchanged=2")


@pytest.mark.parametrize(("command", "end"), [(LOAD, "load"), (DELIVER, "delivery")])
def test_a_table_that_a_load_or_a_delivery_could_not_bring_is_an_error(
    capsys: Reader, command: list[str], end: str
) -> None:
    assert main(RUN) == 0
    (path,) = Path("out/data").rglob("t-*.gz")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert main(command) == 14
    failed, other, finished = told(capsys)
    assert (failed["level"], failed["event"], failed["table"]) == ("error", "table_failed", "main.t")
    assert "does not match the manifest" in failed["why"] and "--full" in failed["hint"] and other["table"] == "main.u"
    assert (finished["level"], finished["event"], finished["failed"]) == ("warning", f"{end}_finished", 1)


def test_a_run_s_deliveries_are_lines_of_its_log(capsys: Reader) -> None:
    Path("floodmark.yaml").write_text(
        "deliver: [{name: one, url: ./zone}, {name: two, url: ./a.db/x}, {name: three, url: ./z}]"
    )
    assert main(RUN) == 13
    found = told(capsys)
    after = found[[line["event"] for line in found].index("run_finished") + 1 :]
    assert {line["run_id"] for line in after} == {found[-1]["run_id"]}
    assert [(line["event"], line.get("delivery")) for line in after[:-1]] == [
        (event, name) for name in ("one", "three") for event in (*["table_delivered"] * 2, "delivery_finished")
    ]
    assert after[-1]["level"] == "error" and "a delivery failed" in after[-1]["error"]


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
        ChunkAudited(evil, False),
        Warned(EVIL),
    ):
        log.observe(event)
    assert len(lines) == 6
    for line in lines:
        assert not any(letter in line for letter in "\x1b\x9b\u202e\n") and "run_id" in line
    if style == "json":
        assert json.loads(lines[0])["source"] == EVIL and json.loads(lines[-1])["message"] == EVIL


@pytest.mark.parametrize(
    ("options", "environ", "terminal", "expected"),
    [
        ({}, {}, True, ("text", "warning")),
        ({}, {}, False, ("json", "info")),
        ({}, {logs.FORMAT: "text", logs.LEVEL: "error"}, False, ("text", "error")),
        ({"log_format": "json", "log_level": "debug"}, {logs.FORMAT: "text"}, True, ("json", "debug")),
        ({"log_format": "auto"}, {logs.FORMAT: "json"}, True, ("text", "warning")),
        ({"quiet": True}, {}, False, ("json", "warning")),
        ({"quiet": True, "log_level": "debug"}, {}, False, ("json", "debug")),
    ],
)
def test_how_it_is_chosen(options: Any, environ: Any, terminal: bool, expected: tuple[str, str]) -> None:
    assert chosen(options, environ, terminal) == expected


def test_a_brief_log_leaves_out_what_stdout_sums_up() -> None:
    lines: list[str] = []
    finished = RunFinished("r1", 3, 1, 100, 2.0)
    assert Log(lines.append, "text", "warning").observe(finished) and len(lines) == 1
    brief = Log(lines.append, "text", "warning", brief=True)
    assert not brief.observe(finished) and brief.observe(Warned("a warning"))
    assert len(lines) == 2 and "event=warning" in lines[1]


def test_a_wrong_variable_is_named_and_its_value_is_not() -> None:
    with pytest.raises(ConfigError) as refusal:
        chosen({}, {logs.LEVEL: CANARY}, False)
    assert refusal.value.on == logs.LEVEL and "warning" in str(refusal.value.hint) and CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        (True, "true"),
        (0.5, "0.5"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        (r"C:\new file", r'"C:\\new file"'),
        (r"C:\new", r"C:\new"),
        ("one\ntwo", r"one\ntwo"),
        ({"a.b": 12, "c": None}, '"a.b 12%, c"'),
    ],
)
def test_a_value_in_a_text_line_is_quoted_if_it_needs_that(value: object, shown: str) -> None:
    lines: list[str] = []
    Log(lines.append, "text", "info").write(Line("retry", {"why": value}))
    assert lines[0].endswith(f" level=warning event=retry why={shown}")
