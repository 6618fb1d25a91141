"""kill -9 while a landing zone is put to, by a delivery or by a run itself: what its receiver holds in the end.

The receiver takes each object away at once (see `fix_receiver`), so nothing that a dead process has put can be looked
at, or be taken back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fix_command import content
from fix_crash import KILLED, CrashServer, Ended
from fix_postgres import PgDatabase
from fix_receiver import LandingZone, extractions, truth
from fix_runs import Nightly, lines_of
from fix_s3_proxy import Answer, Fault, Forward, Seen, error
from floodmark.events import ChunkDone, Event, RunStarted
from floodmark.source.postgres import transactions
from floodmark.state.manifest import Manifest

# One worker: what is counted once is there to be killed at the next time.
CONFIG = "chunk_size: 64KiB\nlimits: {connections: 1}\naudit: {share: 0%}\n"
DAY_1 = """
    CREATE TABLE person (id int, name text) WITH (autovacuum_enabled = off);
    INSERT INTO person SELECT n, repeat('x', 300) FROM generate_series(1, 1500) n;
    CREATE TABLE visit (id int); INSERT INTO visit VALUES (1);
    CREATE TABLE nothing (id int);
    CREATE TABLE note (id int); INSERT INTO note VALUES (1)"""
TABLES = {"note", "person", "visit"}


class Job:
    """The service's job, in a process that can be killed at a point of one's choice."""

    def __init__(self, server: CrashServer, database: PgDatabase, landing: LandingZone, folder: Path) -> None:
        self._server, self._database, self._landing, self._folder = server, database, landing, folder
        self.environment = {**landing.environment, "FLOODMARK_SOURCE": database.url}
        (folder / "floodmark.yaml").write_text(CONFIG)

    def __call__(self, *arguments: str, kill: tuple[str, int] = ("", 0), code: int = 0) -> Ended:
        ended = self._server(
            *arguments, environment=self.environment, folder=self._folder, only=kill[0], kill_at=kill[1]
        )
        assert ended.code == (KILLED if kill[1] else code), ended.err
        return ended

    def run(self, *arguments: str) -> Manifest:
        return self("run", "--output", "json", *arguments).manifest

    def truth(self, manifest: Manifest) -> dict[str, list[bytes]]:
        return truth(self._database, manifest)

    def cursor(self, name: str) -> Any:
        return json.loads(content(self._landing.own, f"lake/_floodmark/cursors/{name}.json"))

    def came(self, service: str) -> dict[str, list[list[bytes]]]:
        """What the receiver holds below a prefix: each table's extractions."""
        held = self._landing.receiver.held
        return extractions({one: files for one, files in held.items() if one.service == f"{service}/"})


@pytest.fixture
def job(crash_server: CrashServer, pg: PgDatabase, landing: LandingZone, tmp_path: Path) -> Job:
    pg.execute(DAY_1)
    return Job(crash_server, pg, landing, tmp_path)


@pytest.fixture
def lake(job: Job, landing: LandingZone) -> Manifest:
    """What a run put into the service's own bucket."""
    job.environment["FLOODMARK_DESTINATION"] = f"{landing.own.url}/lake"
    return job.run()


def deliver(landing: LandingZone, name: str, *more: str) -> tuple[str, ...]:
    return ("deliver", "--to", f"{landing.url}{name}", "--name", name, *more)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_delivery_killed_and_repeated(job: Job, lake: Manifest, landing: LandingZone, every: bool) -> None:
    """Before and after puts, before and after moves of the cursor: every one of them, or the most telling ones."""
    points = job(*deliver(landing, "calm")).points
    files = points.count("after PUT data")
    moves = points.count("after PUT calm")
    assert files > 6 and moves == 5 and job.came("calm").keys() == TABLES
    whole = {table: [lines] for table, lines in job.truth(lake).items()}
    kills = [("after PUT data", 1), ("after PUT data", 2), ("after PUT data", files - 1), ("after PUT data", files)]
    kills += [("before PUT data", 1), ("before PUT NAME", 1), ("before PUT NAME", 4), ("after PUT NAME", 2)]
    if every:
        kills = [(f"{when} PUT data", number) for when in ("before", "after") for number in range(1, files + 1)]
        kills += [(f"{when} PUT NAME", number) for when in ("before", "after") for number in range(1, moves + 1)]
    halves = 0
    for number, (point, times) in enumerate(kills):
        name = f"k{number}"
        job(*deliver(landing, name), kill=(point.replace("NAME", name), times))
        halves += job.came(name) not in ({}, whole)
        job(*deliver(landing, name))
        assert job.came(name) == whole, (point, times)
        cursor = job.cursor(name)
        assert cursor["delivery"]["sending"] == [] and len(cursor["tables"]) == 4, (point, times)
    print(f"\n{len(kills)} kills, after {halves} of them the receiver had a part")
    assert halves >= 4


def test_a_repetition_that_is_about_another_table_first(job: Job, lake: Manifest, landing: LandingZone) -> None:
    job(*deliver(landing, "one"), kill=("after PUT data", 3))
    job(*deliver(landing, "one", "--table", "public.visit"))
    job(*deliver(landing, "one"))
    assert job.came("one") == {table: [lines] for table, lines in job.truth(lake).items()}


