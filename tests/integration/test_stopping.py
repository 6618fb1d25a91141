"""Told to stop: a signal ends a run cleanly and publishes nothing new, a second one ends it at once."""

from __future__ import annotations

import os
import pty
import re
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from fix_canaries import TABLES, require_none
from fix_child import Child
from fix_command import Floodmark, Landing, asked_to_stop, at_work, held, until
from fix_postgres import PgDatabase
from fix_runs import Nightly
from fix_terminal import Terminal
from floodmark.errors import RunStopped, Stopped
from floodmark.events import ChunkDone, Event, RunFinished, TableFinished, Warned, ignore_event
from floodmark.pipeline.job import plan, run
from floodmark.prune.job import KeepLast, prune
from floodmark.state.manifest import Inflight, decode
from floodmark.stop import Stop
from floodmark.verify.job import VerifyRequest, verify

ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(TABLES)
    return pg


@pytest.fixture
def floodmark(service: PgDatabase, tmp_path: Path) -> Floodmark:
    places = {"FLOODMARK_SOURCE": service.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    made = Floodmark(tmp_path / "job", places)
    made.configure("chunk_size: 64KiB\nlimits: {lock_timeout: 600s}\n")
    return made


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "out")


def waiting(floodmark: Floodmark, service: PgDatabase, table: str, *arguments: str) -> Child:
    """A run that waits for a table which a migration holds."""
    process = floodmark.start("run", "--output", "json", *arguments)
    until(lambda: process.poll() is not None or at_work(service, f"%{table}%")(), patience=60)
    assert process.poll() is None
    return process


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_the_first_signal_ends_the_run_cleanly(
    floodmark: Floodmark, service: PgDatabase, landing: Landing, number: signal.Signals
) -> None:
    floodmark.run()
    before = landing.committed
    service.execute("INSERT INTO person VALUES (0, 'new'); INSERT INTO sick VALUES (2, 'new', '')")
    migration = service.connect()
    held(migration, "sick")
    process = waiting(floodmark, service, "sick", "--metrics-textfile", "run.prom")
    said = asked_to_stop(process, number)
    assert process.poll() is None  # it waits for what it is in the middle of
    migration.rollback()
    done = floodmark.end(process, said=said)
    assert done.code == ENDS[number] and done.out == ""
    assert "A second signal ends the process at once" in done.err
    assert re.search(r"^Stopped\. Nothing was committed[.,] .*\.\n\Z", done.err, re.MULTILINE)
    record = decode(Inflight, landing.files["_floodmark/inflight.json"], "").ended
    assert record is not UNSET and (record.last.outcome, record.last.exit_code) == ("stopped", ENDS[number])
    told = (floodmark.folder / "run.prom").read_text().splitlines()
    (exit_code,) = [line for line in told if line.startswith("floodmark_run_exit_code")]
    assert float(exit_code.rpartition(" ")[2]) == ENDS[number]
    require_same_snapshot(landing, before)
    assert list(floodmark.temporary.iterdir()) == []
    again = floodmark.run()
    assert {again.outcomes["public.person"], again.outcomes["public.sick"]} == {("extracted", "rows_changed")}
    require_none(landing.folder / "_floodmark")


def require_same_snapshot(landing: Landing, before: dict[str, bytes]) -> None:
    """Readers see what they saw: head, and all that was there, is as it was."""
    now = landing.committed
    assert {key: now.get(key) for key in before} == before
    assert not [key for key in now.keys() - before.keys() if key.startswith("_floodmark/manifests/")]


