"""The proof by the journal, and what surrounds it: rights, dead runs, restarts, standbys and subscribers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from fix_journal import PERSON, UPDATE, JournaledJob, always, enable, facts_of, install, pass_bucket, trim
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.config import Limits, Secret
from floodmark.events import ChunkDone, Event, StepStarted, TableDecided
from floodmark.source.postgres.snapshot import PostgresSource

MakeNightly = Callable[[PgDatabase], Nightly]
MakeServer = Callable[..., Cluster]
MakeStandby = Callable[[Cluster], Cluster]


# Rights


MAY_USE = "GRANT USAGE ON SCHEMA floodmark TO {}"
MAY_READ = (MAY_USE, "GRANT SELECT ON floodmark.journal, floodmark.journal_floor TO {}")


def reader(ready: JournaledJob, *grants: str) -> str:
    """The URL of a role that may read the table."""
    role = ready.database.role(f"reader_{ready.database.name}")
    for grant in ("GRANT SELECT ON person TO {}", *grants):
        ready.database.execute(grant.format(role.name))
    return role.url


@pytest.mark.parametrize("grants", [(), (MAY_USE,)])
def test_a_role_without_rights_on_the_journal(ready: JournaledJob, grants: tuple[str, ...]) -> None:
    url = reader(ready, *grants)
    assert ready.day(url=url) == "unchanged"
    assert "may not read the journal: floodmark journal install --grant-to reader_" in ready.detail()


def test_a_role_that_may_read_the_journal(ready: JournaledJob) -> None:
    url = reader(ready, *MAY_READ)
    assert [ready.day(url=url) for _ in range(2)] == ["unchanged", "journal"]  # a grant writes the catalog, too
    ready.database.execute("ALTER TABLE floodmark.journal ENABLE ROW LEVEL SECURITY")
    assert ready.day(UPDATE, url=url) == "rows_changed"
    assert ready.day(url=url) == "unchanged"
    assert "row-level security hides the journal's rows" in ready.detail()


def test_row_level_security_comes_under_the_snapshot(ready: JournaledJob) -> None:
    snapshot = PostgresSource(Secret(reader(ready, *MAY_READ)), Limits(), None).snapshot()
    ready.database.execute(UPDATE)
    ready.database.execute("ALTER TABLE floodmark.journal ENABLE ROW LEVEL SECURITY")
    assert facts_of(snapshot).doubt is not None
    snapshot.close()


# Chunks of a run that died


@pytest.mark.parametrize("change", ["", UPDATE, f"{always('DISABLE')}; {UPDATE}; {always('ENABLE ALWAYS')}"])
def test_chunks_that_a_dead_run_left(journaled: JournaledJob, change: str) -> None:
    """They are remembered with that run's stamp, and proven by the journal as if they were committed."""
    database = journaled.database
    database.execute(PERSON)
    install(database)
    enable(database, "person")
    pass_bucket(database)
    done: list[Event] = []

    def die(event: Event) -> None:
        if isinstance(event, ChunkDone):
            done.append(event)
            if len(done) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journaled.job.run_observed(die, detect="journal", connections=1)
    if change:
        database.execute(change)
    assert journaled.day() == "first_run"
    (decided,) = [event for event in journaled.job.events if isinstance(event, TableDecided)]
    asked = [event for event in journaled.job.events if isinstance(event, StepStarted) and event.step == "checking"]
    assert decided.chunks == 4 and (change or decided.to_extract < 4)
    assert bool(asked) == bool(change)


# The table and its server


def test_a_rewritten_table_is_read_again(ready: JournaledJob) -> None:
    assert ready.day("VACUUM FULL person") == "identical"
    assert ready.day() == "journal"


def test_a_renamed_table_is_the_same_table(ready: JournaledJob) -> None:
    assert ready.day("ALTER TABLE person RENAME TO people; ALTER TABLE people RENAME TO person") == "journal"
    swap = "ALTER TABLE person RENAME TO people; CREATE TABLE person (LIKE people); INSERT INTO person VALUES (1, 'n')"
    assert ready.day(swap) != "journal"