def test_a_table_that_changed_before_the_repetition(
    job: Job, lake: Manifest, landing: LandingZone, pg: PgDatabase
) -> None:
    job(*deliver(landing, "two"), kill=("after PUT data", 3))
    pg.execute("UPDATE person SET name = 'y' WHERE id = 3")
    manifest = job.run()
    job(*deliver(landing, "two"))
    came = job.came("two")
    assert {table: found[-1] for table, found in came.items()} == job.truth(manifest)
    assert {table: len(found) for table, found in came.items()} == {"note": 1, "person": 2, "visit": 1}
    assert 0 < len(came["person"][0]) < 1500, "the earlier one stays as it was left"


def test_a_table_that_is_again_what_was_delivered_before(
    job: Job, lake: Manifest, landing: LandingZone, pg: PgDatabase
) -> None:
    """The receiver has half of what the table was meanwhile: so it gets it again, whole, under a later timestamp."""
    job(*deliver(landing, "three"))
    pg.execute("INSERT INTO person VALUES (9999, 'soon gone')")
    job.run()
    job(*deliver(landing, "three"), kill=("after PUT data", 1))
    pg.execute("DELETE FROM person WHERE id = 9999")
    manifest = job.run()
    job(*deliver(landing, "three"))
    assert {table: found[-1] for table, found in job.came("three").items()} == job.truth(manifest)


def test_a_run_killed_while_it_lands(job: Job, landing: LandingZone) -> None:
    """The next run lands what the dead one had begun, whole, under a later timestamp."""
    points: list[str] = []
    halves = 0
    for number, (point, times) in enumerate(
        [("", 0), *(("after PUT data", n) for n in (1, 3, 4, 7)), ("before PUT head", 1)]
    ):
        name = f"r{number}"
        job.environment |= {"S3_DESTINATION": f"{landing.url}{name}", "FLOODMARK_STATE": f"{landing.own.url}/{name}"}
        points = points or job("run").points
        if point:
            assert points.count(point) >= times
            job("run", kill=(point, times))
            halves += len(job.came(name).get("person", [[]])[0]) not in (0, 1500)
        manifest = job.run()
        came = job.came(name)
        assert {table: found[-1] for table, found in came.items()} == job.truth(manifest), (point, times)
        assert {one.status for one in job.run().tables} == {"unchanged"} and job.came(name) == came
    assert halves >= 2


@pytest.mark.parametrize("end", ["killed", "refused"])
def test_a_run_that_ended_while_it_landed_what_is_gone_by_the_next(
    job: Job, landing: LandingZone, pg: PgDatabase, end: str
) -> None:
    job.environment |= {"S3_DESTINATION": f"{landing.url}a", "FLOODMARK_STATE": f"{landing.own.url}/a"}
    job.run()
    pg.execute("INSERT INTO person VALUES (9999, 'soon gone')")
    if end == "killed":
        job("run", kill=("after PUT data", 1))
    else:
        landing.proxy.always = after_the_first_put(landing)
        job("run", code=13)
        landing.proxy.always = None
    pg.execute("DELETE FROM person WHERE id = 9999")
    manifest = job.run()
    assert {table: found[-1] for table, found in job.came("a").items()} == job.truth(manifest)
    assert {table: len(found) for table, found in job.came("a").items()} == {"note": 1, "person": 3, "visit": 1}
    assert {one.status for one in job.run().tables} == {"unchanged"}


def after_the_first_put(landing: LandingZone) -> Fault:
    """The zone takes one object more, and then refuses all."""
    taken: list[Seen] = []

    def judge(seen: Seen, forward: Forward) -> Answer | None:
        if not seen.path.startswith(f"/{landing.zone.name}/"):
            return forward(seen)
        taken.append(seen)
        return forward(seen) if len(taken) == 1 else error(403, "AccessDenied")(seen, forward)

    return judge


COORDINATOR = (
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'floodmark' "
    "AND datname = current_database() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1) AS oldest"
)


@pytest.mark.parametrize("undone", [False, True])
def test_a_run_whose_snapshot_is_lost_while_it_lands(
    nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undone: bool
) -> None:
    """What it had put by then is half a table. The next snapshot neither takes it for a part of the table that was
    sent, nor the table for one that was sent, where it is again what was committed."""
    nightly.database.execute(DAY_1)
    given = {"layout": "moj-landing", "compression": "none", "state_url": str(tmp_path / "state"), "connections": 1}
    nightly.run(**given)
    nightly.database.execute("INSERT INTO person VALUES (9999, 'soon gone'); INSERT INTO note VALUES (2)")
    lost = []
    monkeypatch.setattr(transactions, "_SECONDS_IN_USE", 0.0)  # the next chunk needs the snapshot again

    def lose(event: Event) -> None:
        if isinstance(event, ChunkDone) and event.table.name == "person" and event.uploaded_bytes and not lost:
            lost.extend(nightly.database.query(COORDINATOR))
            if undone:
                nightly.database.execute("DELETE FROM person WHERE id = 9999")

    nightly.run_observed(lose, **given)
    assert lost and sum(isinstance(event, RunStarted) for event in nightly.events) == 2
    found = nightly.received()
    for table, sent in found.items():
        truth = lines_of(nightly.database.dsn, f"public.{table}", nightly.entry(f"public.{table}"))
        assert sorted(sent[max(sent)]) == sorted(truth), table
    assert {table: len(sent) for table, sent in found.items()} == {"person": 3, "note": 2, "visit": 1}
    assert nightly.run(**given).uploaded_bytes == 0
