"""Restarts, crashes, standbys and volume restores: wherever a server's history may have been interrupted,
nothing is called unchanged on the strength of transaction ids."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fix_postgres import BINARIES, Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.events import ChunkDone, Event, RunStarted, TableDecided
from floodmark.pipeline.job import run

MakeNightly = Callable[[PgDatabase], Nightly]
# `note` is one chunk, so an update leaves its count as it was, and nothing but transaction ids tells of it.
FILL = """
    CREATE TABLE note (id int, t text); INSERT INTO note VALUES (1, 'as it was');
    CREATE TABLE person (id bigint PRIMARY KEY, name text);
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200) FROM generate_series(1, 1000) i
"""


def lived(job: Nightly, *statements: str, url: str | None = None) -> tuple[str, str]:
    for statement in statements:
        job.database.execute(statement)
    job.run(url=url)
    return job.outcome("public.person")


def test_a_restart_costs_one_reading(private_server: Cluster, make_nightly: MakeNightly) -> None:
    job = make_nightly(private_server.database())
    lived(job, FILL)
    private_server.restart()
    status, code = lived(job)
    assert (status, code) == ("unchanged", "identical")
    assert "started_at" in job.entry("public.person").reason.detail
    assert job.extracted_chunks("public.person") == 0
    assert lived(job) == ("unchanged", "unchanged")


def test_a_crashed_backend_interrupts_the_history(private_server: Cluster, make_nightly: MakeNightly) -> None:
    """The postmaster lives on with its start time; what lets on is stats_reset."""
    job = make_nightly(private_server.database())
    lived(job, FILL)
    started = job.database.value("SELECT pg_postmaster_start_time()::text")
    private_server.crash_backend()
    job.database.close()
    wait_until_up(job.database)
    assert job.database.value("SELECT pg_postmaster_start_time()::text") == started
    status, code = lived(job)
    assert (status, code) == ("unchanged", "identical")
    assert "stats_reset" in job.entry("public.person").reason.detail


RESETS = """
    SELECT b.stats_reset, a.stats_reset, w.stats_reset FROM pg_stat_bgwriter b, pg_stat_archiver a, pg_stat_wal w
