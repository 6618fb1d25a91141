"""Runs that would lose too much, on a real PostgreSQL: they commit nothing, say so, and end with 15."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fix_command import Floodmark, Landing, held, keys
from fix_postgres import PgDatabase
from fix_storage import S3Bucket, S3Server, environment
from floodmark.state.manifest import Inflight, decode

TABLES = """
    CREATE TABLE a (id int); INSERT INTO a SELECT generate_series(1, 500);
    CREATE TABLE b (id int); INSERT INTO b SELECT generate_series(1, 500);
    CREATE TABLE c (id int); INSERT INTO c SELECT generate_series(1, 10)"""


@pytest.fixture
def job(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    """A job from a database without a table to a folder."""
    return Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": "./landing"})


@pytest.fixture
def landing(job: Floodmark) -> Landing:
    return Landing(job.folder / "landing")


@pytest.fixture
def landed(job: Floodmark, pg: PgDatabase, landing: Landing) -> Floodmark:
    """The same job after its first night."""
    pg.execute(TABLES)
    job.run()
    return job


def last_exit_code(landing: Landing) -> int:
    found = decode(Inflight, landing.files["_floodmark/inflight.json"], "inflight")
    assert found.ended
    return found.ended.last.exit_code


def dropped(said: str) -> list[str]:
    return sorted(line.split("table=")[1].split()[0] for line in said.splitlines() if "event=table_dropped" in line)


def test_an_empty_database_claims_no_state_unless_that_is_accepted(
    job: Floodmark, landing: Landing, pg: PgDatabase
) -> None:
    pg.execute("CREATE VIEW v AS SELECT 1 AS one")
    for command in (["run"], ["plan"]):
        said = job(*command, code=15).err
        assert "no table is selected" in said and "--accept-loss" in said and "first_run_empty" in said
    assert not landing.folder.exists()
    assert job("plan", "--output", "json", code=15).json["refused"]["exit_code"] == 15
    job("plan", "--accept-loss")
    job.run("--accept-loss")
    assert landing.manifest.tables == ()
    assert "no table is selected" in job("run", code=15).err  # it was accepted once
    pg.execute("CREATE TABLE t AS SELECT 1 AS one")
    assert job.run().outcomes == {"public.t": ("extracted", "first_run")}


@pytest.mark.parametrize("layout", ["plain", "moj-landing"])
def test_an_empty_database_leaves_no_object_in_s3(
    job: Floodmark, s3_bucket: S3Bucket, s3_server: S3Server, layout: str
) -> None:
    """With moj-landing the run has no state."""
    job.environment |= {**environment(s3_server.endpoint), "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake"}
    assert "no table is selected" in job("run", "--layout", layout, code=15).err
    assert keys(s3_bucket) == {}


def test_an_empty_sqlite_file_is_refused_alike(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute("CREATE VIEW v AS SELECT 1")
    job = Floodmark(tmp_path, {"FLOODMARK_SOURCE": "sqlite:///a.db", "FLOODMARK_DESTINATION": "./landing"})
    assert "no table is selected" in job("run", code=15).err and not (tmp_path / "landing").exists()
    job.configure("guards: {first_run_empty: accept}")
    job("run")


def test_a_run_that_lost_most_tables_stops_before_it_reads_one(
    landed: Floodmark, landing: Landing, pg: PgDatabase
) -> None:
    before = landing.committed
    pg.execute("DROP TABLE a, b; INSERT INTO c VALUES (11)")
    done = landed("run", "--log-level", "debug", code=15)
    assert "2 of 3 tables are gone from the source (guards.tables_gone: 50%)" in done.err
    assert "public.a, public.b" in done.err and "--accept-loss" in done.err and "table_decided" not in done.err
    assert landing.committed == before and last_exit_code(landing) == 15
    planned = landed("plan", code=15)
    assert planned.out.count("dropped") == 2 and "2 of 3 tables" in planned.err
    accepted = landed("run", "--accept-loss")
    assert dropped(accepted.err) == ["public.a", "public.b"] and "2 dropped" in accepted.out
    assert landed.run().outcomes == {"public.c": ("unchanged", "unchanged")}


def test_a_table_that_is_gone_within_the_limit_is_a_warning(landed: Floodmark, pg: PgDatabase) -> None:
    pg.execute("DROP TABLE a")
    done = landed("run", "--log-level", "warning")
    assert dropped(done.err) == ["public.a"] and "no longer exists in the source" in done.err
    assert dropped(landed("run").err) == []


@pytest.mark.parametrize("act", ["TRUNCATE a, b", "DELETE FROM a; DELETE FROM b"])
def test_a_run_that_lost_most_rows_commits_nothing(
    landed: Floodmark, landing: Landing, pg: PgDatabase, act: str
) -> None:
    before = landing.committed["_floodmark/head.json"]
    pg.execute(f"{act}; INSERT INTO c VALUES (11)")
    landed("plan")  # the rows of c are not known yet
    done = landed("run", code=15)
    assert "999 of 1,010 rows are gone (guards.rows_removed: 90%)" in done.err
    assert "public.a (500 to 0), public.b (500 to 0)" in done.err
    assert landing.committed["_floodmark/head.json"] == before
    assert last_exit_code(landing) == 15
    planned = landed("plan", code=15)  # what the refused run read is kept
    assert "0 of 3 chunks" in planned.out and "999 of 1,010 rows" in planned.err
    accepted = landed.run("--accept-loss")
    assert {status for status, _ in accepted.outcomes.values()} == {"extracted"}
    assert landed.run().outcomes["public.a"] == ("unchanged", "unchanged")


def test_a_plan_tells_the_loss_of_rows_as_soon_as_they_are_known(landed: Floodmark, pg: PgDatabase) -> None:
    pg.execute("TRUNCATE a, b")
    assert "1,000 of 1,010 rows are gone" in landed("plan", code=15).err
    landed.configure("guards: {rows_removed: 100%}")
    landed("plan")
    landed("run")


def test_a_table_that_is_locked_keeps_its_rows(landed: Floodmark, pg: PgDatabase) -> None:
    """A migration holds the big table while a queue empties: nothing is lost."""
    pg.execute("TRUNCATE a, c")
    landed.configure("limits: {lock_timeout: 1s, connections: 1}")
    with pg.connect() as migration:
        held(migration, "b")
        landed("plan")  # how many rows b has is not known
        assert landed.run(code=3).outcomes["public.a"] == ("extracted", "rewritten")


@pytest.mark.parametrize("narrowed", [("--table", "a"), ("--exclude", "b")])
def test_a_table_that_is_left_out_keeps_its_rows(landed: Floodmark, pg: PgDatabase, narrowed: tuple[str, str]) -> None:
    pg.execute("TRUNCATE a")
    landed("plan", *narrowed)
    landed.run(*narrowed)


def test_a_narrowed_run_is_refused_if_the_database_lost_most_rows(landed: Floodmark, pg: PgDatabase) -> None:
    """Rows that were lost before count as little as those of tables that the configuration leaves out."""
    pg.execute("INSERT INTO a SELECT generate_series(1, 9500)")
    landed.run()
    pg.execute("TRUNCATE a")
    for command in ("plan", "run"):
        said = landed(command, "--table", "a", code=15).err
        assert "10,000 of 10,510 rows are gone" in said and "public.a (10,000 to 0)" in said
    landed.configure("tables: {exclude: [a]}")
    pg.execute("TRUNCATE c")
    landed("plan")
    landed.run()


def test_tables_that_are_not_part_of_the_run_are_not_gone(landed: Floodmark, pg: PgDatabase) -> None:
    pg.execute("DROP TABLE a, b")
    landed("run", "--exclude", "a", "--exclude", "b", code=10)
    landed("run", "--table", "c")


def test_what_the_configuration_leaves_out_is_not_gone_unless_nothing_is_left(
    landed: Floodmark, landing: Landing, pg: PgDatabase
) -> None:
    before = landing.committed
    landed.configure('tables: {exclude: ["*.*"]}')
    done = landed("run", code=15)
    assert "3 of 3 tables would be dropped, because no table is selected" in done.err and landing.committed == before
    landed.configure("tables: {include: [c]}")
    assert landed.run().outcomes == {"public.c": ("unchanged", "unchanged")}
    pg.execute("DROP TABLE a, b")
    landed.run()


def test_tables_that_became_partitions_are_no_loss(landed: Floodmark, pg: PgDatabase) -> None:
    """Monthly tables are put under one parent: it has their rows now."""
    pg.execute("CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE q (id int) PARTITION BY LIST (id)")
    pg.execute("ALTER TABLE p ATTACH PARTITION a DEFAULT; ALTER TABLE q ATTACH PARTITION b DEFAULT")
    assert landed("plan").out.count(" attached: ") == 2
    outcomes = landed.run("--full").outcomes
    assert outcomes["public.a"] == outcomes["public.b"] == ("dropped", "attached")
    pg.execute("ALTER TABLE p DETACH PARTITION a; ALTER TABLE q DETACH PARTITION b; DROP TABLE p, q")
    assert "2 of 3 tables" in landed("plan", code=15).err  # the parents are gone, and their tables are new


def test_renamed_tables_lose_no_rows(landed: Floodmark, pg: PgDatabase) -> None:
    pg.execute("ALTER TABLE a RENAME TO x")
    assert landed.run().outcomes["public.a"] == ("dropped", "dropped")
