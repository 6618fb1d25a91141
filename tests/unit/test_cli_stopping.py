"""A command that is told to stop, on a terminal and elsewhere: it says so once, and a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from fix_child import Child
from fix_terminal import Terminal

PLACES = ("--source", "sqlite:///a.db", "--destination", "./out")
PRELUDE = """
import sys, time
from floodmark.cli.main import main
from floodmark.events import ChunkProgress, StepStarted, TableDecided, Warned
from floodmark.model import Chunk, Reason, TableName
from floodmark.pipeline import job
"""
MAIN = "\nsys.exit(main())\n"
WAITING = """
def run(settings, observer, stop):
    observer(Warned("ready"))
    stop.wait(30)
    stop.require_not_asked()
job.run = run
"""
DEAF = """
def run(settings, observer, stop):
    observer(Warned("ready"))
    stop.wait(30)
    observer(Warned("deaf"))
    time.sleep(30)
job.run = run
"""


def start(body: str, *arguments: str) -> Child:
    command = [sys.executable, "-c", PRELUDE + body + MAIN, *arguments]
    return Child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(process: subprocess.Popen[bytes], word: bytes) -> bytes:
    assert process.stderr is not None
    line = b""
    while word not in line:
        line = process.stderr.readline()
        assert line, "the process ended"
    return line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_cleanly(number: int, code: int) -> None:
    with start(WAITING, "run", *PLACES, "--log-format", "text") as process:
        wait_for(process, b"ready")
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == code and out == b""
    assert err == b"floodmark: stopping\n  A second signal ends the process at once.\nStopped.\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_process_and_says_so(number: int, code: int) -> None:
    with start(DEAF, "run", *PLACES, "--log-format", "text") as process:
        wait_for(process, b"ready")
        process.send_signal(signal.SIGTERM)
        wait_for(process, b"deaf")
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert err == (
        b"Ended at once. Nothing was committed. The next run continues from the chunks that were saved by then.\n"
    )


def test_a_second_signal_during_the_commit_promises_nothing() -> None:
    body = DEAF.replace(
        '    observer(Warned("ready"))', '    observer(StepStarted("committing"))\n    observer(Warned("ready"))'
    )
    with start(body, "run", *PLACES, "--log-format", "json") as process:
        wait_for(process, b"ready")
        process.send_signal(signal.SIGTERM)
        wait_for(process, b"deaf")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    (line,) = err.splitlines()
    said = msgspec.json.decode(line)
    assert (said["event"], said["level"], said["exit_code"]) == ("ended_at_once", "error", 143)
    assert said["hint"] == "The run was committing: `floodmark history` shows if it is committed."


def on_80_columns(body: str) -> Terminal:
    prelude = PRELUDE
    return Terminal([sys.executable, "-c", prelude + body + MAIN, "run", *PLACES], Path.cwd(), os.environ)


DRAWING = """
def run(settings, observer, stop):
    table = TableName("public", "person")
    observer(TableDecided(table, Reason("forced", ""), 2, 2, 0))
    observer(StepStarted("extracting", {table: 8000000}))
    observer(ChunkProgress(table, Chunk("1", 0), 4000000))
    stop.wait(30)
    time.sleep(END)
    stop.require_not_asked()
job.run = run
"""


def test_ctrl_c_clears_the_live_view_and_leaves_one_line() -> None:
    terminal = on_80_columns(DRAWING.replace("END", "0.5"))
    terminal.until("4.0 MB of 8.0 MB")
    terminal.press_ctrl_c()
    assert terminal.until("Ctrl-C again").splitlines() == [
        "Stopping: what is in progress ends first. Ctrl-C again ends at once."
    ]
    assert terminal.end() == (130, ["Stopped."]) and terminal.screen.cursor_shown


@pytest.mark.parametrize("wait", [True, False], ids=["drawn", "at_once"])
def test_a_second_ctrl_c_clears_the_live_view_too(wait: bool) -> None:
    terminal = on_80_columns(DRAWING.replace("END", "30"))
    terminal.until("4.0 MB of 8.0 MB")
    terminal.press_ctrl_c()
    if wait:
        terminal.until("Stopping")
    else:
        time.sleep(0.02)  # the kernel makes one signal of two that come together
    terminal.press_ctrl_c()
    said = [
        "Ended at once. Nothing was committed. The next run continues from the chunks",
        "that were saved by then.",
    ]
    assert terminal.end() == (130, said) and terminal.screen.cursor_shown


LOADING = """
import sys, time
from importlib.abc import MetaPathFinder
class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "floodmark.cli.main":
            print("ready", file=sys.stderr, flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
from floodmark.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_program_loads_is_no_traceback(number: int, code: int) -> None:
    with Child([sys.executable, "-c", LOADING, "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(process, b"ready")
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (code, b"", b"Stopped.\n")


COMMITTED = """
from fix_cli import entry, manifest
from floodmark.cli.output import render
from floodmark.pipeline.publish import RunResult
def table(*arguments, **named):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(1)
    return "the table\\n"
job.run = lambda settings, observer, stop: RunResult(manifest(entry()), "manifests/x.json", 1, 0.6)
render.run_table = table
"""


def test_a_signal_after_the_commit_lets_the_run_say_what_it_did() -> None:
    path = f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
    with start(path + COMMITTED, "run", *PLACES, "--log-format", "text") as process:
        wait_for(process, b"ready")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and out.startswith(b"the table\n1 table: ")
    assert b"Stopped" not in err
    with start(path + COMMITTED, "run", *PLACES, "--log-format", "text") as process:
        wait_for(process, b"ready")
        process.send_signal(signal.SIGTERM)
        wait_for(process, b"second signal")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, b"", b"Ended at once. The run is committed.\n")
