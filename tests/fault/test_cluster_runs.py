"""Runs on a real Dask cluster: what threads would land, whatever dies, and nothing secret on the way.

The workers' credentials are in two files, so one cluster serves databases and stores of all tests. Whatever is sent to
the scheduler or to a worker is recorded.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fix_command import CHUNKS, Floodmark, asked_to_stop, entry_of, held, until
from fix_dask import DaskServers, require_dask
from fix_postgres import PgDatabase, Role
from fix_runs import Nightly
from fix_storage import ACCESS_KEY, SECRET_KEY, S3Bucket, S3Server
from floodmark.config import ColumnRule, Secret, TableRule
from floodmark.errors import EngineError, StorageDenied
from floodmark.events import ChunkDone, Event, Retried
from floodmark.model import TableEntry
from floodmark.pipeline.job import run
from floodmark.pipeline.resume import SHORTEST_PAUSE
from floodmark.state.manifest import Manifest

BIG = """
    CREATE TABLE big (id int, name text, filling text STORAGE PLAIN);
    INSERT INTO big SELECT n, 'row-of-somebody-' || n, repeat(md5(n::text), 30) FROM generate_series(1, {rows}) n
"""
ROWS = 2200  # 34 chunks of 64 KiB
ROW = b"row-of-somebody-"
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floodmark' AND datname = current_database()
"""
PASSWORD, MASK_KEY = "secret-of-the-role", "secret-of-the-masks"


class Workers:
    """A recorded cluster of two workers, and the files that hold their credentials."""

    def __init__(self, folder: Path) -> None:
        self.config, self.keys = folder / "worker.yaml", folder / "keys"
        self.environment = {
            "FLOODMARK_CONFIG": str(self.config),
            "FLOODMARK_MASK_KEY": MASK_KEY,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.keys),
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "eu-west-2",
        }
        self.servers = DaskServers(folder, record=True)
        self._started = 0

    def start(self, number: int) -> None:
        for _ in range(number):
            self._started += 1
            self.servers.add_worker(self.environment, wait=False, name=f"worker-{self._started}")
        for worker in self.servers.workers:
            worker.wait_for("Registered to")

    def know(self, url: str, secret: str = SECRET_KEY) -> None:
        self.config.write_text(f"source: {{url: '{url}'}}\n", encoding="utf-8")
        keys = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n"
        self.keys.write_text(keys, encoding="utf-8")

    def kill_one(self) -> None:
        self.servers.workers.pop().kill()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Workers]:
    require_dask()
    made = Workers(tmp_path_factory.mktemp("cluster"))
    made.environment["AWS_ENDPOINT_URL_S3"] = s3_server.endpoint
    try:
        made.start(2)
        yield made
    finally:
        made.servers.close()


class OnCluster(Nightly):
    """A nightly job whose chunks are extracted by workers."""

    workers: Workers

    def run(self, stop: Any = None, observer: Callable[[Event], None] = lambda event: None, **changes: Any) -> Any:
        self.events = []

        def both(event: Event) -> None:
            self.events.append(event)
            observer(event)

        result = run(self.settings(**changes), both, stop, self.workers.servers.url)
        self.last = result.manifest
        return result


@pytest.fixture
def cluster(pg: PgDatabase, tmp_path: Path, workers: Workers) -> OnCluster:
    pg.execute(BIG.format(rows=ROWS))
    workers.know(pg.url)
    made = OnCluster(pg, tmp_path / "landing")
    made.workers = workers
    return made


def once(act: Callable[[], object], after: int) -> Callable[[Event], None]:
    """Return an observer that does something when so many chunks are done."""
    done = 0

    def observe(event: Event) -> None:
        nonlocal done
        done += isinstance(event, ChunkDone)
        if isinstance(event, ChunkDone) and done == after:
            act()

    return observe


def facts(entry: TableEntry) -> tuple[Any, ...]:
    """What of a table is the same whoever extracts it."""
    objects = [replace(one, key=one.key[-15:]) for one in entry.objects]
    return entry.status, entry.reason, entry.rows, entry.checksum, entry.fingerprint, objects


def limited_role(database: PgDatabase, connections: int) -> Role:
    role = database.role("of_the_cluster", PASSWORD)
    database.execute(f"ALTER ROLE {role.name} CONNECTION LIMIT {connections}")
    database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
    return role


