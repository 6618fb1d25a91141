"""kill -9 at every crash point of a run: a reader sees the old snapshot or the new one, whole, and the next run ends
with the truth.

The run that is killed is the richest there is: it goes on from a dead run's progress, and writes its own after each
chunk; a table has changed, one is gone and one is new. Crash points are counted, not listed (see `crash_server`).
`make test` takes one of each kind (a call on a kind of document), the first or the last in turn, `make soak` every one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from isal import igzip

from fix_command import content, keys
from fix_crash import KILLED, CrashServer, Ended
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_storage import S3Bucket, S3Server, environment
from floodmark.model import TableEntry
from floodmark.state.manifest import Head, Inflight, Manifest, decode

# One worker: what is counted once is there to be killed at the next time.
CONFIG = "chunk_size: 64KiB\nlimits: {connections: 1}\n"
DAY_1 = """
CREATE TABLE person (id int, name text);
INSERT INTO person SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 900) n;
CREATE TABLE gone (id int);
INSERT INTO gone VALUES (1);
CREATE TABLE same (id int);
INSERT INTO same VALUES (1);
"""
DAY_2 = """
DELETE FROM person WHERE id < 100;
INSERT INTO person SELECT n, repeat(md5(n::text), 8) FROM generate_series(1000, 1400) n;
DROP TABLE gone;
CREATE TABLE new (id int);
INSERT INTO new SELECT generate_series(1, 5);
"""
DAY_3 = "UPDATE person SET name = 'changed' WHERE id = 1400; INSERT INTO new VALUES (6)"


class Place(Protocol):
    """Where the job lands: what is there can be looked at, kept and put back."""

    environment: dict[str, str]

    def get(self, key: str) -> bytes | None: ...

    def keep(self) -> None: ...

    def put_back(self) -> None: ...


class Folder:
    def __init__(self, folder: Path) -> None:
        self._folder, self._kept = folder / "landing", folder / "kept"
        self.environment = {"S3_DESTINATION": str(self._folder)}

    def get(self, key: str) -> bytes | None:
        path = self._folder / key
        return path.read_bytes() if path.exists() else None

    def keep(self) -> None:
        shutil.copytree(self._folder, self._kept)

    def put_back(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._kept, self._folder)


class Bucket:
    def __init__(self, server: S3Server, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._kept: dict[str, bytes] = {}
        self.environment = {**environment(server.endpoint), "S3_DESTINATION": bucket.url}

    def get(self, key: str) -> bytes | None:
        return content(self._bucket, key) if key in keys(self._bucket) else None

    def keep(self) -> None:
        self._kept = {key: content(self._bucket, key) for key in keys(self._bucket)}

    def put_back(self) -> None:
        there = keys(self._bucket)
        for key in there.keys() - self._kept.keys():
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)
        for key, data in self._kept.items():
            if f'"{hashlib.md5(data).hexdigest()}"' != there.get(key):
                self._bucket.client.put_object(Bucket=self._bucket.name, Key=key, Body=data)


class Job:
    """The job, which is always killed on the same morning."""

    def __init__(self, server: CrashServer, database: PgDatabase, place: Place, folder: Path) -> None:
        self._server, self._database, self.place, self._folder = server, database, place, folder
        (folder / "floodmark.yaml").write_text(CONFIG)
        self._truth: dict[tuple[str, tuple[str, ...]], list[bytes]] = {}

    def __call__(self, *arguments: str, kill: tuple[str, int] = ("", 0)) -> Ended:
        given = {"FLOODMARK_SOURCE": self._database.url, **self.place.environment}
        return self._server(*arguments, environment=given, folder=self._folder, only=kill[0], kill_at=kill[1])

    def live_until_the_morning(self, last_object: str) -> None:
        self._database.execute(DAY_1)
        assert self("run").code == 0
        self._database.execute(DAY_2)
        assert self("run", kill=(last_object, 4)).code == KILLED
        self._database.execute(DAY_3)
        self.place.keep()

    def head(self) -> tuple[str, Manifest]:
        """What a reader finds: head, the manifest it names, every object of it, each as it is vouched for."""
        data = self.place.get("_floodmark/head.json")
        assert data is not None
        head = decode(Head, data, "head")
        document = self.place.get(f"_floodmark/{head.manifest}")
        assert document is not None and hashlib.sha256(document).hexdigest() == head.manifest_sha256
        return head.run_id, decode(Manifest, document, head.manifest)

    def lines(self, entry: TableEntry) -> list[bytes]:
        lines: list[bytes] = []
        for stored in entry.objects:
            data = self.place.get(stored.key)
            assert data is not None and hashlib.sha256(data).hexdigest() == stored.sha256, stored.key
            lines += igzip.decompress(data).splitlines(keepends=True)
        return sorted(lines)

    def require_whole(self) -> str:
        run_id, manifest = self.head()
        for entry in manifest.tables:
            assert len(self.lines(entry)) == entry.rows, entry.name
        return run_id

    def require_truth(self) -> None:
        """The database stands still while a run is killed again and again, so it is read once."""
        _, manifest = self.head()
        assert {entry.name for entry in manifest.tables if entry.status != "dropped"} == {"person", "same", "new"}
        for entry in manifest.tables:
            if entry.status != "dropped":
                assert entry.status != "failed" and self.lines(entry) == self._true_lines(entry), entry.name

    def _true_lines(self, entry: TableEntry) -> list[bytes]:
        key = entry.name, tuple(column.name for column in entry.columns)
        if key not in self._truth:
            self._truth[key] = sorted(lines_of(self._database.dsn, f'public."{entry.name}"', entry))
        return self._truth[key]


@pytest.fixture(params=["folder", "s3"])
def job(request: pytest.FixtureRequest, crash_server: CrashServer, pg: PgDatabase, tmp_path: Path) -> Job:
    if request.param == "folder":
        made = Job(crash_server, pg, Folder(tmp_path), tmp_path)
        made.live_until_the_morning("os.link data")
    else:
        server, bucket = request.getfixturevalue("s3_server"), request.getfixturevalue("s3_bucket")
        made = Job(crash_server, pg, Bucket(server, bucket), tmp_path)
        made.live_until_the_morning("after PUT data")
    return made


def points(job: Job) -> Counter[str]:
    """How often the run passes each kind of crash point when nothing kills it."""
    job.place.put_back()
    ended = job("run")
    assert ended.code == 0 and "from_run" in ended.err, ended.err
    job.require_truth()
    return Counter(ended.points)


def kill_and_go_on(job: Job, name: str, number: int, old: str) -> str:
    """Returns which snapshot the reader saw after the kill."""
    job.place.put_back()
    assert job("run", kill=(name, number)).code == KILLED
    seen = job.require_whole()
    again = job("run", "--output", "json")
    assert again.code == 0, again.err
    job.require_truth()
    inflight = decode(Inflight, job.place.get("_floodmark/inflight.json") or b"", "inflight")
    assert again.manifest.run_id not in {run.run_id for run in inflight.runs}
    assert job("plan", "--detailed-exitcode").code == 0, "and the one after that has nothing to do"
    return "old" if seen == old else "new"


def kill_at(job: Job, chosen: Callable[[int, int], list[int]]) -> Counter[str]:
    """Kill at the chosen crash points of each kind (its number, and how often it is passed); which snapshots
    readers saw."""
    old, _ = job.head()
    seen: Counter[str] = Counter()
    for kind, (name, times) in enumerate(points(job).items()):
        for number in chosen(kind, times):
            seen[kill_and_go_on(job, name, number, old)] += 1
    return seen


def test_a_kill_at_each_kind_of_crash_point(job: Job) -> None:
    seen = kill_at(job, lambda kind, times: [times if kind % 2 else 1])
    assert seen["old"] > 10 and seen["new"] > 1, seen


@pytest.mark.soak
def test_a_kill_at_every_crash_point(job: Job) -> None:
    seen = kill_at(job, lambda kind, times: list(range(1, times + 1)))
    print(f"\n{seen.total()} crash points: {dict(seen)}")
    assert seen["old"] > 40 and seen["new"] > 5, seen
