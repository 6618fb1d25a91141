"""`main`: from a command line to an exit code, with data on stdout and talk on stderr.

The run itself is stood in for here, so that every outcome can be had; processes, signals and pipes are real.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fix_child import Child
from fix_cli import EVIL, EVIL_SHOWN, entry, head, manifest
from floodmark.cli.commands import history, status
from floodmark.cli.main import main
from floodmark.demo import story
from floodmark.errors import (
    Conflict,
    FloodmarkError,
    LossRefused,
    SourceMismatch,
    SourceUnavailable,
    Stopped,
    StorageError,
    VerificationFailed,
)
from floodmark.events import Warned
from floodmark.model import Reason, TableName
from floodmark.native import usual_encoder
from floodmark.pipeline import job
from floodmark.pipeline.job import PlannedTable, RunPlan
from floodmark.pipeline.publish import RunResult
from floodmark.source.selection import LeftOut
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Inflight, Manifest, encode
from floodmark.storage.local import LocalStorage
from floodmark.version import __version__

CANARY = "c4n4ry-hunter2"
PLACES = ["--source", "sqlite:///a.db", "--destination", "./out"]
Reader = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("FLOODMARK_", "PG")) or name in ("S3_DESTINATION", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLOODMARK_LOG_FORMAT", "text")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Make `run` and `plan` return something, or raise it."""

    def stand_in(outcome: object) -> None:
        def instead(settings: object, observer: Callable[[object], None], stop: object) -> object:
            observer(Warned("a warning"))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(job, "run", instead)
        monkeypatch.setattr(job, "plan", instead)

    return stand_in


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the state hold these manifests, the newest first."""

    def stand_in(*manifests: Manifest) -> None:
        def newest(limit: int | None = None) -> Iterator[Manifest]:
            return iter(manifests)

        current = SimpleNamespace(head=head(manifests[0]), manifest=manifests[0], etag="e") if manifests else None
        held = SimpleNamespace(current=lambda: current, history=newest, in_flight=Inflight, require_begun=lambda: None)
        monkeypatch.setattr(history, "open_ledger", lambda settings, observer: held)
        monkeypatch.setattr(status, "open_ledgers", lambda settings, observer: [held])

    return stand_in


def result(*tables: Any) -> RunResult:
    one = manifest(*tables)
    return RunResult(one, f"manifests/{one.run_id}.json", 1234, 2.5)


# --- run and plan ----------------------------------------------------------------------------------------------


def test_run_shows_its_tables_and_ends_with_0(running: Callable[[object], None], capsys: Reader) -> None:
    running(result(entry(), entry("b", "unchanged", "unchanged")))
    assert main(["run", *PLACES]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == [
        "public.person  extracted  2,000  42.0 kB     1/3  1.2 s  rows_changed: 1 of 2 chunks hold newer rows",
        "1 table unchanged; --verbose lists them",
        "2 tables: 1 unchanged, 1 extracted, 0 failed; 1.2 kB uploaded in 2.5 s",
        "manifest ./out/_floodmark/manifests/20261124T010203Z-7f3a9c.json",
    ]
    assert said.err.endswith(' level=warning event=warning message="a warning"\n') and said.err.count("\n") == 1


def test_run_ends_with_3_when_a_table_failed(running: Callable[[object], None], capsys: Reader) -> None:
    running(result(entry(), entry("b", "failed", "denied", as_of=None)))
    assert main(["run", *PLACES]) == 3
    assert "public.b       failed" in capsys.readouterr().out


def test_quiet_prints_only_problems(running: Callable[[object], None], capsys: Reader) -> None:
    running(result(entry(), entry("b", "unchanged", "unchanged")))
    assert main(["run", *PLACES, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    running(result(entry(), entry("b", "failed", "denied", as_of=None)))
    assert main(["run", *PLACES, "--quiet"]) == 3
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[1].startswith("public.b  failed  denied:")


def test_run_gives_the_manifest_as_json(running: Callable[[object], None], capsys: Reader) -> None:
    outcome = result(entry(EVIL), entry("b", "failed", "failed"))
    running(outcome)
    assert main(["run", *PLACES, "--output", "json"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads(encode(outcome.manifest))
    assert said.err.endswith(' level=warning event=warning message="a warning"\n') and said.err.count("\n") == 1


def test_a_stateless_run_says_so(running: Callable[[object], None], capsys: Reader) -> None:
    one = manifest(entry())
    running(RunResult(one, None, 1, 1.0))
    assert main(["run", *PLACES]) == 0
    assert "no manifest: this run has no state" in capsys.readouterr().out


WORK = PlannedTable(TableName("public", "a"), Reason("rows_changed", "newer rows"), 4, 1, 1000)
NO_WORK = PlannedTable(TableName("public", "b"), Reason("unchanged", "proven"), 4, 0, 0)


@pytest.mark.parametrize(
    ("tables", "options", "code"),
    [
        ([WORK, NO_WORK], [], 0),
        ([WORK, NO_WORK], ["--detailed-exitcode"], 20),
        ([NO_WORK], ["--detailed-exitcode"], 0),
        ([], ["--detailed-exitcode"], 0),
    ],
)
def test_plan_ends_with_20_when_asked_and_there_is_work(
    tables: list[PlannedTable], options: list[str], code: int, running: Callable[[object], None], capsys: Reader
) -> None:
    running(RunPlan(tables))
    assert main(["plan", *PLACES, *options]) == code
    assert f"of {len(tables)} table" in capsys.readouterr().out


def test_plan_as_json(running: Callable[[object], None], capsys: Reader) -> None:
    running(RunPlan([WORK], (LeftOut(TableName("public", "v"), "view"),)))
    assert main(["plan", *PLACES, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "tables": [
            {
                "schema": "public",
                "name": "a",
                "reason": {"code": "rows_changed", "detail": "newer rows"},
                "chunks": 4,
                "to_extract": 1,
                "estimated_bytes": 1000,
            }
        ],
        "left_out": [{"schema": "public", "name": "v", "kind": "view"}],
        "refused": None,
        "drift": [],
    }


def test_a_plan_that_the_guards_refuse_is_shown_all_the_same(running: Callable[[object], None], capsys: Reader) -> None:
    running(RunPlan([WORK], refused=LossRefused("too much", why="all gone", hint="look")))
    assert main(["plan", *PLACES, "--detailed-exitcode"]) == 15
    said = capsys.readouterr()
    assert "public.a" in said.out and said.err.endswith("floodmark: too much: all gone\n  look\n")
    assert main(["plan", *PLACES, "--output", "json"]) == 15
    document = json.loads(capsys.readouterr().out)
    assert document["refused"] == {"error": "too much: all gone", "hint": "look", "exit_code": 15}
    assert len(document["tables"]) == 1


# --- status, history, show -------------------------------------------------------------------------------------

OLD, NEW = manifest(entry(), run_id="20261123T010203Z-aaaaaa"), manifest(entry(), entry("b", "unchanged", "unchanged"))
STATE = ["--state", "s3://mine/state"]


def test_status(ledger: Callable[..., None], capsys: Reader) -> None:
    ledger(NEW, OLD)
    assert main(["status", *STATE]) == 0
    assert "rows_changed: 1 of 2 chunks hold newer rows" in capsys.readouterr().out
    assert main(["status", *STATE, "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["head"]["run_id"] == NEW.run_id
    assert [table["name"] for table in document["tables"]] == ["person", "b"]
    assert document["tables"][0]["reason"]["code"] == "rows_changed"


def test_history(ledger: Callable[..., None], capsys: Reader) -> None:
    ledger(NEW, OLD)
    assert main(["history", *STATE]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", NEW.run_id, OLD.run_id]
    assert main(["history", *STATE, "--limit", "1", "--output", "json"]) == 0
    assert [run["run_id"] for run in json.loads(capsys.readouterr().out)["runs"]] == [NEW.run_id]


def test_show(ledger: Callable[..., None], capsys: Reader) -> None:
    ledger(NEW, OLD)
    assert main(["show", *STATE, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(encode(NEW))
    assert main(["show", *STATE, OLD.run_id, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(encode(OLD))
    assert main(["show", *STATE, OLD.run_id]) == 0
    assert f"run:         {OLD.run_id}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["show", "verify"])
def test_before_the_first_commit_no_id_is_known(command: str, capsys: Reader) -> None:
    Ledger(LocalStorage(Path("out/_floodmark"))).claim("r", datetime.now(UTC))
    assert main([command, "--destination", "./out", "20261123T010203Z-bbbbbb"]) == 2
    assert "history holds no such run" in capsys.readouterr().err


@pytest.mark.parametrize("run_id", ["20261123T010203Z-bbbbbb", "../head", f"postgresql://u:{CANARY}@h"])
def test_show_of_a_run_there_is_not(run_id: str, ledger: Callable[..., None], capsys: Reader) -> None:
    ledger(NEW)
    assert main(["show", *STATE, run_id]) == 2
    said = capsys.readouterr()
    assert "floodmark history" in said.err and CANARY not in said.err and said.out == ""


@pytest.mark.parametrize(
    ("command", "empty"),
    [
        ("status", {"head": None, "tables": [], "runs": [], "drift": []}),
        ("history", {"runs": []}),
        ("show", {"head": None, "tables": [], "runs": [], "drift": []}),
    ],
)
def test_before_the_first_commit(command: str, empty: object, ledger: Callable[..., None], capsys: Reader) -> None:
    ledger()
    assert main([command, *STATE]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "floodmark: no run has been committed yet\n")
    assert main([command, *STATE, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == empty


@pytest.mark.parametrize("command", ["status", "history", "show"])
def test_a_landing_zone_alone_has_no_state(command: str, capsys: Reader) -> None:
    assert main([command, "--destination", "s3://moj-reg-dev/x"]) == 10
    said = capsys.readouterr()
    assert "there is no state to read" in said.err and "FLOODMARK_STATE" in said.err


def test_the_commands_together_on_a_real_database(capsys: Reader) -> None:
    with closing(sqlite3.connect("a.db")) as database:
        database.execute("CREATE TABLE person (id integer PRIMARY KEY, name text)")
        database.execute(f"INSERT INTO person (name) VALUES ('{CANARY}')")
        database.commit()
    assert main(["plan", *PLACES, "--detailed-exitcode"]) == 20
    assert not Path("out/data").exists()
    assert main(["run", *PLACES]) == 0
    assert main(["run", *PLACES]) == 0
    here = ["--destination", "./out"]
    assert main(["status", *here]) == 0
    assert main(["history", *here]) == 0
    assert main(["show", *here]) == 0
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    assert main(["history", *here, "--output", "json"]) == 0
    newest, oldest = json.loads(capsys.readouterr().out)["runs"]
    assert (newest["unchanged"], oldest["extracted"]) == (1, 1)
    assert main(["show", *here, oldest["run_id"], "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == oldest["run_id"]
    assert main(["show", *here, "20200101T000000Z-abcdef"]) == 2
    assert main(["run", *PLACES, "--table", "nobody"]) == 10


# --- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FloodmarkError("x"), 1),
        (SourceMismatch("x"), 10),
        (Conflict("x"), 11),
        (SourceUnavailable("x"), 12),
        (StorageError("x"), 13),
        (VerificationFailed("x"), 14),
        (LossRefused("x"), 15),
        (Stopped(signal.SIGINT), 130),
        (Stopped(signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_end_with_their_code(
    error: BaseException, code: int, running: Callable[[object], None], capsys: Reader
) -> None:
    running(error)
    assert main(["run", *PLACES, "--output", "json"]) == code
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[1].startswith(("floodmark: ", "Stopped."))


def test_an_error_is_one_sentence_and_a_hint(running: Callable[[object], None], capsys: Reader) -> None:
    running(StorageError("can't put", on=EVIL, why="denied", hint="Grant s3:PutObject."))
    assert main(["run", *PLACES]) == 13
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"floodmark: can't put: {EVIL_SHOWN}: denied",
        "  Grant s3:PutObject.",
    ]


def test_an_internal_error_tells_class_and_place_but_no_text(
    running: Callable[[object], None], capsys: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: object) -> None:
        try:
            raise KeyError(CANARY)
        except KeyError:
            raise ValueError(CANARY) from None

    monkeypatch.setattr(job, "run", raising)
    assert main(["run", *PLACES]) == 1
    quiet = capsys.readouterr().err
    assert "internal error: ValueError in floodmark.cli.commands.run:_begin.<locals>.<lambda>" in quiet
    assert "FLOODMARK_DEBUG=1" in quiet and CANARY not in quiet and "File" not in quiet
    monkeypatch.setenv("FLOODMARK_DEBUG", "1")
    assert main(["run", *PLACES]) == 1
    loud = capsys.readouterr().err
    assert "builtins.KeyError" in loud and "builtins.ValueError" in loud
    assert ", in raising" in loud and CANARY not in loud


def test_a_wrong_configuration_ends_with_10_and_a_wrong_line_with_2(capsys: Reader) -> None:
    assert main(["run", "--destination", "./out"]) == 10
    assert "no source is given" in capsys.readouterr().err
    assert main(["run", "--source", f"postgresql://u:{CANARY}@h/db", "--destination", "./x"]) == 10
    assert main(["run", "--nonsense", CANARY]) == 2
    assert main(["rum"]) == 2
    assert CANARY not in capsys.readouterr().err


def test_version_and_help(capsys: Reader) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"floodmark {__version__}\nencoder: {usual_encoder()}\n"
    assert main(["plan", "--help"]) == 0
    assert "--detailed-exitcode" in capsys.readouterr().out


def test_demo_gets_its_directory_and_server(monkeypatch: pytest.MonkeyPatch, capsys: Reader) -> None:
    def stand_in(directory: Path, out: Any, source: str) -> int:
        out.write(f"{directory} {source}\n")
        return 3

    monkeypatch.setattr(story, "main", stand_in)
    assert main(["demo", "--directory", "d"]) == main(["demo", "--directory", "d", "--source", "mariadb"]) == 3
    assert capsys.readouterr().out == "d postgresql\nd mariadb\n"


# --- processes -------------------------------------------------------------------------------------------------

PRELUDE = """
import sys, time
sys.path.insert(0, {tests!r})
from types import SimpleNamespace
from fix_cli import EVIL, entry, manifest
from floodmark.cli.commands import history
from floodmark.cli.main import main
from floodmark.events import ChunkDone, ChunkProgress, RunStarted, StepStarted, TableDecided, TableFinished, Warned
from floodmark.model import Chunk, Point, Reason, TableName
from floodmark.native import usual_encoder
from floodmark.pipeline import job
from floodmark.pipeline.publish import RunResult
from floodmark.state.manifest import Inflight
"""
MAIN = "\nsys.exit(main())\n"
LONG = """
many = [manifest(*(entry(f"t{n}") for n in range(3000)))] * 20
current = SimpleNamespace(manifest=many[0])
held = SimpleNamespace(history=lambda limit: iter(many), current=lambda: current, in_flight=Inflight)
history.open_ledger = lambda settings, observer: held
"""
TALKING = """
def run(settings, observer, stop):
    table = TableName(EVIL, EVIL)
    observer(RunStarted("r", "sqlite:///a.db", "out", Point("t"), 1))
    observer(TableDecided(table, Reason("forced", EVIL), 2, 2, 0))
    observer(StepStarted("extracting", {table: 8000000}))
    observer(ChunkDone(table, 5, 5000000, 5, 0.1))
    observer(ChunkProgress(table, Chunk("1", 0), 4000000, finished=True))
    observer(ChunkProgress(table, Chunk("1", 8), 0))
    observer(Warned(EVIL))
    time.sleep(0.6)
    one = manifest(entry(EVIL))
    observer(TableFinished(one.tables[0]))
    return RunResult(one, "manifests/x.json", 1, 0.6)