"""


@pytest.mark.parametrize("version", sorted(BINARIES))
def test_a_crash_resets_all_statistics_at_once(
    make_server: Callable[..., Cluster], make_nightly: MakeNightly, version: int
) -> None:
    """So if two others were not reset, a monitoring job reset those of the background writer."""
    server = make_server(version)
    job = make_nightly(server.database())
    lived(job, FILL)
    before = job.database.query(RESETS)[0]
    for kind in ("bgwriter", "bgwriter", "archiver", "wal"):
        assert lived(job, f"SELECT pg_stat_reset_shared('{kind}')") == ("unchanged", "unchanged"), kind
    assert all(now != then for now, then in zip(job.database.query(RESETS)[0], before, strict=True))
    reset = ("SELECT pg_stat_reset_shared('bgwriter')", "SELECT pg_stat_reset_shared('wal')")
    assert lived(job, *reset) == ("unchanged", "identical")
    assert "statistics were reset, or" in job.entry("public.person").reason.detail
    before = job.database.query(RESETS)[0]
    server.crash_backend()
    job.database.close()
    wait_until_up(job.database)
    assert all(now > then for now, then in zip(job.database.query(RESETS)[0], before, strict=True))
    assert lived(job) == ("unchanged", "identical")
    assert "recovered from a crash (stats_reset differs)" in job.entry("public.person").reason.detail


def test_statistics_that_are_reset_during_a_run_cost_nothing(nightly: Nightly) -> None:
    """A definition is compared on a server with the same history."""
    nightly.database.execute(FILL)

    def observer(event: Event) -> None:
        if isinstance(event, TableDecided):
            nightly.database.execute("SELECT pg_stat_reset_shared('bgwriter')")

    nightly.run_observed(observer)
    assert [event.attempt for event in nightly.events if isinstance(event, RunStarted)] == [1]
    nightly.require_truth()


@pytest.mark.parametrize(
    "statement", ['GRANT CONNECT ON DATABASE "{}" TO public', 'ALTER DATABASE "{}" CONNECTION LIMIT 90']
)
def test_a_database_that_was_altered_is_named(nightly: Nightly, statement: str) -> None:
    """Nothing tells its new catalog row from that of a database made anew."""
    lived(nightly, FILL)
    assert lived(nightly, statement.format(nightly.database.name)) == ("unchanged", "identical")
    assert (
        "catalog row changed: GRANT, ALTER DATABASE, or it was created again"
        in nightly.entry("public.person").reason.detail
    )
    assert lived(nightly) == ("unchanged", "unchanged")


def test_asynchronous_commits_lost_in_a_crash(private_server: Cluster, make_nightly: MakeNightly) -> None:
    """What a run read may be gone after a crash, and its transaction ids handed out again."""
    job = make_nightly(private_server.database())
    lived(job, FILL)
    for number in range(3):
        private_server.admin().execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        private_server.admin().execute("SELECT pg_reload_conf()")
        with job.database.connect(autocommit=True) as writer:
            writer.execute("SET synchronous_commit = off")
            writer.execute("UPDATE person SET name = 'lost' WHERE id = %s", [number + 1])
        lived(job)
        private_server.crash()
        job.database.close()
        private_server.start()
        lived(job, f"UPDATE person SET name = 'after crash {number}' WHERE id = {number + 500}")
        job.require_truth()


def test_a_volume_restored_from_before_the_last_run(private_server: Cluster, make_nightly: MakeNightly) -> None:
    """System identifier and timeline stay; transaction ids move on past those of the lost history."""
    job = make_nightly(private_server.database())
    lived(job, FILL)
    private_server.stop()
    volume = private_server.save("volume")
    private_server.start()
    lived(
        job,
        "UPDATE person SET name = 'in the lost history' WHERE id <= 3",
        "UPDATE note SET t = 'in the lost history'",
    )
    xmin = job.last.source.snapshot.xmin if job.last else None
    private_server.stop()
    private_server.restore(volume)
    private_server.start()
    job.database.close()
    for number in range(30):
        job.database.execute(f"INSERT INTO person VALUES ({5000 + number}, 'new history')")
        job.database.execute(f"DELETE FROM person WHERE id = {5000 + number}")
    job.database.execute("UPDATE person SET name = 'in the new history' WHERE id = 900")
    lived(job)
    job.require_truth()
    assert job.last is not None and xmin is not None and (job.last.source.snapshot.xmin or 0) > xmin
    assert not any(b"lost history" in line for line in job.landed("public.person"))


def test_a_standby_is_a_source(
    private_server: Cluster, standby: Callable[[Cluster], Cluster], make_nightly: MakeNightly
) -> None:
    job = make_nightly(private_server.database())
    job.database.execute(FILL)
    twin = standby(private_server)
    url = job.database.on(twin).url
    assert lived(job, url=url) == ("extracted", "first_run")
    assert lived(job, url=url) == ("unchanged", "unchanged")
    job.database.execute("UPDATE person SET name = 'changed' WHERE id = 10")
    twin.wait_for(private_server)
    assert lived(job, url=url) == ("extracted", "rows_changed")
    job.require_truth()
    assert lived(job, url=url) == ("unchanged", "unchanged")


def test_a_standby_that_lags_behind_the_primary_that_was_read(
    make_server: Callable[..., Cluster], standby: Callable[[Cluster], Cluster], make_nightly: MakeNightly
) -> None:
    """The standby shows yesterday, with the same xmin and xmax as what was read on the primary: only the list of
    running transactions between the two differs."""
    private_server = make_server(settings={"autovacuum": "off"})  # it takes transaction ids, too
    job = make_nightly(private_server.database())
    job.database.execute(FILL)
    oldest, writer = job.database.connect(), job.database.connect()
    oldest.execute("SELECT pg_current_xact_id()")
    writer.execute("UPDATE note SET t = 'ahead'")
    job.database.execute("UPDATE person SET name = 'known to both' WHERE id = 11")
    twin = standby(private_server)
    behind = job.database.on(twin)
    twin.pause()
    writer.commit()
    lived(job, "CHECKPOINT")
    there = job.last.source.snapshot if job.last else None
    assert any(b"ahead" in line for line in job.landed("public.note"))
    job.run(url=behind.url)
    here = job.last.source.snapshot if job.last else None
    assert there and here and (there.xmin, there.xmax) == (here.xmin, here.xmax)
    oldest.close()
    assert job.entry("public.person").reason.code != "unchanged"
    Nightly.require_truth(_at(job, behind))
    twin.resume()
    twin.wait_for(private_server)
    job.run(url=behind.url)
    job.require_truth()


def test_a_promoted_standby_starts_a_history_of_its_own(
    private_server: Cluster, standby: Callable[[Cluster], Cluster], make_nightly: MakeNightly
) -> None:
    job = make_nightly(private_server.database())
    job.database.execute(FILL)
    twin = standby(private_server)
    other = job.database.on(twin)
    job.run(url=other.url)
    twin.pause()
    job.database.execute("UPDATE person SET name = 'never replayed' WHERE id = 10")
    twin.resume()
    twin.wait_for(private_server)
    private_server.stop()
    twin.promote()
    other.execute("UPDATE person SET name = 'on the new primary' WHERE id = 11")
    job.run(url=other.url)
    assert job.outcome("public.person") == ("extracted", "lineage_changed")
    _at(job, other).require_truth()


def test_a_migration_waits_for_one_chunk_at_most(nightly: Nightly) -> None:
    """ALTER TABLE arrives while a table of many chunks is read: it gets its lock between two chunks."""
    nightly.database.execute(FILL.replace("1000", "40000"))
    waited: list[float] = []
    done: list[int] = []
    seen: list[float] = []
    started = threading.Event()

    def migrate() -> None:
        started.wait()
        begun = time.monotonic()
        nightly.database.execute("ALTER TABLE person ADD note text")
        waited.append(time.monotonic() - begun)
        done.append(len(seen))

    def observer(event: Event) -> None:
        if isinstance(event, ChunkDone):
            seen.append(event.seconds)
            if len(seen) == 5:
                started.set()

    migration = threading.Thread(target=migrate)
    migration.start()
    nightly.last = run(nightly.settings(connections=2), observer).manifest
    migration.join(30)
    nightly.require_truth()
    assert b'"note":null' in nightly.landed("public.person")[0]
    assert waited and done[0] - 5 <= 8, f"{done[0] - 5} chunks were read while the migration waited"


def _at(job: Nightly, database: PgDatabase) -> Nightly:
    other = Nightly(database, job.folder)
    other.last = job.last
    return other


def wait_until_up(database: PgDatabase) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            database.value("SELECT 1")
            return
        except Exception as error:
            database.close()
            if time.monotonic() > deadline:
                pytest.fail(f"the server did not come back: {type(error).__name__}")
            time.sleep(0.1)
