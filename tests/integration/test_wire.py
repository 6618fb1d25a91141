"""The proxy that counts statements: its numbers, its hooks, and that it leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from fix_postgres import PgDatabase
from fix_runs import Nightly
from fix_wire import Session, Wire

MakeWire = Callable[..., Wire]


@pytest.fixture
def make_wire(pg: PgDatabase) -> Iterator[MakeWire]:
    """A proxy in front of the test's database."""
    made: list[Wire] = []

    def make(**named: object) -> Wire:
        made.append(Wire(lambda: pg.server.port, **named))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for wire in made:
        wire.close()


def connected(wire: Wire, database: PgDatabase) -> psycopg.Connection[tuple[object, ...]]:
    dsn = psycopg.conninfo.make_conninfo(database.dsn, port=wire.port)
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)


def test_statements_are_counted_over_all_connections(pg: PgDatabase, make_wire: MakeWire) -> None:
    seen: list[tuple[str, int, int, str]] = []

    def hook(when: str) -> Callable[[int, Session, str], None]:
        return lambda number, session, text: seen.append((when, number, session.pid, text))

    wire = make_wire(before=hook("before"), after=hook("after"))
    with closing(connected(wire, pg)) as one, closing(connected(wire, pg)) as two:
        one.execute("SELECT 1")  # a simple Query
        two.execute("SELECT %s", ["a parameter"])  # Parse, Bind, Describe, Execute, Sync
        with one.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 9999)) TO STDOUT") as copy:
            assert sum(1 for _ in copy) == 9999
        with pytest.raises(psycopg.errors.DivisionByZero):
            two.execute("SELECT 1 / 0")
        pids = [one.info.backend_pid, two.info.backend_pid]
    texts = ["SELECT 1", "SELECT $1", "COPY (SELECT generate_series(1, 9999)) TO STDOUT", "SELECT 1 / 0"]
    expected = [
        (when, number, pids[(number - 1) % 2], text)
        for number, text in enumerate(texts, start=1)
        for when in ("before", "after")
    ]
    assert seen == expected and wire.count == 4


def test_what_is_held_back_has_not_happened_yet(pg: PgDatabase, make_wire: MakeWire) -> None:
    pg.execute("CREATE TABLE t (id int)")
    rows: list[tuple[str, int]] = []
    wire = make_wire(
        before=lambda *_: rows.append(("before", pg.value("SELECT count(*) FROM t"))),
        after=lambda *_: rows.append(("after", pg.value("SELECT count(*) FROM t"))),
    )
    with closing(connected(wire, pg)) as client:
        client.execute("INSERT INTO t VALUES (1)")
        client.execute("INSERT INTO t VALUES (%s)", [2])
    assert rows == [("before", 0), ("after", 1), ("before", 1), ("after", 2)]


def test_the_world_stands_still_while_a_hook_runs(pg: PgDatabase, make_wire: MakeWire) -> None:
    pg.execute("CREATE TABLE t (id int)")
    inside, passed = threading.Event(), []

    def act(number: int, session: Session, text: str) -> None:
        if text == "SELECT 'act'":
            inside.set()
            time.sleep(0.2)
            passed.append(pg.value("SELECT count(*) FROM t"))

    wire = make_wire(after=act)
    with closing(connected(wire, pg)) as one, closing(connected(wire, pg)) as two:
        thread = threading.Thread(target=one.execute, args=("SELECT 'act'",))
        thread.start()
        assert inside.wait(10)
        two.execute("INSERT INTO t VALUES (1)")
        assert passed == [0]
        thread.join()


def test_serial_statements_do_not_overlap(pg: PgDatabase, make_wire: MakeWire) -> None:
    order: list[str] = []
    wire = make_wire(
        before=lambda number, *_: order.append(f"{number} begins"),
        after=lambda number, *_: order.append(f"{number} ends"),
        serial=True,
    )
    with closing(connected(wire, pg)) as one, closing(connected(wire, pg)) as two:
        threads = [threading.Thread(target=c.execute, args=("SELECT pg_sleep(0.05)",)) for c in (one, two) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert order == [f"{number} {what}" for number in range(1, 7) for what in ("begins", "ends")]


def test_a_client_that_is_gone_gives_up_its_turn(pg: PgDatabase, make_wire: MakeWire) -> None:
    wire = make_wire(serial=True)
    with closing(connected(wire, pg)) as one, closing(connected(wire, pg)) as two:
        pid = one.info.backend_pid
        with pytest.raises(psycopg.OperationalError):
            one.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert two.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall() == [(0,)]


def test_what_a_hook_raises_surfaces(pg: PgDatabase) -> None:
    def wrong(number: int, session: Session, text: str) -> None:
        raise AssertionError("the hook's own words")

    with (
        pytest.raises(AssertionError, match="the hook's own words"),
        Wire(lambda: pg.server.port, before=wrong) as wire,
        closing(connected(wire, pg)) as client,
    ):
        client.execute("SELECT 1")


def test_a_query_can_be_edited(pg: PgDatabase, make_wire: MakeWire) -> None:
    wire = make_wire(edit=lambda session, text: text.replace("one", "another"))
    with closing(connected(wire, pg)) as client:
        assert client.execute("SELECT 'one'").fetchall() == [("another",)]


def test_a_cancel_passes(pg: PgDatabase, make_wire: MakeWire) -> None:
    wire = make_wire()
    with closing(connected(wire, pg)) as client:
        timer = threading.Timer(0.2, client.cancel_safe)  # the older `cancel` blocks every thread, so this proxy, too
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("SELECT pg_sleep(30)")
        timer.join()
        assert client.execute("SELECT 1").fetchall() == [(1,)]


def test_nothing_is_left_behind(pg: PgDatabase, make_wire: MakeWire) -> None:
    threads, sockets = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    wire = make_wire()
    clients = [connected(wire, pg) for _ in range(4)]
    clients[0].close()
    wire.close()
    with pytest.raises(psycopg.OperationalError):
        clients[1].execute("SELECT 1")
    for client in clients:
        client.close()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == sockets


def test_a_run_takes_the_same_statements_each_time(nightly: Nightly, make_wire: MakeWire) -> None:
    nightly.database.execute("CREATE TABLE t AS SELECT generate_series(1, 9) id")
    wire = make_wire()
    counts = []
    for _ in range(3):
        wire.count = 0
        nightly.run(url=wire.url_of(nightly.database))
        counts.append(wire.count)
    nightly.require_truth()
    assert counts[0] > counts[1] == counts[2] > 20