job.run = run
"""


def start(body: str, *arguments: str, **options: Any) -> Child:
    prelude = PRELUDE.format(tests=str(Path(__file__).parent.parent))
    command = [sys.executable, "-c", prelude + body + MAIN, *arguments]
    environ = {**os.environ, "PYTHONUNBUFFERED": "", **options.pop("env", {})}
    return Child(command, stderr=options.pop("stderr", subprocess.PIPE), env=environ, **options)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["show", "--output", "json"], ["show"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], unbuffered: str) -> None:
    environ = {"PYTHONUNBUFFERED": unbuffered}
    with start(LONG, *arguments, *STATE, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_a_stream_that_is_closed_leads_nowhere(closed: tuple[int, ...]) -> None:
    """Nor does what is opened next get its number, and with it what is written to the stream."""
    opened = "\nimport os\nassert os.open('file', os.O_CREAT | os.O_RDWR) > 2\nos._exit(code)"
    prelude = PRELUDE.format(tests=str(Path(__file__).parent.parent))
    main = MAIN.replace("sys.exit(main())", f"code = main(){opened}")
    assert opened in main
    command = [sys.executable, "-c", prelude + LONG + main, "show", *STATE]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(command, preexec_fn=lambda: [os.close(one) for one in closed] and None, check=False, **pipes)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (1 not in closed)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_an_error_in_one_sentence(unbuffered: str) -> None:
    environ = {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full, start(LONG, "history", *STATE, stdout=full, env=environ) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err == b"floodmark: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["history", *STATE], 0), (["run", "--source", "sqlite:///a.db", "--destination", "./o"], 0), (["shwo"], 2)],
)
def test_stderr_that_can_not_be_written_fails_no_command(
    arguments: list[str], code: int, unbuffered: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("CREATE TABLE person (id int)")
    environ = {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        with start(LONG, *arguments, stdout=subprocess.PIPE, stderr=full, env=environ, cwd=tmp_path) as process:
            out, _ = process.communicate(timeout=120)
        assert (process.returncode, bool(out)) == (code, code == 0)
        with start(LONG, *arguments, stdout=full, stderr=full, env=environ, cwd=tmp_path) as process:
            process.communicate(timeout=120)
    assert process.returncode == (code or 1), "stdout is another matter"


@pytest.mark.parametrize("arguments", [["show"], ["show", "--output", "json"]])
def test_a_disk_that_fills_midway_is_an_error_too(arguments: list[str], tmp_path: Path) -> None:
    """A file-size limit takes a part of a write and refuses the rest, as a disk does that fills up."""
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (70000, 70000))\n"
    environ = {"PYTHONUNBUFFERED": "1"}
    with (
        (tmp_path / "out").open("wb") as small,
        start(LONG + limit, *arguments, *STATE, stdout=small, env=environ) as p,
    ):
        _, err = p.communicate(timeout=120)
    assert p.returncode == 1
    assert err == b"floodmark: the output can't be written: File too large\n"


def test_letters_the_terminal_lacks_are_escaped() -> None:
    body = TALKING.replace("EVIL", "'Stra\\xdfe'")
    environ = {"PYTHONIOENCODING": "ascii"}
    with start(body, "run", *PLACES, stdout=subprocess.PIPE, env=environ) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and b"Stra\\xdfe" in out and b"Stra\\xdfe" in err


def on_a_terminal(*arguments: str, **environ: str) -> bytes:
    """Everything a terminal would get when both streams are one."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "150", **environ}
    with start(TALKING, "run", *PLACES, *arguments, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
    os.close(ours)
    assert process.returncode == 0, shown
    return shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how a pseudo-terminal says that its other side is closed
        return b""


def test_on_a_terminal_there_is_live_progress_and_no_escape_of_a_name() -> None:
    shown = on_a_terminal()
    assert b"50%" in shown and b"1 of 2 chunks" in shown and b"4.0 MB of 8.0 MB" in shown
    assert b"\x1b[?25l" in shown and b"\x1b[?25h" in shown  # the cursor hidden while drawing, and back
    assert b"\x1b[32mextracted" in shown
    assert EVIL_SHOWN.encode() in shown
    for raw in (b"\x1b[31m", "\x9b".encode(), "\u202e".encode()):
        assert raw not in shown


def test_no_color_is_kept() -> None:
    shown = on_a_terminal(NO_COLOR="1")
    assert b"extracted" in shown and b"\x1b[32m" not in shown


def test_without_a_terminal_there_are_no_control_codes() -> None:
    environ = {"TERM": "xterm-256color", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    with start(TALKING, "run", *PLACES, stdout=subprocess.PIPE, env=environ) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"\x1b" not in out + err and b"event=run_started run_id=r" in err


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "floodmark", "--version"], capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout.decode().startswith(f"floodmark {__version__}\nencoder: ")
