"""A hot standby as a source: transactions with many subtransactions, recovery conflicts, and promotion.

PostgreSQL forgets which transactions are running when it exports the snapshot of a standby while one with more than
64 subtransactions is open. Who imports such a snapshot takes running transactions for aborted ones, shows one
transaction differently from table to table, and leaves wrong hint bits on the standby's pages for good. Nothing in
this file imports a snapshot on a standby: the expected rows come from one plain statement each.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec import Struct

from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly, rule
from floodmark.errors import SourceError
from floodmark.events import ChunkDone, Event, RunStarted

MakeServer = Callable[..., Cluster]
MakeStandby = Callable[[Cluster], Cluster]

ROWS = 100
# One block's rows: each block that VACUUM cleans is a conflict of its own, which may find others in its way.
MOVED = "ctid >= '(10,0)' AND ctid < '(11,0)'"
LOCK = 42
SERVICE = f"""
    CREATE TABLE account (id int PRIMARY KEY, v text) WITH (fillfactor = 50);
    CREATE TABLE balance (id int PRIMARY KEY, v text) WITH (fillfactor = 50);
    INSERT INTO account SELECT i, 'old' FROM generate_series(1, {ROWS}) i;
    INSERT INTO balance SELECT i, 'old' FROM generate_series(1, {ROWS}) i;
    CREATE TABLE archive (id int, v text); INSERT INTO archive VALUES (0, 'the first');
    CREATE TABLE current (id int, v text);
    INSERT INTO current SELECT i, 'row ' || i || repeat('x', 50) FROM generate_series(1, 3000) i
"""
# Replay soon goes on over whoever is in its way, and no one tells the primary what is still read here.
SETTINGS = {
    "autovacuum": "off",
    "wal_retrieve_retry_interval": "100ms",
    "max_standby_streaming_delay": "1s",
    "hot_standby_feedback": "off",
}
WRITTEN = ("account", "balance")
SOME: dict[str, Any] = {"include": WRITTEN}
# Each table is one chunk: all of it is read by one statement.
MOVING: dict[str, Any] = {"include": ("archive", "current"), "chunk_bytes": 64 * 1024**2}
OLD, NEW = ["old"] * ROWS, ["new"] * ROWS


class Pair(Struct, frozen=True):
    """A database on a primary, the same on its hot standby, and a nightly job that reads it there."""

    primary: PgDatabase
    standby: PgDatabase
    job: Nightly

    def replay(self) -> None:
        """Return when the standby has replayed all that the primary did."""
        self.standby.server.wait_for(self.primary.server)

    def landed(self) -> list[list[str]]:
        """What landed of each written table, in the order of the ids."""
        tables = [[json.loads(line) for line in self.job.landed(f"public.{table}")] for table in WRITTEN]
        return [[row["v"] for row in sorted(rows, key=lambda row: row["id"])] for rows in tables]

    def require_truth(self) -> None:
        """Everything that landed is what the primary holds now."""
        there = Nightly(self.primary, self.job.folder)
        there.last = self.job.last
        there.require_truth()

    def require_new_rows(self) -> None:
        """The standby shows the committed rows, and each way to run lands them."""
        assert [values.count("new") for values in shown(self.standby)] == [ROWS, ROWS]
        for full in (False, True):
            self.job.run(full=full, **SOME)
            assert self.landed() == [NEW, NEW]
            self.require_truth()


def shown(database: PgDatabase) -> list[list[str]]:
    """What a session that does nothing else sees of each written table, in the order of the ids."""
    return [[v for (v,) in database.query(f"SELECT v FROM {table} ORDER BY id")] for table in WRITTEN]


@pytest.fixture
def pair(pg_version: int, make_server: MakeServer, standby: MakeStandby, tmp_path: Path) -> Pair:
    """A primary and its standby, of each version in turn."""
    server = make_server(pg_version, settings=SETTINGS)
    database = server.database()
    database.execute(SERVICE)
    there = database.on(standby(server))
    return Pair(database, there, Nightly(there, tmp_path / "landing"))


def update(pair: Pair) -> psycopg.Connection[Any]:
    """Return an open transaction that updated each row of both tables in a subtransaction of its own."""
    session = pair.primary.connect()
    for number in range(1, ROWS + 1):
        session.execute(f"SAVEPOINT s{number}")
        for table in WRITTEN:
            session.execute(f"UPDATE {table} SET v = 'new' WHERE id = {number}")
    pair.replay()
    return session


# Many subtransactions


@pytest.mark.parametrize("runs", [1, 2])
def test_a_transaction_of_many_subtransactions_commits_after_a_run(pair: Pair, runs: int) -> None:
    """Its rows land once it has committed. The runs that read while it was open did the standby no harm."""
    session = update(pair)
    for _ in range(runs):
        pair.job.run(**SOME)
        assert pair.landed() == [OLD, OLD]
    session.commit()
    pair.replay()
    pair.require_new_rows()


def test_a_transaction_of_many_subtransactions_commits_during_a_run(pair: Pair) -> None:
    """It commits when one of its tables is read and the other is not: both land as of one moment."""
    open_sessions = [update(pair)]

    def observe(event: Event) -> None:
        if isinstance(event, ChunkDone) and open_sessions:
            open_sessions.pop().commit()
            pair.replay()

    pair.job.run_observed(observe, connections=1, **SOME)
    assert not open_sessions and pair.landed() == [OLD, OLD]
    pair.require_new_rows()


def test_a_transaction_of_many_subtransactions_rolls_back_after_a_run(pair: Pair) -> None:
    session = update(pair)
    pair.job.run(**SOME)
    session.rollback()
    pair.replay()
    pair.job.run(**SOME)
    assert pair.landed() == shown(pair.standby) == [OLD, OLD]


# Recovery conflicts


def move(pair: Pair) -> str:
    """Move rows to the other table, and remove their old versions; returns how far the WAL goes then."""
    pair.primary.execute(
        f"WITH gone AS (DELETE FROM current WHERE {MOVED} RETURNING *) INSERT INTO archive SELECT * FROM gone"
    )
    pair.primary.execute("VACUUM current")
    return pair.primary.server.flushed()


def wait_for_conflict(pair: Pair) -> None:
    """Return when replay waits for those who hold an older snapshot."""
    asked = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"
    deadline = time.monotonic() + 30
    while pair.standby.value(asked) != "RecoveryConflictSnapshot":
        assert time.monotonic() < deadline, "no recovery conflict came about"
        time.sleep(0.005)


def require_each_row_once(pair: Pair, run: Callable[[], object]) -> None:
    """The run commits nothing, or every row of the two tables once; a later run lands the truth."""
    try:
        run()
    except SourceError:
        assert not (pair.job.folder / "_floodmark" / "head.json").exists()
    else:
        lines = [line for table in ("archive", "current") for line in pair.job.landed(f"public.{table}")]
        assert (len(lines), len(set(lines))) == (3001, 3001)
        assert sum(isinstance(event, RunStarted) for event in pair.job.events) == 2
    pair.replay()
    pair.job.run(**MOVING)
    pair.require_truth()


def test_rows_move_while_a_run_is_between_statements(pair: Pair) -> None:
    """Replay ends the run's backend, which is idle in its transaction."""
    moved: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, ChunkDone) and not moved:
            moved.append(move(pair))
            pair.standby.server.wait_until(moved[0])

    require_each_row_once(pair, lambda: pair.job.run_observed(observe, connections=1, **MOVING))
    assert moved


