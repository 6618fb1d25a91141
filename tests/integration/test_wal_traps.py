"""Writes that WAL summaries could hide, each on a real server: every one must be noticed. What is proven is counted.

`test_wal_proof.py` has what the summaries spare.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from fix_postgres import BINARIES, Cluster, PgDatabase
from fix_runs import Nightly
from fix_summaries import CHUNKS, PERSON, SUMMARIZING, SummarizedJob, SummarizingServers, remove_summaries, summarize
from floodmark.config import Limits, Secret
from floodmark.errors import SourceUnavailable
from floodmark.model import WalBase
from floodmark.observed import BlockQuestion, WrittenBlocks
from floodmark.pipeline import observe
from floodmark.source.postgres.snapshot import PostgresSource

QUIET = ("unchanged", CHUNKS)
UPDATE = "UPDATE person SET name = 'late' WHERE id = 7"
SUBTRANSACTIONS = """DO $$ BEGIN
    FOR i IN 1..80 LOOP
        BEGIN UPDATE person SET name = 'late ' || i WHERE id = i; EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
END $$"""
OTHER = "CREATE TABLE IF NOT EXISTS other (i int); INSERT INTO other VALUES (1)"


# Commits that come late


@pytest.mark.parametrize(
    ("write", "others", "runs"),
    [(UPDATE, False, 1), (SUBTRANSACTIONS, True, 2)],
)
def test_a_transaction_that_stays_open_through_runs(
    summarized: SummarizedJob, write: str, others: bool, runs: int
) -> None:
    """It wrote before the last checkpoint of the run that it outlived. If no other transaction ends after it began,
    then the snapshot's xmax is its own id: xmax is no proof that nobody has an id."""
    job = summarized
    assert job.day() == QUIET
    with job.database.connect() as late:
        late.execute(write)
        for _ in range(runs):
            assert job.day(*([OTHER] if others else []))[0] == "unchanged"
        late.commit()
    assert job.day()[0] == "rows_changed"
    assert job.day()[0] == "unchanged"
    assert job.day() == QUIET


def test_two_open_transactions_of_which_the_younger_ends_first(summarized: SummarizedJob) -> None:
    job = summarized
    assert job.day() == QUIET
    with job.database.connect() as older, job.database.connect() as younger:
        older.execute("SELECT pg_current_xact_id()")
        younger.execute(UPDATE)
        assert job.day()[0] == "unchanged"
        older.execute("UPDATE person SET name = 'older' WHERE id = 999")
        assert job.day()[0] == "unchanged"
        younger.commit()
        assert job.day()[0] == "rows_changed"
        older.commit()
    assert job.day()[0] == "rows_changed"


def test_a_prepared_transaction_ends_runs_later(summarized_any: SummarizedJob) -> None:
    job = summarized_any
    assert job.day() == QUIET
    for statement in ("BEGIN", UPDATE, f"PREPARE TRANSACTION '{job.database.name}'"):
        job.database.execute(statement)
    assert [job.day()[0], job.day(OTHER)[0]] == ["unchanged"] * 2
    assert job.day(f"COMMIT PREPARED '{job.database.name}'")[0] == "rows_changed"


def test_a_transaction_that_outlives_the_last_checkpoint(summarized: SummarizedJob) -> None:
    """It has an id below the checkpoint's counter, writes after the checkpoint, and ends before the run."""
    job = summarized
    assert job.day() == QUIET
    with job.database.connect() as late:
        late.execute("SELECT pg_current_xact_id()")
        job.summarize()
        late.execute(UPDATE)
    assert job.run()[0] == "rows_changed"
    assert job.day()[0] == "unchanged"


