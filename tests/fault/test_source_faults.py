"""The database breaks under a run: what can be tried again is, what can't is the table's own failure, and what a
run ends with is one moment of the source, row for row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from fix_canaries import ROW, require_none
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.events import Retried, RunStarted
from floodmark.objects.spool import LineSpool

# More than a connection's buffers hold, so that its COPY is still at work when the first block arrives.
SERVICE = f"""
CREATE TABLE big (id int, name text);
INSERT INTO big SELECT n, '{ROW} ' || repeat(md5(n::text), 20) FROM generate_series(1, 30000) n;
CREATE TABLE small (id int, name text); INSERT INTO small VALUES (1, '{ROW}');
"""
COPYING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'floodmark' AND state = 'active' "
    "AND query LIKE 'COPY%.\"big\"%' AND datname = current_database()"
)
HOLDING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'floodmark' AND state = 'idle in transaction' "
    "AND datname = current_database()"
)
WHOLE = {"chunk_bytes": 64 * 1024**2}


@pytest.fixture
def job(nightly: Nightly) -> Nightly:
    nightly.database.execute(SERVICE)
    return nightly


@pytest.fixture
def in_the_middle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Does something once, when the first block of a large chunk has arrived."""
    take = LineSpool.take

    def arrange(action: Callable[[], object]) -> None:
        waiting = [action]

        def watched(spool: LineSpool, lines: bytes) -> None:
            take(spool, lines)
            if waiting and len(lines) > 10_000:
                waiting.pop()()

        monkeypatch.setattr(LineSpool, "take", watched)

    yield arrange


def snapshots(job: Nightly) -> int:
    return sum(isinstance(event, RunStarted) for event in job.events)


def retries(job: Nightly) -> int:
    return sum(isinstance(event, Retried) for event in job.events)


def ends(database: PgDatabase, who: str, how: str = "terminate") -> Callable[[], object]:
    """End a connection of the run's, and change both tables in one transaction behind its back."""

    def act() -> None:
        with psycopg.connect(database.dsn) as other:
            other.execute("INSERT INTO big VALUES (0, 'later'); INSERT INTO small VALUES (0, 'later')")
        assert database.query(f"SELECT pg_{how}_backend(pid) FROM ({who}) s") == [(True,)]

    return act


def test_a_worker_s_backend_is_terminated_in_the_middle_of_its_copy(
    job: Nightly, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    """The chunk is read again under the same snapshot: both tables are of the moment before the change."""
    in_the_middle(ends(job.database, COPYING))
    job.run(**WHOLE)
    assert (snapshots(job), retries(job)) == (1, 1)
    assert (job.entry("public.big").rows, job.entry("public.small").rows) == (30000, 1)
    job.run(**WHOLE)
    assert job.outcomes() == dict.fromkeys(("public.big", "public.small"), ("extracted", "rows_changed"))
    job.require_truth()
    require_none(repr(job.events))


def test_the_coordinator_s_backend_is_terminated(
    job: Nightly, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    """The snapshot is gone: a new one is taken, and both tables are of the moment after the change. One table
    after the other, or both might have been read by then."""
    in_the_middle(ends(job.database, HOLDING))
    job.run(connections=1, **WHOLE)
    assert snapshots(job) == 2
    assert (job.entry("public.big").rows, job.entry("public.small").rows) == (30001, 2)
    assert job.last is not None and job.last.consistent
    job.require_truth()


def test_a_cancelled_statement_is_its_table_s_failure(
    job: Nightly, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    in_the_middle(ends(job.database, COPYING, "cancel"))
    job.run(**WHOLE)
    assert job.outcomes() == {"public.big": ("failed", "failed"), "public.small": ("extracted", "first_run")}
    assert "57014" in job.entry("public.big").reason.detail
    job.run(**WHOLE)
    assert job.outcome("public.big") == ("extracted", "first_run")
    job.require_truth()


def test_the_server_is_restarted_in_the_middle(
    private_server: Cluster, tmp_path: Path, in_the_middle: Callable[[Callable[[], object]], None]
) -> None:
    """And once it is crashed, too. The run waits for it, and takes a new snapshot."""
    database = private_server.database()
    database.execute(SERVICE)
    job = Nightly(database, tmp_path / "landing")
    in_the_middle(private_server.restart)
    job.run(**WHOLE)
    assert snapshots(job) >= 2
    assert {status for status, _ in job.outcomes().values()} == {"extracted"}
    job.require_truth()
    database.execute("UPDATE big SET name = 'new' WHERE id = 1; UPDATE small SET name = 'new'")
    in_the_middle(private_server.crash_backend)
    job.run(**WHOLE)
    assert snapshots(job) >= 2
    job.require_truth()


def test_a_table_that_stays_locked_and_a_statement_that_takes_too_long(job: Nightly) -> None:
    job.run()
    with job.database.connect() as migration:
        migration.execute("LOCK TABLE big IN ACCESS EXCLUSIVE MODE")
        job.database.execute("INSERT INTO small VALUES (2, 'new')")
        job.run(lock_timeout=1)
        migration.rollback()
    assert job.outcomes() == {"public.big": ("failed", "failed"), "public.small": ("extracted", "rows_changed")}
    detail = job.entry("public.big").reason.detail
    assert "55P03" in detail and "migration" in detail
    assert job.entry("public.big").rows == 30000  # the last good snapshot, still named
    job.database.execute("CREATE VIEW slow AS SELECT id, pg_sleep(0.2)::text FROM big")
    job.run(statement_timeout=1, include=("slow", "small", "big"))
    assert job.outcome("public.slow") == ("failed", "failed")
    assert "limits.statement_timeout" in job.entry("public.slow").reason.detail
    job.require_truth("public.small", "public.big")


@pytest.mark.parametrize("limit", [2, 3])
def test_a_role_that_may_have_few_connections(job: Nightly, limit: int) -> None:
    """Fewer than the run would like: it goes on with those it gets."""
    role = job.database.role("few")
    job.database.execute(f"GRANT SELECT ON big, small TO few; ALTER ROLE few CONNECTION LIMIT {limit}")
    job.run(url=role.url)
    assert {status for status, _ in job.outcomes().values()} == {"extracted"}
    job.require_truth()


def test_a_standby_that_cancels_the_run_to_go_on_with_recovery(
    private_server: Cluster,
    standby: Callable[[Cluster], Cluster],
    tmp_path: Path,
    in_the_middle: Callable[[Callable[[], object]], None],
) -> None:
    database = private_server.database()
    database.execute(SERVICE)
    twin = standby(private_server)
    twin.configure({"max_standby_streaming_delay": "0", "max_standby_archive_delay": "0"})
    twin.admin().execute("SELECT pg_reload_conf()")
    there = database.on(twin)
    job = Nightly(there, tmp_path / "landing")

    def conflict() -> None:
        database.execute("DELETE FROM big WHERE id <= 10000; INSERT INTO small VALUES (0, 'later')")
        database.execute("VACUUM big")
        # A backend that waits for us to read hears of the conflict only then, and replay waits for it.
        with suppress(AssertionError):
            twin.wait_for(private_server, patience=5)

    in_the_middle(conflict)
    job.run(**WHOLE)
    assert snapshots(job) >= 2 or retries(job) >= 1
    assert (job.entry("public.big").rows, job.entry("public.small").rows) == (20000, 2)
    job.require_truth()
    require_none(repr(job.events))
