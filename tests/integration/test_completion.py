"""A commit is announced to schedulers: the object, the message, the record, in this order, at least once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from fix_command import Done, Floodmark, content, keys, until
from fix_ports import HOST
from fix_receivers import AwsReceivers, HttpReceiver
from fix_storage import S3Bucket, S3Server
from floodmark.state.announced import Completion
from floodmark.state.manifest import Head, Manifest, decode


class Job:
    """A job on a small SQLite database, and what it leaves in its folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.out = folder, folder / "out"
        self.database = folder / "cases.db"
        self.write("CREATE TABLE person (id int); INSERT INTO person VALUES (1)")
        places = {"FLOODMARK_SOURCE": f"sqlite:///{self.database}", "FLOODMARK_DESTINATION": str(self.out)}
        self.floodmark = Floodmark(folder / "job", {**places, "FLOODMARK_LOG_FORMAT": "json", **environment})

    def write(self, statements: str) -> None:
        with sqlite3.connect(self.database) as connection:
            connection.executescript("PRAGMA journal_mode = WAL;" + statements)
        connection.close()

    def configure(self, completion: str, rest: str = "") -> None:
        self.floodmark.configure(f"completion: {{{completion}}}\n{rest}")

    def run(self, *arguments: str, code: int = 0, **named: Any) -> Done:
        return self.floodmark.run(*arguments, code=code, **named)

    def head(self) -> Head:
        return decode(Head, (self.out / "_floodmark/head.json").read_bytes(), "head")

    def history(self) -> list[str]:
        return [one["run_id"] for one in self.floodmark("history", "--output", "json").json["runs"]]

    def records(self) -> set[str]:
        return {path.stem for path in (self.out / "_floodmark/complete").glob("*")}

    def success(self) -> Completion | None:
        path = self.out / "_SUCCESS"
        return decode(Completion, path.read_bytes(), "success") if path.exists() else None


def announced(done: Done) -> list[str]:
    """The runs whose commit a run announced, by its log."""
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    return [line["of_run"] for line in lines if line["event"] == "completion_sent"]


@pytest.fixture
def job(tmp_path: Path, aws_receivers: AwsReceivers) -> Job:
    return Job(tmp_path, aws_receivers.environment)


def ids(messages: list[Any]) -> list[str]:
    return [one.get("detail", one)["run_id"] for one in messages]


def refusing_topic(make_receiver: Callable[..., HttpReceiver]) -> dict[str, str]:
    """The environment in which SNS refuses whatever it is sent."""
    body = b"<ErrorResponse><Error><Code>AuthorizationError</Code></Error></ErrorResponse>"
    return {"AWS_ENDPOINT_URL_SNS": f"http://{HOST}:{make_receiver(*[403] * 9, body=body).port}"}


def test_the_object_the_message_and_the_record_say_the_same(job: Job, aws_receivers: AwsReceivers) -> None:
    job.configure(f"object: destination, message: '{aws_receivers.topic}'")
    done = job.run()
    head, run_id = job.head(), done.manifest.run_id
    success = job.success()
    assert success is not None and success.run_id == run_id
    record = job.out / f"_floodmark/complete/{run_id}.json"
    assert record.read_bytes() == (job.out / "_SUCCESS").read_bytes()
    (message,) = aws_receivers.received()
    assert message == json.loads(record.read_bytes())
    assert (success.manifest, success.manifest_sha256) == (head.manifest, head.manifest_sha256)
    document = Path(success.state) / success.manifest
    assert hashlib.sha256(document.read_bytes()).hexdigest() == success.manifest_sha256
    assert decode(Manifest, document.read_bytes(), "m").run_id == run_id
    assert (success.tables, success.failed, success.consistent) == (1, 0, True)
    assert (success.database, success.destination) == ("cases", str(job.out))
    assert announced(done) == [run_id]
    assert announced(job.run()) == job.history()[:1]
    assert job.records() == set(job.history())