def test_a_base_from_before_an_open_transaction_serves_while_it_is_open(
    summarized: SummarizedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = summarized
    assert job.day() == QUIET
    monkeypatch.setattr(observe, "BYTES_FOR_A_CHECKPOINT", 0)
    monkeypatch.setattr(observe, "SHORTEST_WAIT", 10)
    with job.database.connect() as late:
        late.execute(UPDATE)
        assert [job.day(OTHER) for _ in range(2)] == [("unchanged", CHUNKS - 1)] * 2
        late.rollback()
    assert job.day()[0] == "unchanged"


def test_a_writer_ends_while_a_checkpoint_is_made(summarized: SummarizedJob) -> None:
    """Many small transactions commit all the time, some of them around each checkpoint and each snapshot."""
    job, stop = summarized, threading.Event()

    def write() -> None:
        with psycopg.connect(job.database.dsn, autocommit=True) as session:
            number = 0
            while not stop.is_set():
                number += 1
                session.execute(f"UPDATE person SET name = 'busy {number}' WHERE id = {number % 250}")

    def checkpoint() -> None:
        with psycopg.connect(job.database.dsn, autocommit=True) as session:
            while not stop.is_set():
                session.execute("CHECKPOINT")

    threads = [threading.Thread(target=one) for one in (write, checkpoint)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            job.job.run()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    job.run()


# Summaries that are missing


def test_summaries_that_were_removed(summarized: SummarizedJob) -> None:
    job = summarized
    assert job.day() == QUIET
    job.database.execute(UPDATE)
    job.summarize()
    remove_summaries(job.server)
    assert job.day(OTHER) == ("rows_changed", 0)
    assert "without a gap" in (job.told().why or "")
    assert job.day()[0] == "unchanged"
    assert job.day() == QUIET


def configured(server: Cluster, setting: str, value: str) -> None:
    server.admin().execute(f"ALTER SYSTEM SET {setting} = {value}")
    server.admin().execute("SELECT pg_reload_conf()")
    while server.admin().execute(f"SHOW {setting}").fetchall() != [(value,)]:
        time.sleep(0.01)


def test_summaries_that_were_off_for_a_while_or_damaged(own_summarized: SummarizedJob) -> None:
    job = own_summarized
    assert job.day() == QUIET
    configured(job.server, "summarize_wal", "off")
    job.database.execute(UPDATE)
    assert job.run() == ("rows_changed", 0)
    for _ in range(3):  # without a summary that needs it, the WAL is removed
        job.database.execute("UPDATE person SET name = 'off' WHERE id = 8")
        job.database.execute("SELECT pg_switch_wal(); CHECKPOINT")
    configured(job.server, "summarize_wal", "on")
    assert job.day()[0] == "rows_changed"
    assert "there were no WAL summaries" in (job.told().why or "")
    assert job.day()[0] == "unchanged"
    assert job.day() == QUIET
    # With a base from before
    configured(job.server, "summarize_wal", "off")
    for _ in range(7):  # more than `wal_keep_size`
        job.database.execute("UPDATE person SET name = 'off again' WHERE id = 8")
        job.database.execute("SELECT pg_switch_wal()")
        job.database.execute("CHECKPOINT")
    configured(job.server, "summarize_wal", "on")
    assert job.day() == ("rows_changed", 0)
    assert "without a gap" in (job.told().why or "")
    assert job.day()[0] == "unchanged"
    assert job.day() == QUIET
    # A summary that is damaged
    job.database.execute("UPDATE person SET name = 'damaged' WHERE id = 7")
    job.summarize()
    for path in (job.server.data / "pg_wal" / "summaries").glob("*.summary"):
        path.write_bytes(path.read_bytes()[:-8])
    assert job.day() == ("rows_changed", 0)
    assert "could not be read" in (job.told().why or "")


def test_a_server_that_keeps_too_little_wal_to_summarize_does_not_start(make_server: Callable[..., Cluster]) -> None:
    """So COPY into a table of the same transaction, which needs no WAL then, is always in it."""
    server = make_server(settings={"wal_level": "minimal", "max_wal_senders": "0"})
    server.stop()
    server.configure({"summarize_wal": "on"})
    with pytest.raises(SourceUnavailable, match="wal_level"):
        server.start()


# Interruptions


def test_an_interrupted_history(own_summarized: SummarizedJob) -> None:
    job = own_summarized
    assert job.day() == QUIET
    for number, how in enumerate(("restart", "crash", "backend")):
        job.database.execute(f"UPDATE person SET name = 'before {how}' WHERE id = {number}")
        job.database.close()
        if how == "backend":
            job.server.crash_backend()
        elif how == "crash":
            job.server.crash()
            job.server.start()
        else:
            job.server.restart()
        assert job.day()[0] in ("lineage_changed", "identical"), how
        assert job.day()[0] == "unchanged"
        assert job.day() == QUIET


def test_a_volume_that_was_restored(own_summarized: SummarizedJob) -> None:
    """Other writes get the same ids and positions; the old summaries are gone with the old volume."""
    job, server = own_summarized, own_summarized.server
    job.database.close()
    server.stop()
    saved = server.save("before")
    server.start()
    job.day("UPDATE person SET name = 'lost' WHERE id = 7")
    job.day()
    job.database.close()
    server.stop()
    server.restore(saved)
    server.start()
    assert job.day("UPDATE person SET name = 'kept' WHERE id = 900")[0] == "lineage_changed"
    assert job.day()[0] == "unchanged"


# Blocks that change without a listed write, or files


def test_an_unlogged_table_is_counted(summarized: SummarizedJob) -> None:
    job = summarized
    job.day("ALTER TABLE person SET UNLOGGED")
    assert job.day()[0] == "unchanged" and "the table is unlogged" in job.detail()
    assert job.day(UPDATE) == ("rows_changed", 0)
    assert job.day("ALTER TABLE person SET LOGGED")[0] in ("rewritten", "schema_changed", "identical")
    job.day()
    assert job.day(UPDATE)[0] == "rows_changed"


@pytest.mark.parametrize("again", [True, False])
def test_a_vacuum_that_truncates_forgets_what_was_written_there(summarized: SummarizedJob, again: bool) -> None:
    """The summary drops the deletions from the list: only the limit block tells of them."""
    job = summarized
    assert job.day() == QUIET
    job.database.execute("DELETE FROM person WHERE id > 400")
    job.database.execute("VACUUM (TRUNCATE) person")
    assert job.database.value("SELECT pg_relation_size('person')") < 20 * 8192
    if again:
        job.database.execute(
            "INSERT INTO person SELECT i, 'again ' || i || repeat('y', 200) FROM generate_series(401, 700) i"
        )
    assert job.day()[0] in ("rows_changed", "rows_removed")
    assert job.day()[0] == "unchanged"


MAINTENANCE = {
    "freeze": "VACUUM (FREEZE) person",
    "hint bits": "SELECT count(*) FROM person",
    "index only": "CREATE INDEX ON person (name)",
    "analyze": "ANALYZE person",
    "locks": "BEGIN; SELECT FROM person FOR UPDATE; COMMIT",
    "rolled back": "BEGIN; UPDATE person SET name = 'never'; ROLLBACK",
    "aborted insert": "BEGIN; INSERT INTO person SELECT i + 5000, 'z' FROM generate_series(1, 2000) i; ROLLBACK",
    "toast": "VACUUM FULL pg_class",
}


@pytest.mark.parametrize("acts", [tuple(MAINTENANCE)[:4], tuple(MAINTENANCE)[4:]])
def test_maintenance_changes_no_row(summarized: SummarizedJob, acts: tuple[str, ...]) -> None:
    job = summarized
    assert job.day() == QUIET
    for act in acts:
        assert job.day(MAINTENANCE[act])[0] == "unchanged", act
    assert job.day()[0] == "unchanged"
    assert job.told().unwritten == job.told().chunks


def test_hint_bits_that_are_written_as_full_pages(summarized: SummarizedJob) -> None:
    job = summarized
    if job.database.value("SHOW data_checksums") != "on":
        pytest.skip("this server has no checksums")
    job.day("CREATE TABLE note AS SELECT i, 'note' AS t FROM generate_series(1, 100) i")
    job.day()
    assert job.unwritten("public.note") == 0  # the first run wrote the hint bits
    job.day()
    assert (job.unwritten("public.note"), job.job.outcomes()["public.note"][1]) == (1, "unchanged")
    job.day("UPDATE note SET t = 'new' WHERE i = 7")
    assert job.job.outcomes()["public.note"][1] == "rows_changed"


COPIES = {
    "new": "CREATE TABLE note (i int, t text); COPY note FROM PROGRAM 'printf \"1\\tone\\n2\\ttwo\\n\"'",
    "frozen": "CREATE TABLE note (i int, t text); COPY note FROM PROGRAM 'printf \"1\\tone\\n\"' WITH (FREEZE)",
    "truncated": "TRUNCATE person; COPY person FROM PROGRAM 'printf \"1\\tone\\n2\\ttwo\\n\"' WITH (FREEZE)",
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_into_a_file_of_the_same_transaction(summarized: SummarizedJob, copy: str) -> None:
    job = summarized
    assert job.day() == QUIET
    with job.database.connect() as session:
        session.execute(COPIES[copy])
        assert job.day()[0] in ("unchanged",) if copy != "truncated" else True
        session.commit()
    job.day()
    label = "public.person" if copy == "truncated" else "public.note"
    assert job.job.entry(label).status == "extracted"
    for _ in range(2):
        job.day()
        assert job.job.entry(label).reason.code == "unchanged"


def test_tables_and_databases_that_are_moved_or_copied(own_summarized: SummarizedJob) -> None:
    """The files of a database are not listed by block: the list tells only that the database was created."""
    job, admin = own_summarized, own_summarized.server.admin()
    admin.execute("SET allow_in_place_tablespaces = on")
    admin.execute("CREATE TABLESPACE away LOCATION ''")
    assert job.day() == QUIET
    assert job.day("ALTER TABLE person SET TABLESPACE away")[0] == "identical"
    assert job.day(UPDATE)[0] == "rows_changed"
    assert job.day("ALTER TABLE person SET TABLESPACE pg_default")[0] == "identical"
    base = last_base(job)
    for strategy in ("file_copy", "wal_log"):
        job.database.close()
        admin.execute(f"CREATE DATABASE copy_{strategy} TEMPLATE {job.database.name} STRATEGY {strategy}")
    assert job.day(OTHER)[0] == "unchanged"
    job.database.close()
    admin.execute(f"ALTER DATABASE {job.database.name} SET TABLESPACE away")
    summarize(job.server)
    assert written(job, base).doubt == "the database was copied or moved"
    assert job.day("UPDATE person SET name = 'moved' WHERE id = 9")[0] == "lineage_changed"


def last_base(job: SummarizedJob) -> WalBase:
    watermark = job.job.entry("public.person").watermark
    assert watermark is not None and isinstance(watermark.point.wal, WalBase)
    return watermark.point.wal


def written(job: SummarizedJob, base: WalBase, file: int | None = None) -> WrittenBlocks:
    """Return what a new snapshot's list says of the file of person."""
    file = file or job.database.value("SELECT pg_relation_filenode('person')::bigint")
    snapshot = PostgresSource(Secret(job.database.url), Limits(), None).snapshot()
    try:
        assert snapshot.block_log is not None
        return snapshot.block_log.written(BlockQuestion(base, {file: 8}), 30)
    finally:
        snapshot.close()


def test_a_table_whose_size_could_not_be_measured(summarized: SummarizedJob) -> None:
    """Its last chunk holds rows of blocks that are chunks of their own in the next run. Only a count shows that."""
    job = summarized
    job.database.execute("CREATE TABLE held AS SELECT i, repeat('h', 200) AS t FROM generate_series(1, 1000) i")
    job.database.execute("VACUUM (FREEZE) held")  # else the run writes hint bits, and counts for that reason
    job.database.execute("SET allow_system_table_mods = on")
    job.database.execute("UPDATE pg_class SET relpages = 0 WHERE relname = 'held'")  # as of a table that is new
    job.summarize()
    with job.database.connect() as migration:
        migration.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        release = threading.Timer(0.7, migration.rollback)
        release.start()
        job.run()
        release.join()
    job.day()
    assert job.job.entry("public.held").reason.code == "rows_changed"
    job.day()
    job.day()
    assert job.job.entry("public.held").reason.code == "unchanged"


@pytest.mark.skipif(17 not in BINARIES, reason="PostgreSQL 17 is missing")
def test_surgery_after_the_last_checkpoint(summarizing: SummarizingServers, tmp_path: Path) -> None:
    """pg_surgery kills a row without a transaction id, so no id tells that the WAL goes on."""
    database = summarizing[17].database()
    job = SummarizedJob(Nightly(database, tmp_path / "landing"))
    database.execute("CREATE EXTENSION pg_surgery")
    job.day(PERSON)
    job.day()
    assert job.day()[0] == "unchanged"
    (row,) = job.database.query("SELECT ctid::text FROM person WHERE id = 5")
    job.database.execute("SELECT heap_force_kill('person'::regclass, ARRAY[%s]::tid[])", row)
    assert job.run()[0] == "rows_removed"
    assert job.day()[0] == "unchanged"
    (row,) = job.database.query("SELECT ctid::text FROM person WHERE id = 6")
    job.database.execute("SELECT heap_force_kill('person'::regclass, ARRAY[%s]::tid[])", row)
    assert job.day()[0] == "rows_removed"
    database.drop()


def test_rows_that_logical_replication_applies(
    make_server: Callable[..., Cluster], tmp_path: Path, second_opinion: object
) -> None:
    server = make_server(settings={**SUMMARIZING, "wal_level": "logical"})
    origin, database = server.database(), server.database()
    job = SummarizedJob(Nightly(database, tmp_path / "landing"))
    job.day(PERSON)
    job.day()
    assert job.day() == QUIET
    subscribe(origin, database)
    origin.execute(UPDATE)
    end = time.monotonic() + 20
    while not database.value("SELECT count(*) FROM person WHERE name = 'late'"):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert job.day()[0] == "rows_changed"
    database.execute("DROP SUBSCRIPTION s")


def subscribe(origin: PgDatabase, database: PgDatabase) -> None:
    origin.execute(PERSON)
    origin.execute("CREATE PUBLICATION p FOR TABLE person")
    origin.value(f"SELECT pg_create_logical_replication_slot('{database.name}', 'pgoutput')")
    database.execute(
        f"CREATE SUBSCRIPTION s CONNECTION '{origin.dsn}' PUBLICATION p "
        f"WITH (create_slot = false, slot_name = '{database.name}', copy_data = false)"
    )


def test_a_file_that_goes_leaves_a_limit_block(summarized: SummarizedJob) -> None:
    """A number can come again after 2³² others. Whoever makes or removes a file leaves a limit block."""
    job = summarized
    assert job.day() == QUIET
    file, base = job.database.value("SELECT relfilenode::bigint FROM pg_class WHERE relname = 'person'"), last_base(job)
    job.database.execute("TRUNCATE person")
    job.summarize()
    assert written(job, base, file).limits == {file: 0}
