"""A run's report, its place in history, its metrics and its exit code speak of the tables that it worked on."""

from __future__ import annotations

import signal
from datetime import datetime
from pathlib import Path

import pytest

from fix_command import Floodmark, asked_to_stop, at_work, held, until
from fix_postgres import PgDatabase

TABLES = """
CREATE TABLE person (id int PRIMARY KEY); INSERT INTO person SELECT generate_series(1, 500);
CREATE TABLE place (id int PRIMARY KEY); INSERT INTO place SELECT generate_series(1, 500);
CREATE TABLE closed (id int PRIMARY KEY); INSERT INTO closed SELECT generate_series(1, 500);
"""


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    pg.execute(TABLES)
    return Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")})


def test_a_rerun_of_one_table_speaks_of_that_table_alone(floodmark: Floodmark, pg: PgDatabase, tmp_path: Path) -> None:
    reader = pg.role("reader_of_two")
    pg.execute("GRANT SELECT ON person, place TO reader_of_two")
    floodmark.environment["FLOODMARK_SOURCE"] = reader.url
    night = floodmark("run", code=3)
    assert "closed" in night.out and "1 failed" in night.out
    pg.execute("INSERT INTO person VALUES (1000); INSERT INTO place VALUES (1000)")

    metrics = tmp_path / "metrics.prom"
    rerun = floodmark("run", "--table", "person", "--metrics-textfile", str(metrics))
    assert rerun.code == 0  # closed failed the night before, and this run did not look at it
    assert "1 table: 0 unchanged, 1 extracted, 0 failed (2 other tables left out)" in rerun.out
    assert "place" not in rerun.out and "closed" not in rerun.out

    entries = {entry.name: entry for entry in floodmark("show", "--output", "json").manifest.tables}
    assert {name: entry.carried_over for name, entry in entries.items() if entry.carried_over is True} == {
        "place": True,
        "closed": True,
    }
    assert entries["place"].rows == 500 and entries["place"].objects  # consumers lose nothing

    newest = floodmark("history", "--output", "json").json["runs"][0]
    counted = {name: newest[name] for name in ("outcome", "exit_code", "tables", "extracted", "failed")}
    assert counted == {"outcome": "success", "exit_code": 0, "tables": 1, "extracted": 1, "failed": 0}
    assert newest["written_bytes"] == entries["person"].stored_bytes

    lines = metrics.read_text().splitlines()
    uploads = [line for line in lines if line.startswith("floodmark_table_bytes{") and 'kind="uploaded"' in line]
    (uploaded,) = [line for line in uploads if 'table="place"' in line]
    assert uploaded.endswith(" 0.0")
    seconds = [line for line in lines if line.startswith("floodmark_table_duration_seconds{")]
    assert len(seconds) == 1 and 'table="person"' in seconds[0]
    assert any('status="success"} 1.0' in line and "run_status" in line for line in lines)

    tomorrow = floodmark.run(code=3)
    assert all(entry.carried_over is not True for entry in tomorrow.manifest.tables)
    assert tomorrow.outcomes["public.place"] == ("extracted", "rows_changed")