@pytest.mark.parametrize("to", ["topic", "bus", "fifo"])
def test_each_kind_of_receiver(job: Job, aws_receivers: AwsReceivers, moto_server: str, to: str) -> None:
    receivers = AwsReceivers(moto_server, fifo=True) if to == "fifo" else aws_receivers
    job.configure(f"message: '{receivers.bus if to == 'bus' else receivers.topic}'")
    run_id = job.run().manifest.run_id
    (message,) = receivers.received()
    if to == "bus":
        assert (message["source"], message["detail-type"]) == ("floodmark", "floodmark.completion")
    assert ids([message]) == [run_id]
    assert job.success() is None and job.records() == {run_id}


def test_without_the_section_nothing_is_announced(job: Job) -> None:
    assert announced(job.run()) == [] and job.records() == set() and job.success() is None


def test_a_receiver_that_refuses_keeps_the_commit_and_the_next_run_announces_it(
    job: Job, aws_receivers: AwsReceivers, make_receiver: Callable[..., HttpReceiver]
) -> None:
    job.configure(f"object: destination, message: '{aws_receivers.topic}'")
    down = refusing_topic(make_receiver)
    first = job.run()
    aws_receivers.received()
    failed = job.run(code=13, environment=down)
    for part in ("the commit could not be announced", "AuthorizationError", "sns:Publish", "The next run announces it"):
        assert part in failed.err
    second = failed.manifest.run_id
    assert job.history()[0] == second and job.records() == {first.manifest.run_id}
    assert aws_receivers.received() == []
    third = job.run(code=13, environment=down).manifest.run_id
    assert job.records() == {first.manifest.run_id}
    done = job.run()
    assert announced(done) == [second, third, done.manifest.run_id], "the older ones first"
    assert ids(aws_receivers.received()) == [second, third, done.manifest.run_id]
    success = job.success()
    assert success is not None and success.run_id == done.manifest.run_id and job.records() == set(job.history())


def test_the_first_commits_of_a_state_are_announced_once_the_receiver_works(
    job: Job, aws_receivers: AwsReceivers, make_receiver: Callable[..., HttpReceiver]
) -> None:
    job.configure(f"message: '{aws_receivers.topic}'")
    down = refusing_topic(make_receiver)
    runs = [job.run(code=13, environment=down).manifest.run_id for _ in range(2)]
    done = job.run()
    assert announced(done) == ids(aws_receivers.received()) == [*runs, done.manifest.run_id]


def test_commits_are_announced_although_the_last_announced_one_was_pruned(
    job: Job, aws_receivers: AwsReceivers, make_receiver: Callable[..., HttpReceiver]
) -> None:
    job.configure(f"message: '{aws_receivers.topic}'")
    down = refusing_topic(make_receiver)
    first = job.run().manifest
    missing = [job.run(code=13, environment=down).manifest.run_id for _ in range(2)]
    prune = ("prune", "--keep-last", "2", "--grace", "0", "--output", "json")
    until(lambda: job.floodmark(*prune, "--dry-run").json["manifests"])
    job.floodmark(*prune)
    assert job.records() == set() and first.run_id not in job.history()
    aws_receivers.received()
    done = job.run()
    assert announced(done) == ids(aws_receivers.received()) == [*missing, done.manifest.run_id]


def test_a_receiver_that_is_down_for_a_moment_is_tried_again(
    job: Job, aws_receivers: AwsReceivers, make_receiver: Callable[..., HttpReceiver]
) -> None:
    job.configure(f"message: '{aws_receivers.topic}'")
    answer = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
    sns = make_receiver(503, body=answer)
    done = job.run(environment={"AWS_ENDPOINT_URL_SNS": f"http://{HOST}:{sns.port}"})
    assert len(sns.requests) == 2 and announced(done) == [done.manifest.run_id] and '"event":"retry"' in done.err


def test_a_failed_run_announces_an_earlier_commit_once_it_reached_its_database(
    job: Job, aws_receivers: AwsReceivers, make_receiver: Callable[..., HttpReceiver]
) -> None:
    """A source that can't be read tells nothing about the state, and the state could be another database's."""
    job.configure(f"message: '{aws_receivers.topic}'", "limits: {lock_timeout: 1s}\n")
    first = job.run(code=13, environment=refusing_topic(make_receiver)).manifest.run_id
    job.database.rename(job.folder / "elsewhere.db")
    job.run(code=12)
    assert aws_receivers.received() == []
    (job.folder / "elsewhere.db").rename(job.database)
    (job.out / "data").rename(job.folder / "data")
    (job.out / "data").write_text("a file where a folder should be")
    job.run("--full", code=13)
    assert ids(aws_receivers.received()) == [first]


