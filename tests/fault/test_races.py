"""Runs that meet: real processes, on a folder and on a real S3. Both may work, one commits first, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from isal import igzip

from fix_command import CHUNKS, Done, Floodmark, at_work, content, entry_of, held, until
from fix_crash import CrashServer, Ended
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_storage import S3Bucket, S3Server, environment
from floodmark.pipeline.entries import carried_over
from floodmark.state.announced import Completion
from floodmark.state.manifest import Head, Manifest, decode

SERVICE = """
CREATE TABLE person (id int, name text);
INSERT INTO person SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 4000) n;
CREATE TABLE small (id int);
INSERT INTO small VALUES (1);
CREATE TABLE other (id int);
INSERT INTO other VALUES (1);
"""


class Service:
    """A service's job, and runs of it that are stopped at a point of one's choice, and go on when told to."""

    def __init__(self, database: PgDatabase, folder: Path, command: Floodmark, bucket: S3Bucket | None) -> None:
        self.database, self.command, self._folder, self._bucket = database, command, folder, bucket
        self._server = CrashServer()
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[Ended] | None = None

    def get(self, key: str) -> bytes:
        return content(self._bucket, key) if self._bucket else (self._folder / "landing" / key).read_bytes()

    def head(self) -> Manifest:
        head = decode(Head, self.get("_floodmark/head.json"), "head")
        return decode(Manifest, self.get(f"_floodmark/{head.manifest}"), "manifest")

    def chain(self) -> list[str]:
        runs = self.command("history", "--output", "json").json["runs"]
        return [run["run_id"] for run in runs]

    def stopped(self, place: str, number: int, *arguments: str) -> Future[Ended]:
        """A run that has stopped, as if the machine slept, just before its n-th such call."""
        pid = self._folder / "pid"
        pid.unlink(missing_ok=True)
        future = self._running = self._pool.submit(self._run, place, number, arguments)
        until(lambda: future.done() or (pid.exists() and self._state() == "T"), 60)
        assert not future.done(), future.result()
        return future

    def go_on(self, future: Future[Ended]) -> Ended:
        os.kill(int((self._folder / "pid").read_text()), signal.SIGCONT)
        return future.result(60)

    def point(self, folder: str, s3: str) -> str:
        """A crash point's name, by where this lands. In a folder, none at which the lock is held: who sleeps with
        the lock in his hand keeps everyone waiting."""
        return s3 if self._bucket else folder

    def number(self, folder: int, s3: int) -> int:
        """The how-manieth such call, by where this lands: a folder is synced twice for each object."""
        return s3 if self._bucket else folder

    def require_truth(self) -> None:
        for entry in self.head().tables:
            lines = [line for stored in entry.objects for line in self._lines(stored.key)]
            assert sorted(lines) == sorted(lines_of(self.database.dsn, f"public.{entry.name}", entry)), entry.name

    def close(self) -> None:
        """Whoever still sleeps, since a test failed, sleeps no longer."""
        if self._running is not None and not self._running.done() and self._state() == "T":
            os.kill(int((self._folder / "pid").read_text()), signal.SIGKILL)
        self._pool.shutdown()
        self._server.close()

    def _lines(self, key: str) -> list[bytes]:
        return igzip.decompress(self.get(key)).splitlines(keepends=True)

    def _state(self) -> str:
        return Path(f"/proc/{(self._folder / 'pid').read_text()}/stat").read_text().rpartition(")")[2].split()[0]

    def _run(self, place: str, number: int, arguments: tuple[str, ...]) -> Ended:
        return self._server(
            "run",
            *("--output", "json", *arguments),
            environment=self.command.environment,
            folder=self._folder,
            only=place,
            kill_at=number,
            sign=signal.SIGSTOP,
        )


@pytest.fixture(params=["folder", "s3"])
def service(request: pytest.FixtureRequest, pg: PgDatabase, tmp_path: Path) -> Iterator[Service]:
    pg.execute(SERVICE)
    bucket: S3Bucket | None = None
    places = {"FLOODMARK_SOURCE": pg.url, "S3_DESTINATION": str(tmp_path / "landing")}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        bucket = request.getfixturevalue("s3_bucket")
        places |= {**environment(server.endpoint), "S3_DESTINATION": bucket.url}
    command = Floodmark(tmp_path, places)
    command.configure(CHUNKS)
    made = Service(pg, tmp_path, command, bucket)
    yield made
    made.close()


def test_runs_that_start_together_all_end_well(service: Service) -> None:
    """Three first runs at once, most likely in the same second."""
    processes = [service.command.start("run", "--output", "json") for _ in range(3)]
    ended: list[Done] = [service.command.end(process, 120) for process in processes]
    assert [done.code for done in ended] == [0, 0, 0], [done.err for done in ended]
    assert len({done.manifest.timestamp for done in ended}) == 3, "no two may write the same keys"
    assert sorted(service.chain()) == sorted(done.manifest.run_id for done in ended)
    service.require_truth()
    again = service.command.run()
    assert {status for status, _ in again.outcomes.values()} == {"unchanged"}


def test_a_table_is_run_again_while_the_daily_run_is_at_work(service: Service) -> None:
    service.command.run()
    service.database.execute("UPDATE person SET name = '' WHERE id = 7; INSERT INTO other VALUES (2)")
    with service.database.connect() as migration:
        held(migration, "person")
        daily = service.command.start("run", "--output", "json")
        until(at_work(service.database, "%person%"), 60)
        service.database.execute("INSERT INTO small VALUES (2)")
        rerun = service.command.run("--table", "small")
        migration.rollback()
    done = service.command.end(daily, 120)
    assert done.code == 0, done.err
    assert service.chain()[:2] == [done.manifest.run_id, rerun.manifest.run_id]
    head = service.head()
    assert entry_of(head, "public.small") == carried_over(entry_of(rerun.manifest, "public.small"))
    assert entry_of(head, "public.person").changed_by == done.manifest.run_id
    assert entry_of(head, "public.other").changed_by == done.manifest.run_id
    assert not head.consistent
    service.require_truth()


def test_a_writer_that_slept_through_another_s_commit_is_fenced(service: Service) -> None:
    service.command.run()
    service.database.execute("INSERT INTO small VALUES (2)")
    sleeper = service.stopped(service.point("fsync manifests", "before PUT head"), 1)
    service.database.execute("DELETE FROM small WHERE id = 1; UPDATE person SET name = '' WHERE id = 3")
    other = service.command.run()
    woken = service.go_on(sleeper)
    assert woken.code == 0, woken.err
    assert woken.manifest.parent is not None and other.manifest.run_id in woken.manifest.parent
    head = service.head()
    assert head.run_id == woken.manifest.run_id
    assert head.tables == tuple(map(carried_over, other.manifest.tables)), "the later snapshot of each table stays"
    service.require_truth()


def test_what_a_live_run_has_finished_serves_another_one_too(service: Service) -> None:
    """No one can tell a dead run from one that is slow, and no one needs to."""
    slow = service.stopped(service.point("fsync data", "before PUT data"), service.number(30, 12))
    quick = service.command.run()
    assert "from_run" in quick.err
    taken = {entry.key.split("/")[3] for table in quick.manifest.tables for entry in table.objects}
    assert len(taken) == 2, "objects of both"
    service.require_truth()
    service.database.execute("UPDATE person SET name = '' WHERE id = 3")
    woken = service.go_on(slow)
    assert woken.code == 0, woken.err
    assert service.chain() == [woken.manifest.run_id, quick.manifest.run_id]
    assert entry_of(service.head(), "public.person") == carried_over(entry_of(quick.manifest, "public.person"))
    assert entry_of(service.command.run().manifest, "public.person").reason.code == "rows_changed"
    service.require_truth()


@pytest.mark.parametrize("service", ["s3"], indirect=True)
def test_a_writer_that_slept_does_not_announce_over_a_later_commit(service: Service) -> None:
    """It sleeps after it saw that head names its commit, just before it writes the object at the destination."""
    service.command.configure(CHUNKS + "completion: {object: destination}\n")
    sleeper = service.stopped("before PUT success", 1)
    other = service.command.run()
    slept = service.go_on(sleeper)
    assert slept.code == 0, slept.err
    assert service.chain() == [other.manifest.run_id, slept.manifest.run_id]
    success = decode(Completion, service.get("_SUCCESS"), "success")
    assert success.run_id == other.manifest.run_id
    for run_id in service.chain():
        assert decode(Completion, service.get(f"_floodmark/complete/{run_id}.json"), run_id).run_id == run_id