def test_a_table_whose_size_could_not_be_measured(journaled: JournaledJob) -> None:
    """Its last chunk holds rows of blocks that are chunks of their own in the next run. Only a count shows that."""
    database = journaled.database
    database.execute(PERSON)
    install(database)
    enable(database, "person")
    pass_bucket(database)
    with database.connect() as migration:
        migration.execute("LOCK TABLE person IN ACCESS EXCLUSIVE MODE")
        release = threading.Timer(0.7, migration.rollback)
        release.start()
        journaled.job.run(detect="journal")
        release.join()
    assert [journaled.day() for _ in range(3)] == ["rows_changed", "journal", "journal"]


@pytest.mark.parametrize("crash", [False, True])
def test_an_interrupted_history(private_server: Cluster, make_nightly: MakeNightly, crash: bool) -> None:
    ready = JournaledJob(make_nightly(private_server.database()))
    ready.fill(PERSON)
    assert ready.day() == "journal"
    ready.database.close()
    if crash:
        private_server.crash()
        private_server.start()
    else:
        private_server.restart()
    assert ready.day() == "identical"
    assert ready.day() == "journal"


def test_ids_of_more_than_32_bits(private_server: Cluster, make_nightly: MakeNightly) -> None:
    """After 2³² transactions, ids in rows begin again, and those of the journal go on."""
    private_server.stop()
    private_server.tool("pg_resetwal", "-e", "7", "-D", str(private_server.data))
    private_server.start()
    ready = JournaledJob(make_nightly(private_server.database()))
    ready.fill(PERSON)
    assert ready.day() == "journal"
    assert ready.job.last is not None and (ready.job.last.source.snapshot.xmin or 0) > 7 << 32
    assert [ready.day(UPDATE), ready.day()] == ["rows_changed", "journal"]
    trim(ready.database)
    assert ready.day("DELETE FROM person WHERE id = 9") == "rows_removed"


def test_through_a_standby(private_server: Cluster, standby: MakeStandby, make_nightly: MakeNightly) -> None:
    ready = JournaledJob(make_nightly(private_server.database()))
    ready.fill(PERSON)
    twin = standby(private_server)
    url = ready.database.on(twin).url

    def run() -> str:
        pass_bucket(ready.database)
        twin.wait_for(private_server)
        ready.job.run(detect="journal", url=url)
        ready.job.require_truth()
        return ready.job.entry("public.person").reason.code

    assert [run() for _ in range(3)] == ["identical", "journal", "journal"]
    ready.database.execute(UPDATE)
    assert [run() for _ in range(2)] == ["rows_changed", "journal"]


@pytest.mark.parametrize("dropped", [False, True])
def test_a_logical_subscriber(make_server: MakeServer, make_nightly: MakeNightly, dropped: bool) -> None:
    """Apply fires no statement trigger. A subscription that is gone again left nothing but a count of rows."""
    server = make_server(settings={"wal_level": "logical"})
    origin, database = server.database(), server.database()
    ready = JournaledJob(make_nightly(database))
    ready.fill(PERSON)
    assert ready.day() == "journal"
    origin.execute(PERSON)
    origin.execute("CREATE PUBLICATION p FOR TABLE person")
    origin.value(f"SELECT pg_create_logical_replication_slot('{database.name}', 'pgoutput')")
    database.execute(
        f"CREATE SUBSCRIPTION s CONNECTION '{origin.dsn}' PUBLICATION p "
        f"WITH (create_slot = false, slot_name = '{database.name}', copy_data = false)"
    )
    origin.execute(UPDATE)
    applied = "SELECT count(*) FROM person WHERE name = 'new'"
    for _ in range(200):
        if database.value(applied):
            break
        database.execute("SELECT pg_sleep(0.05)")
    assert database.value(applied) == 1
    if dropped:
        database.execute("DROP SUBSCRIPTION s")
        database.close()  # the session tells its statistics
    assert ready.day() == "rows_changed"
    assert dropped or (ready.day() == "unchanged" and "belongs to a logical subscription" in ready.detail())
    if not dropped:
        database.execute("DROP SUBSCRIPTION s")
