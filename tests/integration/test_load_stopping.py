"""`floodmark load` told to stop, and what it shows on a terminal.

The data lies in S3, behind a proxy that can hold it.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from test_stopping import ENDS, on_a_terminal

from fix_command import CHUNKS, Done, Floodmark, asked_to_stop
from fix_postgres import PgDatabase
from fix_s3_proxy import Answer, Forward, S3Proxy, Seen
from fix_storage import S3Bucket, S3Server, environment
from floodmark.state.consumers import ParquetIndex
from floodmark.state.manifest import decode

DAY_1 = """
    CREATE TABLE apple (a int); INSERT INTO apple SELECT generate_series(1, 1000);
    CREATE TABLE person (id int, t text); INSERT INTO person SELECT n, md5(n::text) FROM generate_series(1, 20000) n"""
DAY_2 = "INSERT INTO apple VALUES (0); INSERT INTO person VALUES (0, 'new')"
TARGETS = {"duckdb": "duckdb:cases.duckdb", "parquet": "parquet:./lake"}


class Gate:
    """Holds the first request for an object whose key holds a word."""

    def __init__(self, word: str) -> None:
        self._word = word
        self.arrived, self.opened = threading.Event(), threading.Event()

    def __call__(self, seen: Seen, forward: Forward) -> Answer:
        if seen.method == "GET" and self._word in seen.path:
            self.arrived.set()
            assert self.opened.wait(120)
        return forward(seen)


@pytest.fixture
def proxy(s3_server: S3Server, make_proxy: Callable[[str], S3Proxy]) -> S3Proxy:
    return make_proxy(s3_server.endpoint)


@pytest.fixture
def floodmark(pg: PgDatabase, s3_bucket: S3Bucket, proxy: S3Proxy, tmp_path: Path) -> Floodmark:
    pg.execute(DAY_1)
    places = {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake"}
    made = Floodmark(tmp_path / "job", {**environment(proxy.endpoint), **places})
    made.configure(CHUNKS)
    made.run()
    return made


def content(folder: Path, kind: str) -> dict[str, int]:
    """Each table's rows as a reader of the target counts them; and that nothing else is there."""
    if kind == "parquet":
        index = decode(ParquetIndex, (folder / "lake/_floodmark/parquet.json").read_bytes(), "")
        named = {file.key for table in index.tables for file in table.files}
        assert {path.relative_to(folder / "lake").as_posix() for path in folder.rglob("*.parquet")} == named | {
            one.key for one in index.superseded
        }
        return {table.name: table.rows for table in index.tables}
    assert [path.name for path in folder.glob("cases*")] == ["cases.duckdb"]
    with duckdb.connect(str(folder / "cases.duckdb"), read_only=True) as connection:
        tables = connection.execute(
            "SELECT table_name, estimated_size FROM duckdb_tables() WHERE schema_name = 'public'"
        )
        return dict(tables.fetchall())


def stopped(floodmark: Floodmark, proxy: S3Proxy, into: str, *numbers: signal.Signals) -> Done:
    """A load that got the signals while it waited for the data of the second of two tables."""
    gate = Gate("table_name%3Dperson")
    proxy.always = gate
    process = floodmark.start("load", "--into", into)
    assert gate.arrived.wait(60)
    first, *more = numbers
    said = asked_to_stop(process, first)
    assert process.poll() is None, "it waits for what it is in the middle of"
    for number in more:
        process.send_signal(number)
        process.wait(60)
    gate.opened.set()
    done = floodmark.end(process, said=said)
    proxy.always = None
    return done


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
@pytest.mark.parametrize("kind", TARGETS)
def test_the_first_signal_ends_a_load_cleanly(
    floodmark: Floodmark, pg: PgDatabase, proxy: S3Proxy, kind: str, number: signal.Signals
) -> None:
    into = TARGETS[kind]
    floodmark("load", "--into", into)
    old = content(floodmark.folder, kind)
    assert old == {"apple": 1000, "person": 20000}
    pg.execute(DAY_2)
    floodmark.run()
    proxy.seen.clear()
    done = stopped(floodmark, proxy, into, number)
    assert len([seen for seen in proxy.seen if "person" in seen.path]) == 1, "not one chunk more is read"
    assert done.code == ENDS[number] and done.out == ""
    assert "A second signal ends the process at once" in done.err
    assert done.err.splitlines()[-1].startswith("Stopped. ")
    assert content(floodmark.folder, kind) == old
    assert list(floodmark.temporary.iterdir()) == []
    said = floodmark("load", "--into", into)
    assert "2 loaded" in said.out and content(floodmark.folder, kind) == {"apple": 1001, "person": 20001}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_first_load_that_is_stopped_is_no_hindrance(floodmark: Floodmark, proxy: S3Proxy, kind: str) -> None:
    assert stopped(floodmark, proxy, TARGETS[kind], signal.SIGTERM).code == 143
    assert list(floodmark.folder.rglob("*.parquet")) == []
    floodmark("load", "--into", TARGETS[kind])
    assert content(floodmark.folder, kind) == {"apple": 1000, "person": 20000}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_second_signal_ends_a_load_at_once(floodmark: Floodmark, pg: PgDatabase, proxy: S3Proxy, kind: str) -> None:
    floodmark("load", "--into", TARGETS[kind])
    pg.execute(DAY_2)
    floodmark.run()
    assert stopped(floodmark, proxy, TARGETS[kind], signal.SIGTERM, signal.SIGINT).code == 130
    assert "2 loaded" in floodmark("load", "--into", TARGETS[kind]).out


def test_a_terminal_shows_a_load_at_work(floodmark: Floodmark) -> None:
    code, shown = on_a_terminal(floodmark, "load", "--into", TARGETS["parquet"])
    assert code == 0
    assert re.search(r"publishing, \d:\d\d elapsed", shown)
    assert "\x1b[1A" in shown or "\x1b[2K" in shown  # redrawn in place
    assert "2 tables: 0 unchanged, 2 loaded" in shown
    code, shown = on_a_terminal(floodmark, "load", "--into", TARGETS["parquet"], TERM="dumb")
    assert code == 0 and "\x1b" not in shown and "2 unchanged" in shown


def test_log_lines_stand_above_the_live_progress(floodmark: Floodmark, pg: PgDatabase, s3_bucket: S3Bucket) -> None:
    pg.execute("CREATE TABLE price (n numeric); INSERT INTO price VALUES (0.12345678901)")
    floodmark.run()
    code, shown = on_a_terminal(floodmark, "load", "--into", TARGETS["parquet"])
    assert code == 3 and "event=table_failed" in shown and "table=public.price" in shown and "12345678901" not in shown
