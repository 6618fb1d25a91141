"""kill -9 at the crash points of a run's end: no commit is announced before it is one, and none is forgotten.

The order is head, the object at the destination, the message, the record. After each kill, what is there must be a
beginning of this list. The next run completes it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from fix_crash import KILLED, CrashServer, Ended
from fix_postgres import PgDatabase
from fix_receivers import AwsReceivers
from floodmark.state.announced import Completion
from floodmark.state.manifest import Head, Manifest, decode

CONFIG = "completion: {{object: destination, message: '{topic}'}}\nlimits: {{connections: 1}}\n"


class Job:
    """A job that is killed on the same morning again and again."""

    def __init__(self, server: CrashServer, database: PgDatabase, receivers: AwsReceivers, folder: Path) -> None:
        self._server, self._database, self._receivers, self._folder = server, database, receivers, folder
        self._landing, self._kept = folder / "landing", folder / "kept"
        self._state = self._landing / "_floodmark"
        (folder / "floodmark.yaml").write_text(CONFIG.format(topic=receivers.topic))
        database.execute("CREATE TABLE person (id int); INSERT INTO person VALUES (1)")
        assert self("run").code == 0
        database.execute("INSERT INTO person VALUES (2)")
        shutil.copytree(self._landing, self._kept)
        self.first = self.head()
        self.messages()

    def __call__(self, *arguments: str, kill: tuple[str, int] = ("", 0)) -> Ended:
        places = {"FLOODMARK_SOURCE": self._database.url, "FLOODMARK_DESTINATION": str(self._landing)}
        environment = {**places, **self._receivers.environment}
        return self._server(*arguments, environment=environment, folder=self._folder, only=kill[0], kill_at=kill[1])

    def put_back(self) -> None:
        shutil.rmtree(self._landing)
        shutil.copytree(self._kept, self._landing)

    def head(self) -> str:
        return decode(Head, (self._state / "head.json").read_bytes(), "head").run_id

    def history(self) -> list[str]:
        found, head = list[str](), decode(Head, (self._state / "head.json").read_bytes(), "head")
        key: str | None = head.manifest
        while key is not None:
            manifest = decode(Manifest, (self._state / key).read_bytes(), key)
            found.append(manifest.run_id)
            key = manifest.parent
        return found

    def success(self) -> str:
        return decode(Completion, (self._landing / "_SUCCESS").read_bytes(), "success").run_id

    def recorded(self) -> set[str]:
        files = (self._state / "complete").glob("*.json")
        return {json.loads(path.read_bytes())["run_id"] for path in files}

    def messages(self) -> list[str]:
        return [one["run_id"] for one in self._receivers.received()]


@pytest.fixture
def job(crash_server: CrashServer, pg: PgDatabase, aws_receivers: AwsReceivers, tmp_path: Path) -> Job:
    return Job(crash_server, pg, aws_receivers, tmp_path)


def points(job: Job) -> dict[str, int]:
    """The kinds of crash points from the manifest on, each with how often a run passes it."""
    job.put_back()
    ended = job("run")
    assert ended.code == 0, ended.err
    job.messages()
    start = max(number for number, name in enumerate(ended.points) if "manifests" in name)
    return {name: ended.points.count(name) for name in ended.points[start:]}


def kill_and_go_on(job: Job, name: str, number: int) -> int:
    """Return how many of the four steps had been made."""
    job.put_back()
    assert job("run", kill=(name, number)).code == KILLED
    head, messages = job.head(), job.messages()
    new = head != job.first
    steps = [new, job.success() != job.first, bool(messages), len(job.recorded()) == 2]
    assert steps == sorted(steps, reverse=True), f"{name} {number}: {steps}"
    assert set(messages) <= {head} and job.success() in job.history()
    again = job("run", "--output", "json")
    assert again.code == 0, again.err
    later = job.messages()
    history = job.history()
    assert set(history) == job.recorded() and job.success() == history[0] == again.manifest.run_id
    assert set(history) - {job.first} <= {*messages, *later}, "each commit at least once"
    assert later == [run for run in reversed(history) if run in later], "the older one first"
    return sum(steps)


def kill_at(job: Job, chosen: Iterable[tuple[str, int]]) -> set[int]:
    return {kill_and_go_on(job, name, number) for name, number in chosen}


def test_a_kill_at_the_steps_of_a_run_s_end(job: Job) -> None:
    """The last point of each kind that changes a name, and around each request."""
    chosen = ("os.rename", "os.link", "before", "after")
    found = [pair for pair in points(job).items() if pair[0].startswith(chosen)]
    assert kill_at(job, found) == {0, 1, 2, 3, 4}


@pytest.mark.soak
def test_a_kill_at_every_point_of_a_run_s_end(job: Job) -> None:
    found = [(name, number) for name, times in points(job).items() for number in range(1, times + 1)]
    print(f"\n{len(found)} crash points")
    assert kill_at(job, found) == {0, 1, 2, 3, 4}