def test_an_interrupted_full_run_is_continued_as_forced(floodmark: Floodmark, pg: PgDatabase) -> None:
    floodmark.run()
    pg.execute("INSERT INTO place VALUES (1000)")
    migration = pg.connect()
    held(migration, "place")
    process = floodmark.start("run", "--full", "--connections", "1")  # one table after another
    until(lambda: process.poll() is not None or at_work(pg, "%place%")(), patience=60)
    asked_to_stop(process, signal.SIGTERM)
    migration.rollback()
    assert floodmark.end(process).code == 143

    stopped = floodmark("history", "--output", "json").json["runs"][0]
    told = {name: stopped[name] for name in ("outcome", "exit_code", "chunks", "tables", "error")}
    assert told == {"outcome": "stopped", "exit_code": 143, "chunks": 3, "tables": None, "error": None}
    assert stopped["chunks_done"] == 2  # place was held
    assert "2 of 3 chunks extracted" in floodmark("status").out
    told = floodmark("show", stopped["run_id"][:20], code=2).err
    assert "this run committed nothing" in told and "it was stopped with exit code 143" in told
    doctor = {one["check"]: one["found"] for one in floodmark("doctor", "--output", "json").json["checks"]}
    assert stopped["run_id"] in doctor["finished parts"] and "the next run continues" in doctor["finished parts"]
    assert doctor["runs"] == "none is in progress"

    found = floodmark("run", "--output", "json")
    codes = {name: code for name, (status, code) in found.outcomes.items() if status == "extracted"}
    assert "rows_changed" not in {code for name, code in codes.items() if name != "public.place"}
    assert codes["public.closed"] == "forced"
    put_before = stopped["written_bytes"]
    newest = floodmark("history", "--output", "json").json["runs"][0]
    stored = sum(entry.stored_bytes or 0 for entry in found.manifest.tables)
    assert put_before > 0 and newest["written_bytes"] == stored - put_before  # the other run put the rest
    assert f"from_run={stopped['run_id']} outcome=stopped" in found.err


def test_a_partition_that_comes_or_goes_is_named(floodmark: Floodmark, pg: PgDatabase) -> None:
    pg.execute(
        "CREATE TABLE log (id int, d int) PARTITION BY LIST (d); CREATE TABLE none (id int) PARTITION BY LIST (id);"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1); CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);"
        "INSERT INTO log SELECT i, 1 + i % 2 FROM generate_series(1, 100) i;"
        "CREATE TABLE log_3 (id int, d int); INSERT INTO log_3 VALUES (1, 3)"
    )

    def told(name: str = "log") -> tuple[str, str, int]:
        """The reason for a table, and the number of its chunks that were extracted."""
        (entry,) = [entry for entry in floodmark.run().manifest.tables if entry.name == name]
        new = [one for one in entry.objects if one.origin == "extracted"]
        return entry.reason.code, entry.reason.detail, len(new)

    assert told("none") == ("first_run", "never extracted before; it has no rows", 0)
    pg.execute("ALTER TABLE log ATTACH PARTITION log_3 FOR VALUES IN (3)")
    assert told() == ("rows_changed", "partition public.log_3 was added (1 of 3 chunks)", 1)
    pg.execute("ALTER TABLE log DETACH PARTITION log_1")
    assert told() == ("rows_removed", "partition public.log_1 was detached or dropped", 0)
    pg.execute("DROP TABLE log_2; INSERT INTO log VALUES (2, 3)")
    code, detail, _ = told()
    assert code == "rows_changed" and detail.endswith("; partition public.log_2 was detached or dropped")


def test_the_seconds_of_tables_on_an_unchanged_day_add_up_to_the_run(floodmark: Floodmark, pg: PgDatabase) -> None:
    pg.execute("".join(f"CREATE TABLE t{n} AS SELECT 1 AS id;" for n in range(60)))
    floodmark.run()
    unchanged = floodmark.run().manifest
    assert {entry.status for entry in unchanged.tables} == {"unchanged"}
    took = datetime.fromisoformat(unchanged.finished_at) - datetime.fromisoformat(unchanged.started_at)
    connections = 4
    assert 0 < sum(entry.duration_seconds for entry in unchanged.tables) <= connections * took.total_seconds()


def test_a_table_that_was_emptied_before_a_refused_run_has_its_own_reason(floodmark: Floodmark, pg: PgDatabase) -> None:
    pg.execute("DROP TABLE place, closed")
    floodmark.run()
    pg.execute("DELETE FROM person")
    floodmark.run(code=15)
    (entry,) = floodmark.run("--accept-loss").manifest.tables
    assert (entry.status, entry.rows) == ("extracted", 0)
    assert (entry.reason.code, "partition" in entry.reason.detail) == ("rows_removed", False)
