"""Metrics from outside: real commands, a real Prometheus that scrapes, a real Pushgateway that is pushed to."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from fix_command import Floodmark
from fix_ports import HOST, closed_port, own_port
from fix_prometheus import Prometheus, eventually, get, require_clean

ROWS = 1000
Start = Callable[..., Prometheus]


@pytest.fixture
def job(tmp_path: Path) -> Floodmark:
    """The job of a small service: SQLite to a folder."""
    made = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": "sqlite:///cases.db", "FLOODMARK_DESTINATION": "./landing"})
    change(made, "CREATE TABLE person (id integer PRIMARY KEY, name text); CREATE TABLE note (id integer)")
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
    change(made, f"{numbers} INSERT INTO person SELECT i, 'x' FROM n")
    return made


def change(job: Floodmark, script: str) -> None:
    with closing(sqlite3.connect(job.folder / "cases.db")) as database:
        database.executescript(script)


@contextmanager
def exporter(job: Floodmark, *arguments: str) -> Iterator[int]:
    """An exporter of the job's state, which must end cleanly when it is told to."""
    port = own_port()
    given = ("--address", HOST, "--port", str(port), "--interval", "1", *arguments)
    process = job.start("exporter", *given, environment={"FLOODMARK_SOURCE": ""})
    try:
        eventually(lambda: get(f"http://{HOST}:{port}/health"), "the exporter")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        assert job.end(process).code == 0


def metrics(port: int) -> bytes:
    return get(f"http://{HOST}:{port}/metrics")


def series(text: str | bytes) -> dict[str, str]:
    """What every way out must show alike: all but what tells of the exporter and the gateway themselves."""
    lines = (text if isinstance(text, str) else text.decode()).splitlines()
    ours = (line for line in lines if line.startswith("floodmark_") and not line.startswith("floodmark_ledger"))
    pairs = (line.rsplit(" ", 1) for line in ours)
    return {
        re.sub(r'(instance|job)="[^"]*",?', "", name).replace(",}", "}"): str(float(value)) for name, value in pairs
    }


def test_prometheus_sees_what_an_exporter_tells_of_nights_that_go_well_and_badly(
    job: Floodmark, prometheus: Start
) -> None:
    with exporter(job) as port:
        seen = prometheus(port)
        eventually(lambda: seen.value("floodmark_ledger_up") == 1, "the first reading")
        assert b"floodmark_run" not in metrics(port)
        job.run()
        # A reading between the commit and the end of the run would give the manifest's time, a few ms earlier.
        eventually(lambda: seen.value('floodmark_runs_total{outcome="success"}') == 1, "the first night")
        assert seen.value('floodmark_table_rows{table="person"}') == ROWS
        assert seen.value('floodmark_table_status{table="person", status="extracted"}') == 1
        require_clean(metrics(port))
        success = seen.value("floodmark_run_last_success_timestamp_seconds")

        (job.folder / "cases.db").rename(job.folder / "away.db")
        job.run(code=12)
        eventually(lambda: seen.value('floodmark_run_status{status="failed"}') == 1, "the bad night")
        assert seen.value("floodmark_run_exit_code") == 12
        assert seen.value("floodmark_run_last_success_timestamp_seconds") == success
        assert seen.value('floodmark_table_rows{table="person"}') == ROWS
        (job.folder / "away.db").rename(job.folder / "cases.db")

        (job.folder / "landing").rename(job.folder / "unmounted")
        eventually(lambda: seen.value("floodmark_ledger_up") == 0, "the store to be away")
        assert seen.value('floodmark_table_rows{table="person"}') == ROWS
        (job.folder / "unmounted").rename(job.folder / "landing")
        job.run()
        eventually(lambda: seen.value('floodmark_runs_total{outcome="success"}') == 2, "the third night")
        assert seen.value("floodmark_ledger_up") == 1


def test_all_ways_out_show_the_same(job: Floodmark, prometheus: Start, pushgateway: int) -> None:
    job.run()
    change(job, "DELETE FROM note; INSERT INTO person VALUES (-1, 'y')")
    given = ("--metrics-textfile", "job.prom", "--push-gateway", f"http://{HOST}:{pushgateway}")
    done = job.run(*given)
    assert "can't" not in done.err
    file = (job.folder / "job.prom").read_bytes()
    require_clean(file)
    with exporter(job) as port:
        eventually(lambda: b"\nfloodmark_ledger_up 1.0" in metrics(port), "the exporter to have read")
        told = series(metrics(port))
    assert told == series(file)
    pushed = series(metrics(pushgateway))
    build = {name for name in pushed if name.startswith("floodmark_build_info")}
    assert {name: pushed[name] for name in pushed if name not in build} == {
        name: told[name] for name in told if not name.startswith("floodmark_build_info")
    }
    seen = prometheus(pushgateway)
    assert eventually(lambda: seen.value('floodmark_table_rows{table="person"}'), "the push") == ROWS + 1


def test_a_failed_run_is_pushed_and_takes_nothing_away(job: Floodmark, pushgateway: int) -> None:
    given = ("--push-gateway", f"http://{HOST}:{pushgateway}")
    job.run(*given)
    before = series(metrics(pushgateway))
    (job.folder / "cases.db").unlink()
    job.run(*given, code=12)
    after = series(metrics(pushgateway))
    assert after.keys() == before.keys()
    assert after['floodmark_run_status{database="cases",status="failed"}'] == "1.0"
    assert {name: value for name, value in after.items() if "_table_" in name} == {
        name: value for name, value in before.items() if "_table_" in name
    }


def test_a_run_is_seen_at_its_port_while_it_lasts(job: Floodmark) -> None:
    job.run()
    port = own_port()
    job.configure(f"metrics: {{port: {port}, address: {HOST}}}\n")
    with closing(sqlite3.connect(job.folder / "cases.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # the run waits for it
        process: Popen[bytes] = job.start("run")
        eventually(lambda: b'status="running"} 1.0' in metrics(port), "the run at work")
        assert f'table="person"}} {ROWS}.0'.encode() in metrics(port)
        other.execute("ROLLBACK")
    done = job.end(process)
    assert done.code == 0 and "2 unchanged" in done.out
    with pytest.raises(OSError):
        metrics(port)


def test_a_pushgateway_that_is_away_fails_no_run(job: Floodmark) -> None:
    gone = f"http://user:c4n4ry@{HOST}:{closed_port()}"
    done = job.run(environment={"FLOODMARK_PUSHGATEWAY": gone})
    assert "metrics can't be pushed" in done.err and "Connection refused" in done.err
    assert "c4n4ry" not in done.said