def test_the_first_run_with_the_section_announces_its_own_commit_and_no_older_one(
    job: Job, aws_receivers: AwsReceivers
) -> None:
    before = job.run().manifest
    job.configure(f"message: '{aws_receivers.topic}'")
    own = job.run().manifest
    assert ids(aws_receivers.received()) == [own.run_id] and job.records() == {own.run_id}
    assert before.announces is UNSET and own.announces is True


def test_an_object_of_another_program_is_left_alone(job: Job) -> None:
    job.configure("object: destination")
    job.out.mkdir()
    (job.out / "_SUCCESS").write_bytes(b"")
    done = job.run(code=13)
    assert "another program wrote this object" in done.err and (job.out / "_SUCCESS").read_bytes() == b""
    (job.out / "_SUCCESS").unlink()
    assert len(announced(job.run())) == 2


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_full_stdout_keeps_no_step_after_the_commit_from_being_made(job: Job, output: str) -> None:
    job.configure("object: destination", "deliver: [{name: zone, url: ../zone, layout: plain}]\n")
    job.out.mkdir()
    (job.out / "_SUCCESS").write_bytes(b"")
    with Path("/dev/full").open("wb") as full:
        done = job.floodmark.end(job.floodmark.start("run", "--output", output, stdout=full))
    assert done.code == 1 and len(job.history()) == 1
    told = ["another program wrote this object", "delivery_finished", "the output can't be written"]
    assert all(one in done.err for one in told) and sorted(told, key=done.err.index) == told, done.err
    assert len(list((job.folder / "zone").rglob("person-*"))) == 1


def test_a_state_of_another_database_is_not_announced(job: Job) -> None:
    job.run()
    job.configure("object: destination")
    other = job.folder / "other.db"
    other.write_bytes(job.database.read_bytes())
    source = {"FLOODMARK_SOURCE": f"sqlite:///{other}"}
    job.run(code=10, environment=source)
    assert job.records() == set() and job.success() is None
    adopted = job.run("--adopt-source", environment=source).manifest.run_id
    assert job.records() == {adopted}


def test_prune_deletes_the_records_of_the_manifests_that_it_deletes(job: Job) -> None:
    job.configure("object: destination")
    runs = [job.run().manifest.run_id for _ in range(3)]
    options = ("prune", "--keep-last", "1", "--grace", "0")

    def would_delete() -> list[str]:
        told = job.floodmark(*options, "--dry-run", "--output", "json").json
        deleted = [key.replace("manifests/", "complete/") for key in told["manifests"]]
        assert told["completions"] == deleted
        return deleted

    until(lambda: len(would_delete()) == 2)  # runs in one second have timestamps ahead of the clock
    assert job.records() == set(runs)
    done = job.floodmark(*options)
    assert "2 completion records" in done.out
    assert job.records() == set(runs[2:])
    assert announced(job.run()) == job.history()[:1], "nothing is announced again"


def test_a_bucket(job: Job, s3_server: S3Server, s3_bucket: S3Bucket, aws_receivers: AwsReceivers) -> None:
    job.configure(f"object: destination, message: '{aws_receivers.topic}'")
    place = {**s3_server.environment, "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake"}
    run_id = job.run(environment={**place, **job.floodmark.environment, **place}).manifest.run_id
    assert {"lake/_SUCCESS", f"lake/_floodmark/complete/{run_id}.json"} <= set(keys(s3_bucket))
    success = decode(Completion, content(s3_bucket, "lake/_SUCCESS"), "success")
    assert success.state == f"{s3_bucket.url}/lake/_floodmark" and ids(aws_receivers.received()) == [run_id]
    again = job.run(environment={**job.floodmark.environment, **place}).manifest.run_id
    assert decode(Completion, content(s3_bucket, "lake/_SUCCESS"), "success").run_id == again
