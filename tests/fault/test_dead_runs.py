"""A run that dies, is told to stop or runs out of time is not begun anew: the next one goes on by proof."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from fix_command import CHUNKS, Floodmark, Landing, asked_to_stop, entry_of, held, until
from fix_crash import KILLED, CrashServer, Ended
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly, lines_of
from floodmark.errors import SourceError
from floodmark.events import ChunkDone, Event, RunStarted
from floodmark.state.manifest import Inflight, Progress, decode

BIG = "public.big"
FILL = """
CREATE TABLE big (id int, filling text);
INSERT INTO big SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, {rows}) n;
CREATE TABLE small (id int);
INSERT INTO small SELECT generate_series(1, 10);
"""


class Job:
    """A service's job from one database to one folder, whose runs can be killed."""

    def __init__(self, crash_server: CrashServer, database: PgDatabase, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.landing = Landing(folder / "landing")
        self.command = Floodmark(folder, {"FLOODMARK_SOURCE": database.url, "S3_DESTINATION": str(self.landing.folder)})
        self.command.configure(CHUNKS)
        self._server = crash_server

    def run(self, *arguments: str, kill_at: int = 0, only: str = "", pause: float = 0.0) -> Ended:
        return self._server(
            "run",
            *("--output", "json", *arguments),
            environment=self.command.environment,
            folder=self.folder,
            kill_at=kill_at,
            only=only,
            pause=pause,
        )

    def run_whole(self, *arguments: str) -> Ended:
        ended = self.run(*arguments)
        assert ended.code == 0, ended.err
        self.require_truth()
        return ended

    def require_truth(self) -> None:
        for entry in self.landing.manifest.tables:
            label = entry.table.label
            assert sorted(self.landing.lines(label)) == sorted(lines_of(self.database.dsn, label, entry)), label

    @property
    def objects(self) -> set[str]:
        folder = self.landing.folder
        return {path.relative_to(folder).as_posix() for path in folder.glob("data/**/*.gz")}

    @property
    def in_flight(self) -> Inflight:
        return decode(Inflight, self.landing.files["_floodmark/inflight.json"], "inflight")

    @property
    def progress(self) -> list[Progress]:
        files = self.landing.files.items()
        found = [data for key, data in files if key.startswith("_floodmark/progress/") and key.endswith(".json")]
        return [decode(Progress, data, "progress") for data in found]

    def require_nothing_left(self) -> None:
        assert self.in_flight.runs == () and self.progress == []


@pytest.fixture
def job(crash_server: CrashServer, pg: PgDatabase, tmp_path: Path) -> Job:
    pg.execute(FILL.format(rows=20_000))
    return Job(crash_server, pg, tmp_path)


def finished_chunks(progress: Progress) -> int:
    return sum(len(told.watermark.chunks) for told in progress.chunks)


def test_after_a_kill_at_90_percent_only_the_rest_and_what_changed_is_read(job: Job) -> None:
    whole = len(entry_of(Job.run_whole(job).manifest, BIG).objects)
    assert whole > 80
    job.database.execute("UPDATE big SET filling = repeat(md5(filling), 8)")
    job.database.execute("VACUUM FULL big")
    before = job.objects
    assert job.run(kill_at=whole * 9 // 10, only="os.link data").code == KILLED
    put = len(job.objects - before)
    (left,) = job.progress
    assert finished_chunks(left) >= put - 5, "four may have been at work, one just done"
    job.database.execute("UPDATE big SET filling = 'changed' WHERE id = 7; INSERT INTO big VALUES (0, 'new')")
    middle = job.objects
    ended = job.run_whole()
    read = len(job.objects - middle)
    assert read <= whole - finished_chunks(left) + 3, "the rest, the row that changed and where it went"
    assert f"from_run={left.run_id}" in ended.err
    entry = entry_of(ended.manifest, BIG)
    assert sum(stored.key in middle - before for stored in entry.objects) >= finished_chunks(left) - 3
    assert [run.run_id for run in job.in_flight.runs] == [left.run_id], "it may be alive: it is forgotten in time"


def test_what_a_run_took_over_outlives_its_own_death(job: Job) -> None:
    """Night after night a bit further, even where the first run's entry is forgotten meanwhile."""
    assert job.run(kill_at=30, only="os.link data").code == KILLED
    (first,) = job.progress
    assert job.run(kill_at=30, only="os.link data").code == KILLED
    (job.landing.folder / "_floodmark" / f"progress/{first.run_id}.json").unlink()
    (second,) = job.progress
    assert finished_chunks(second) >= finished_chunks(first) + 20
    put = job.objects
    job.run_whole()
    whole = len(entry_of(job.landing.manifest, BIG).objects) + 1
    assert len(job.objects - put) <= whole - finished_chunks(second)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_publishes_nothing_and_leaves_what_it_finished(
    job: Job, number: signal.Signals
) -> None:
    with job.database.connect() as migration:
        held(migration, "small")  # so that it is at work when it is told, however long the signal takes
        process = job.command.start("run")
        until(lambda: len(job.objects) >= 30, 60)
        said = asked_to_stop(process, number)
        migration.rollback()
    done = job.command.end(process, said=said)
    assert done.code == 128 + number
    assert "_floodmark/head.json" not in job.landing.files
    (left,) = job.progress
    assert finished_chunks(left) == len(job.objects), "on a clean end nothing is missing"
    ended = job.run_whole()
    whole = len(entry_of(ended.manifest, BIG).objects)
    assert len(job.objects) <= whole + 1, "each chunk was put once"
    assert entry_of(ended.manifest, BIG).reason.code == "first_run"


def test_a_table_that_was_all_but_committed_is_taken_as_it_is(job: Job) -> None:
    """Killed between the last object and the manifest: nothing is read again, and the reasons make sense."""
    assert job.run(kill_at=1, only="os.link manifests").code == KILLED
    put = job.objects
    ended = job.run_whole()
    assert job.objects == put
    assert {(one.status, one.reason.code) for one in ended.manifest.tables} == {("extracted", "first_run")}


@pytest.mark.parametrize("what", ["gone", "cut short"])
def test_an_object_that_is_not_as_it_was_put_is_extracted_again(job: Job, what: str) -> None:
    assert job.run(kill_at=40, only="os.link data").code == KILLED
    stored = job.progress[0].chunks[0].objects[3]
    path = job.landing.folder / stored.key
    path.write_bytes(path.read_bytes()[:-1])
    if what == "gone":
        path.unlink()
    ended = job.run_whole()
    assert stored.key not in {one.key for one in entry_of(ended.manifest, BIG).objects}
    assert job.progress[0].chunks[0].objects[4].key in {one.key for one in entry_of(ended.manifest, BIG).objects}


@pytest.mark.parametrize("data", [b"", b'{"format":"floodmark.progress","version":2}', b'{"format":"floodmark.head"}'])
def test_a_progress_that_can_t_be_read_is_told_of_and_done_without(job: Job, data: bytes) -> None:
    assert job.run(kill_at=40, only="os.link data").code == KILLED
    (run,) = job.in_flight.runs
    (job.landing.folder / "_floodmark" / run.progress).write_bytes(data)
    ended = job.run_whole()
    assert f"the finished parts of run {run.run_id} are extracted again" in ended.err and "from_run" not in ended.err


def test_another_compression_or_place_is_another_thing(job: Job) -> None:
    """Objects written otherwise, or relative to another place, are never named."""
    assert job.run(kill_at=40, only="os.link data").code == KILLED
    job.command.configure(f"{CHUNKS}destination: {{compression: none}}\n")
    ended = job.run()
    assert "from_run" not in ended.err
    assert all(stored.key.endswith(".jsonl") for stored in entry_of(ended.manifest, BIG).objects)


def test_a_landing_zone_has_no_progress(job: Job) -> None:
    """What was sent there is gone: it can't be named again, so a table is sent whole, by the next run."""
    state = job.folder / "state"
    job.command.configure(f"{CHUNKS}destination: {{layout: moj-landing}}\nstate: {{url: {state}}}\n")
    assert job.run(kill_at=40, only="os.rename data").code == KILLED
    assert not (state / "progress").exists()
    ended = job.run()
    assert ended.code == 0 and "from_run" not in ended.err
    stamps = {stored.key.split("/")[-2] for stored in entry_of(ended.manifest, BIG).objects}
    assert len(stamps) == 1
    assert sum(one.rows for one in entry_of(ended.manifest, BIG).objects) == 20_000


# The clock, and the snapshot itself


def at_chunk(number: int, act: Callable[[], object]) -> Callable[[Event], None]:
    """An observer that does something once, when so many chunks are done."""
    counter = count(1)

    def observe(event: Event) -> None:
        if isinstance(event, ChunkDone) and next(counter) == number:
            act()

    return observe


def slowly(event: Event) -> None:
    if isinstance(event, ChunkDone):
        time.sleep(0.1)


@pytest.fixture
def big(nightly: Nightly) -> Nightly:
    nightly.database.execute(FILL.format(rows=10_000))
    return nightly


def objects_of(nightly: Nightly) -> set[str]:
    return {path.name + str(path) for path in nightly.folder.rglob("big-*.gz")}


def test_what_is_finished_in_time_is_committed_and_the_rest_goes_on_the_next_night(big: Nightly) -> None:
    result = big.run_observed(slowly, max_snapshot_age=1, connections=2)
    assert big.outcome(BIG) == ("failed", "deadline") and result.failed
    put = len(objects_of(big))
    assert put >= 1
    big.run()
    whole = len(big.entry(BIG).objects)
    assert big.outcome(BIG) == ("extracted", "first_run") and put < whole
    assert len(objects_of(big)) <= whole + 1
    big.require_truth()


COORDINATOR = (
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'floodmark' "
    "AND datname = current_database() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1) AS oldest"
)


def test_a_run_whose_snapshot_is_lost_takes_another_and_goes_on_by_proof(big: Nightly) -> None:
    def lose() -> None:
        big.database.execute("UPDATE big SET filling = 'later' WHERE id IN (1, 9999)")
        assert big.database.query(COORDINATOR), "the coordinator's session is found"

    big.run_observed(at_chunk(30, lose))
    started = [event for event in big.events if isinstance(event, RunStarted)]
    assert [event.attempt for event in started] == [1, 2]
    whole = len(big.entry(BIG).objects)
    assert whole <= len(objects_of(big)) <= whole + 4, "two chunks had changed, and the new rows' may have been read"
    assert big.last is not None and big.last.source.snapshot == started[1].point
    assert len({entry.as_of for entry in big.last.tables}) == 1, "one moment"
    big.require_truth()


@pytest.mark.parametrize("then", ["goes on", "loses its snapshot", "dies"])
def test_what_was_read_while_a_label_had_another_name_for_a_while_is_not_used(big: Nightly, then: str) -> None:
    """The names are the same before and after; only the transactions that gave them tell of it."""
    big.database.execute("CREATE TYPE mood AS ENUM ('sad'); ALTER TABLE big ADD m mood DEFAULT 'sad'")
    done = count(1)

    def observe(event: Event) -> None:
        if not isinstance(event, ChunkDone):
            return
        number = next(done)
        if number == 10:
            big.database.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
        elif number == 25:
            big.database.execute("ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'")
            if then != "goes on":
                big.database.query(COORDINATOR)
            if then == "dies":
                raise ArithmeticError

    if then == "dies":
        with pytest.raises(ArithmeticError):
            big.run_observed(observe)
        big.run()
    else:
        big.run_observed(observe)
    assert not any(b"blue" in line for line in big.landed(BIG))
    big.require_truth()


def test_a_server_that_restarts_is_waited_for(private_server: Cluster, make_nightly: Callable[..., Nightly]) -> None:
    """Another life of the server is another history: everything is read again, and what is the same is not put."""
    nightly = make_nightly(private_server.database())
    nightly.database.execute(FILL.format(rows=10_000))
    nightly.run_observed(at_chunk(30, private_server.restart))
    whole = len(nightly.entry(BIG).objects)
    assert whole <= len(objects_of(nightly)) <= whole + 3
    assert [event.attempt for event in nightly.events if isinstance(event, RunStarted)] == [1, 2]
    nightly.require_truth()


def test_snapshots_that_are_lost_before_anything_is_finished_end_the_run(big: Nightly) -> None:
    def lose(event: Event) -> None:
        if isinstance(event, RunStarted):
            big.database.query(COORDINATOR)

    with pytest.raises(SourceError):
        big.run_observed(lose)
    assert [event.attempt for event in big.events if isinstance(event, RunStarted)] == [1, 2, 3]
    assert not (big.folder / "_floodmark/head.json").exists()


def test_a_server_that_is_awaited_does_not_keep_a_signal_waiting(job: Job) -> None:
    job.command.configure(f"{CHUNKS}source: {{wait_seconds: 600}}\n")
    job.command.environment["FLOODMARK_SOURCE"] = "postgresql://u@127.0.0.1:1/nowhere"
    process = job.command.start("run")
    assert process.stderr is not None and b'event=retry what="take a snapshot"' in process.stderr.readline()
    process.terminate()
    assert job.command.end(process).code == 143