def test_from_a_database_to_s3_as_with_threads(
    cluster: OnCluster, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More than 50 chunks, with two connections and one for the snapshot. Nothing secret is sent, and no row."""
    cluster.database.execute("INSERT INTO big SELECT id, name, filling FROM big")  # 68 chunks
    role = limited_role(cluster.database, 3)
    cluster.workers.know(role.url)
    rules = {"public.big": TableRule(columns=ColumnRule(mask={"name": "hash"}))}
    choice: dict[str, Any] = {"rules": rules, "mask_key": Secret(MASK_KEY), "connections": 2}
    places: list[Manifest] = []
    for name in ("threads", "cluster"):
        place = f"{s3_bucket.url}/{name}"
        settings = cluster.settings(url=role.url, **choice)
        settings = replace(settings, destination=replace(settings.destination, url=place), state_url=f"{place}/state")
        events: list[Event] = []
        places.append(
            run(settings, events.append, engine=cluster.workers.servers.url if name == "cluster" else None).manifest
        )
        assert not [event for event in events if isinstance(event, Retried)]
        assert sum(isinstance(event, ChunkDone) for event in events) > 50
    threads, remote = places
    assert [facts(one) for one in remote.tables] == [facts(one) for one in threads.tables]
    sent = cluster.workers.servers.recorded
    assert b"extract_away" in sent
    for hidden in (ROW, PASSWORD.encode(), MASK_KEY.encode(), SECRET_KEY.encode(), b"c4ca4238a0b923820dcc509a6f75849b"):
        assert hidden not in sent


def test_a_worker_that_is_killed(cluster: OnCluster) -> None:
    cluster.run(observer=once(cluster.workers.kill_one, 8))
    cluster.require_truth()
    assert len(cluster.entry("public.big").objects) > 30
    cluster.workers.start(1)


def on_command_line(cluster: OnCluster, *more: str) -> Floodmark:
    folder = cluster.folder.parent
    found = Floodmark(folder, {"FLOODMARK_SOURCE": cluster.database.url, "S3_DESTINATION": str(cluster.folder)})
    found.configure(f"{CHUNKS}engine: {cluster.workers.servers.url}\n" + "".join(more))
    return found


def objects(cluster: OnCluster) -> int:
    return len(list(cluster.folder.glob("data/**/*.gz")))


def progress(cluster: OnCluster) -> bytes:
    """What runs saved of their progress."""
    return b"".join(path.read_bytes() for path in cluster.folder.glob("_floodmark/progress/*.json"))


def test_a_coordinator_that_is_killed(cluster: OnCluster) -> None:
    """The next run continues from the progress. Workers stop by themselves."""
    floodmark = on_command_line(cluster)
    process = floodmark.start("run")
    until(lambda: objects(cluster) > 8)
    migration = cluster.database.connect()
    held(migration, "big")
    time.sleep(SHORTEST_PAUSE)  # only then progress is saved again
    migration.rollback()
    held(migration, "big")  # the chunks that waited are done by now
    until(lambda: b'"chunk"' in progress(cluster))
    process.kill()
    process.communicate()
    migration.rollback()
    until(lambda: cluster.database.value(CONNECTIONS) == 0)
    left = objects(cluster)
    assert left < 34
    done = floodmark.run()
    assert "from_run=" in done.err
    entry = entry_of(done.manifest, "public.big")
    assert entry.rows == ROWS and objects(cluster) < len(entry.objects) + left
    cluster.last = done.manifest
    cluster.require_truth()


def test_a_run_that_is_interrupted(cluster: OnCluster) -> None:
    floodmark = on_command_line(cluster)
    process = floodmark.start("run")
    until(lambda: objects(cluster) > 5)
    migration = cluster.database.connect()
    held(migration, "big")
    said = asked_to_stop(process, signal.SIGINT)
    migration.rollback()
    done = floodmark.end(process, said=said)
    assert done.code == 130
    assert "Stopped. Nothing was committed" in done.err and "chunks are kept" in done.err.replace("\n", " ")
    assert 5 < objects(cluster) < 34
    until(lambda: cluster.database.value(CONNECTIONS) == 0)
    assert entry_of(floodmark.run().manifest, "public.big").rows == ROWS


def test_a_worker_that_reaches_another_server(cluster: OnCluster, make_server: Callable[..., Any]) -> None:
    floodmark = on_command_line(cluster)
    cluster.workers.know(make_server().database().url)
    done = floodmark("run", code=10)
    assert "can't import the snapshot" in done.err and "tcp://127.0.0.1" in done.err
    assert not (cluster.folder / "_floodmark" / "head.json").exists()


def test_a_worker_without_credentials(cluster: OnCluster, s3_bucket: S3Bucket) -> None:
    """First without a source, then with a wrong key of the store."""
    cluster.workers.config.write_text("{}\n", encoding="utf-8")
    done = on_command_line(cluster)("run", code=10)
    assert "FLOODMARK_CONFIG" in done.err and "tcp://127.0.0.1" in done.err
    cluster.workers.know(cluster.database.url, secret="wrong")
    settings = cluster.settings()
    place = f"{s3_bucket.url}/refused"
    settings = replace(settings, destination=replace(settings.destination, url=place), state_url=f"{place}/state")
    with pytest.raises(StorageDenied, match="SignatureDoesNotMatch") as refused:
        run(settings, engine=cluster.workers.servers.url)
    assert "tcp://127.0.0.1" in str(refused.value)


def test_a_scheduler_that_is_killed(cluster: OnCluster) -> None:
    """This ends the module's cluster, so it is the last test."""
    with pytest.raises(EngineError, match="lost the Dask scheduler"):
        cluster.run(observer=once(cluster.workers.servers.scheduler.kill, 8))
    until(lambda: cluster.database.value(CONNECTIONS) == 0)
    before = objects(cluster)
    assert before >= 8
    threads = Nightly(cluster.database, cluster.folder)
    threads.run()
    threads.require_truth()
    assert objects(cluster) < before + 30