def test_rows_move_under_a_statement_that_began_during_the_conflict(pair: Pair) -> None:
    """Replay waits for the transactions that it found in its way, and not for one that begins meanwhile. Here one does,
    and its statement is held in the first block until replay has ended the others and removed the moved rows."""
    holder = pair.standby.connect(autocommit=True)
    holder.execute(f"SELECT pg_advisory_lock({LOCK})")
    helpers: list[threading.Thread] = []

    def let_go(position: str) -> None:
        try:
            pair.standby.server.wait_until(position)
        finally:
            holder.execute(f"SELECT pg_advisory_unlock({LOCK})")

    def observe(event: Event) -> None:
        if isinstance(event, ChunkDone) and not helpers:
            helpers.append(threading.Thread(target=let_go, args=(move(pair),)))
            wait_for_conflict(pair)
            helpers[0].start()

    held = {"public.current": rule(where=f"(SELECT pg_advisory_xact_lock_shared({LOCK})) IS NOT NULL")}
    require_each_row_once(pair, lambda: pair.job.run_observed(observe, connections=1, rules=held, **MOVING))
    helpers[0].join()


# Promotion


@pytest.mark.parametrize("many", [False, True])
def test_a_standby_is_promoted_during_a_run(pair: Pair, many: bool) -> None:
    """Each table lands as of the run's snapshot. A transaction that the promotion ended never shows."""
    session = update(pair) if many else None
    seen: list[list[list[str]]] = []
    promotions: list[bool] = []

    def observe(event: Event) -> None:
        if isinstance(event, RunStarted):
            seen.append(shown(pair.standby))
        elif isinstance(event, ChunkDone) and not promotions:
            promotions.append(True)
            pair.standby.server.promote()
            for table in WRITTEN:
                pair.standby.execute(f"UPDATE {table} SET v = 'promoted' WHERE id <= 50")

    pair.job.run_observed(observe, connections=1, **SOME)
    assert promotions and pair.landed() == seen[-1]
    if session is not None:
        session.rollback()
    assert shown(pair.standby) == [["promoted"] * 50 + ["old"] * 50] * 2
    for full in (False, True):
        pair.job.run(full=full, **SOME)
        pair.job.require_truth()