def test_the_second_signal_ends_at_once(floodmark: Floodmark, service: PgDatabase, landing: Landing) -> None:
    migration = service.connect()
    held(migration, "sick")
    process = waiting(floodmark, service, "sick")
    asked_to_stop(process, signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    done = floodmark.end(process, patience=20)
    assert done.code == 130
    assert "_floodmark/head.json" not in landing.files
    migration.rollback()
    until(lambda: service.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floodmark'") == 0)
    assert len(floodmark.run().outcomes) == 2


def test_plan_is_stopped_too(floodmark: Floodmark, service: PgDatabase, landing: Landing) -> None:
    floodmark.run()
    before = landing.files
    migration = service.connect()
    held(migration, "pg_seclabel")  # a table that is held is not looked into by plan, but its labels are
    process = floodmark.start("plan")
    until(lambda: process.poll() is not None or at_work(service, "%pg_seclabel%")(), patience=60)
    assert process.poll() is None
    asked_to_stop(process, signal.SIGINT)
    migration.rollback()
    assert floodmark.end(process).code == 130
    assert landing.files == before


def test_a_stopped_run_tells_of_no_unfinished_table(nightly: Nightly) -> None:
    for number in range(30):
        nightly.database.execute(f"CREATE TABLE t{number} AS SELECT 1 AS a")
    stop, done = Stop(), 0

    def observe(event: Event) -> None:
        nonlocal done
        seen.append(event)
        done += isinstance(event, ChunkDone)
        if done == 3:
            stop.ask(signal.SIGTERM)

    seen: list[Event] = []
    with pytest.raises(RunStopped) as stopped:
        run(nightly.settings(connections=1), observe, stop)
    error = stopped.value
    assert 3 <= error.kept_chunks < 10 and error.chunks == 30
    assert error.hint is not None and f"{error.kept_chunks} of 30 chunks are kept" in error.hint
    assert not [event for event in seen if isinstance(event, TableFinished | Warned | RunFinished)]
    done = 10
    nightly.run()
    read = sum(isinstance(event, ChunkDone) for event in nightly.events)
    assert read == 30 - error.kept_chunks, "the kept chunks are not read again"


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_whatever_is_stopped_names_the_signal_that_asked_for_it(nightly: Nightly, number: signal.Signals) -> None:
    nightly.database.execute("CREATE TABLE t AS SELECT 1 AS a")
    settings = nightly.settings()
    nightly.run()
    nightly.database.execute("UPDATE t SET a = 2")
    nightly.run()
    stop = Stop()
    stop.ask(number)
    work: list[Callable[[], object]] = [
        lambda: run(settings, ignore_event, stop),
        lambda: plan(settings, ignore_event, stop),
        lambda: verify(settings, VerifyRequest(), ignore_event, stop),
        lambda: verify(settings, VerifyRequest(deep=True), ignore_event, stop),
        lambda: prune(replace(settings, prune_grace=0), KeepLast(1), ignore_event, stop),
    ]
    for one in work:
        with pytest.raises(Stopped) as stopped:
            one()
        assert stopped.value.code == ENDS[number]


# --- what is said --------------------------------------------------------------------------------------------------


@pytest.fixture
def many(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    """A service of 40 tables, of which a migration holds the second last."""
    for number in range(40):
        pg.execute(f"CREATE TABLE t{number:02} AS SELECT 1 AS a")
    places = {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    made = Floodmark(tmp_path / "job", places)
    made.configure("limits: {lock_timeout: 600s}\n")
    return made


def test_the_log_of_a_stopped_run_has_one_line_of_its_end(many: Floodmark, pg: PgDatabase) -> None:
    migration = pg.connect()
    held(migration, "t38")
    process = many.start("run", "--log-format", "json", "--connections", "1")
    until(lambda: process.poll() is not None or at_work(pg, "%t38%")(), patience=60)
    said = asked_to_stop(process, signal.SIGTERM)
    migration.rollback()
    done = many.end(process, said=said)
    lines = [msgspec.json.decode(line) for line in done.err.splitlines()]
    assert [line["event"] for line in lines] == ["run_started", "stop_requested", "run_stopped"]
    end = lines[-1]
    assert 38 <= end["kept_chunks"] <= 39 and (end["chunks"], end["exit_code"]) == (40, 143) and "run_id" in end
    left = f"Nothing was committed. {end['kept_chunks']} of 40 chunks are kept; the next run continues from them."
    assert end["hint"] == left
    read = many.run("--log-format", "json", "--log-level", "debug").err.count('"event":"chunk_done"')
    assert read == 40 - end["kept_chunks"]


def test_ctrl_c_leaves_one_line_on_a_terminal(many: Floodmark, pg: PgDatabase) -> None:
    migration = pg.connect()
    held(migration, "t38")
    terminal = Terminal(many.command("run", "--connections", "1"), many.folder, many.environment)
    shown = terminal.until(r"public\.t38 (.*\n)+.* elapsed").splitlines()
    assert re.fullmatch(r"public\.t38 +0 of 1 chunk", shown[0]) and len(shown) == 3
    assert re.fullmatch(r"extracting ━+╸?.* 9\d% 3[89] of 40 chunks", shown[1])
    elapsed = re.search(r", (0:\d\d) elapsed", shown[2])
    assert elapsed is not None
    assert f", {elapsed[1]} elapsed" not in terminal.until(rf", 0:(?!{elapsed[1][2:]})\d\d elapsed", patience=3)
    terminal.press_ctrl_c()
    assert terminal.until("^Stopping").splitlines() == [
        "Stopping: what is in progress ends first. Ctrl-C again ends at once."
    ]
    migration.rollback()
    code, left = terminal.end()
    assert code == 130 and terminal.screen.cursor_shown
    assert re.fullmatch(
        r"Stopped\. Nothing was committed\. 3[89] of 40 chunks are kept; the next run continues\nfrom them\.",
        "\n".join(left),
    )


@pytest.mark.parametrize("command", ["run", "plan"])
def test_before_the_plan_a_terminal_says_what_is_waited_for(many: Floodmark, pg: PgDatabase, command: str) -> None:
    migration = pg.connect()
    held(migration, "pg_seclabel")
    terminal = Terminal(many.command(command), many.folder, many.environment)
    assert re.fullmatch(r"reading the catalog, 0:\d\d elapsed", terminal.until("reading the catalog.* elapsed"))
    terminal.press_ctrl_c()
    terminal.until("Stopping")
    terminal.press_ctrl_c()
    code, left = terminal.end()
    assert code == 130 and left[0].startswith("Ended at once. ") and len(left) <= 2
    assert ("A plan only reads" if command == "plan" else "Nothing was committed.") in left[0]
    migration.rollback()


# --- what a terminal shows --------------------------------------------------------------------------------------


def on_a_terminal(floodmark: Floodmark, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command whose streams are a terminal of 100 columns, and return its exit code and all it showed."""
    master, slave = pty.openpty()
    os.set_inheritable(slave, True)
    process = Child(
        floodmark.command(*arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=floodmark.folder,
        env={**floodmark.environment, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
        close_fds=True,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(master)
    return process.wait(60), shown.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_live_progress_and_colour(floodmark: Floodmark, service: PgDatabase) -> None:
    service.execute(
        "CREATE TABLE big AS SELECT n, md5(n::text) || repeat('x', 400) AS t FROM generate_series(1, 60000) n"
    )
    code, shown = on_a_terminal(floodmark, "run")
    assert code == 0
    assert re.search(r"\d+% \d+ of \d+ chunks", COLOUR.sub("", shown))
    assert re.search(r"[\d.]+ [kM]?B of [\d.]+ [kM]B, .*\d:\d\d elapsed", shown)
    assert "\x1b[1A" in shown or "\x1b[2K" in shown  # redrawn in place
    assert any(code not in ("\x1b[0m",) for code in COLOUR.findall(shown))
    final = shown[shown.rindex("table ") if "table " in shown else 0 :]
    assert "public.big" in final and "3 tables: 0 unchanged, 3 extracted, 0 failed" in final
    require_none(shown)

    code, shown = on_a_terminal(floodmark, "run", NO_COLOR="1")
    assert code == 0 and "3 unchanged" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", shown)
    code, shown = on_a_terminal(floodmark, "run", TERM="dumb")
    assert code == 0 and "\x1b" not in shown


@pytest.mark.parametrize("command", ["run", "plan", "status", "history", "show"])
def test_json_is_alone_on_stdout(floodmark: Floodmark, command: str) -> None:
    floodmark.run()
    done = floodmark(command, "--output", "json")
    assert isinstance(done.json, dict) and "\x1b" not in done.said
