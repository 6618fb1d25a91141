"""A table that another session keeps locked: how long a run waits for it, and what becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from fix_command import held
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.config import TableRule
from floodmark.events import ChunkAudited, Event, RunStarted, TableDecided, Warned

# More than 20 chunks of big; each of the others is one, and comes before or after it by name.
SERVICE = """
    CREATE TABLE big (id int, t text) WITH (autovacuum_enabled = off);
    INSERT INTO big SELECT i, repeat('x', 1000) FROM generate_series(1, 1200) i;
""" + "".join(f"CREATE TABLE {name}_{i} AS SELECT {i} AS id;" for name in ("a", "other") for i in range(25))
WAIT = 1  # limits.lock_timeout, in seconds


@pytest.fixture
def job(nightly: Nightly) -> Nightly:
    nightly.database.execute(SERVICE)
    return nightly


@pytest.fixture
def migration(pg: PgDatabase) -> Iterator[psycopg.Connection[object]]:
    with pg.connect() as connection:
        yield connection


def seconds(run: Callable[[], object]) -> float:
    begun = time.monotonic()
    run()
    return time.monotonic() - begun


def locked_at(migration: psycopg.Connection[object], kind: type[Event], table: str = "big") -> Callable[[Event], None]:
    """An observer that locks a table at the first event of a kind."""
    done: list[Event] = []

    def observer(event: Event) -> None:
        if isinstance(event, kind) and not done:
            done.append(event)
            held(migration, table)

    return observer


def require_told(job: Nightly, label: str = "public.big") -> None:
    assert job.outcome(label) == ("failed", "failed")
    detail = job.entry(label).reason.detail
    assert f"for {WAIT} s" in detail and "limits.lock_timeout" in detail and "55P03" in detail


def test_a_table_that_was_locked_before_the_run(job: Nightly, migration: psycopg.Connection[object]) -> None:
    usual = seconds(job.run)
    assert len(job.entry("public.big").objects) >= 20
    held(migration, "big")
    for _ in range(2):
        assert seconds(lambda: job.run(lock_timeout=WAIT, full=True)) < usual + 2.5 * WAIT
        require_told(job)
        assert {status for label, (status, _) in job.outcomes().items() if label != "public.big"} == {"extracted"}
    migration.rollback()
    job.run()
    job.require_truth()


@pytest.mark.parametrize("connections", [1, 4])
def test_a_table_that_is_locked_when_it_is_asked_about(
    job: Nightly, migration: psycopg.Connection[object], connections: int
) -> None:
    """The question stands in one batch with those about other tables, which are proven all the same."""
    job.run()
    job.database.execute("UPDATE other_3 SET id = 99")
    observer = locked_at(migration, RunStarted)
    took = seconds(lambda: job.run_observed(observer, lock_timeout=WAIT, connections=connections))
    assert WAIT < took < 2.5 * WAIT + 1
    require_told(job)
    assert job.outcome("public.other_3") == ("extracted", "rows_changed")
    rest = {status for label, (status, _) in job.outcomes().items() if label not in ("public.big", "public.other_3")}
    assert rest == {"unchanged"}


@pytest.mark.parametrize("layout", ["plain", "moj-landing"])
@pytest.mark.parametrize("connections", [1, 4])
def test_a_table_that_is_locked_when_it_is_read(
    job: Nightly, migration: psycopg.Connection[object], connections: int, layout: str
) -> None:
    observer = locked_at(migration, TableDecided)
    changes = {"layout": layout, "compression": "none"}
    took = seconds(lambda: job.run_observed(observer, lock_timeout=WAIT, connections=connections, **changes))
    assert WAIT < took < 2.5 * WAIT + 2
    require_told(job)
    assert {status for label, (status, _) in job.outcomes().items() if label != "public.big"} == {"extracted"}


def test_several_attempts_wait_once(job: Nightly, migration: psycopg.Connection[object]) -> None:
    """A table that is rewritten under each snapshot makes the run try again; the locked one is not waited for again."""
    database, started = job.database, list[Event]()
    lock = locked_at(migration, RunStarted)

    def observer(event: Event) -> None:
        lock(event)
        if isinstance(event, RunStarted):
            started.append(event)
            database.execute("TRUNCATE other_3; INSERT INTO other_3 VALUES (1)")

    job.run()
    job.database.execute("UPDATE other_3 SET id = 99")
    took = seconds(lambda: job.run_observed(observer, lock_timeout=WAIT))
    assert len(started) == 3 and WAIT < took < 2.5 * WAIT + 1
    require_told(job)
    assert job.outcome("public.other_3")[0] == "failed"


@pytest.mark.parametrize("at", [RunStarted, TableDecided])
def test_a_lock_that_is_let_go_in_time_is_waited_for(
    job: Nightly, migration: psycopg.Connection[object], at: type[Event]
) -> None:
    job.run()
    job.database.execute("UPDATE big SET t = 'new' WHERE id = 7")
    lock, begun = locked_at(migration, at), list[threading.Timer]()

    def observer(event: Event) -> None:
        lock(event)
        if isinstance(event, at) and not begun:
            begun.append(threading.Timer(0.5, migration.rollback))
            begun[0].start()

    job.run_observed(observer, lock_timeout=20)
    assert job.outcome("public.big") == ("extracted", "rows_changed")
    job.require_truth()


def test_the_audit_waits_no_longer(job: Nightly, migration: psycopg.Connection[object]) -> None:
    job.run()
    rules = {f"public.{name}_{i}": TableRule(detect="always") for name in ("a", "other") for i in range(25)}
    job.run(rules=rules)
    observer = locked_at(migration, TableDecided)
    took = seconds(lambda: job.run_observed(observer, lock_timeout=WAIT, rules=rules, audit_share=100.0))
    assert WAIT < took < 2.5 * WAIT + 2
    assert not any(isinstance(event, ChunkAudited) for event in job.events)
    assert any(isinstance(event, Warned) and f"for {WAIT} s" in event.message for event in job.events)
