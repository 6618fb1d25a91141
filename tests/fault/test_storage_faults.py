"""Whole runs through a proxy that spoils the n-th request, for every n: what was declared comes about.

The outcomes are those of the table in docs/reliability.md. Each run changes a row, so that each has data, a manifest
and head to write; afterwards the state's history and every line that a consumer would read are compared with what
they must be.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import pytest
from isal import igzip

from fix_canaries import TABLES, require_none
from fix_command import content, entry_of, keys
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_s3_proxy import (
    Answer,
    Fault,
    Forward,
    S3Proxy,
    Seen,
    cut_answer,
    error,
    flipped_answer,
    flipped_request,
    lost_answer,
    no_answer,
    short_answer,
    short_request,
)
from fix_storage import S3Bucket, S3Server
from floodmark.config import DestinationSettings, Secret, Selection, Settings, SourceSettings
from floodmark.errors import Conflict, StorageError
from floodmark.pipeline.job import run
from floodmark.pipeline.publish import RunResult
from floodmark.retrying import Patience
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest
from floodmark.storage import open_storage
from floodmark.storage.base import StorageOptions
from floodmark.storage.retry import RetryingStorage
from floodmark.storage.s3 import S3Storage

TRIES = 4


class Job:
    """A service's nightly job to a bucket behind a proxy, in this process, with patience cut short."""

    def __init__(self, database: PgDatabase, bucket: S3Bucket, proxy: S3Proxy) -> None:
        self.database, self.bucket, self.proxy = database, bucket, proxy
        self.events: list[str] = []
        self.reader = Ledger(S3Storage(bucket.name, "state"))
        self.settings = Settings(
            source=SourceSettings(Secret(database.url)),
            destination=DestinationSettings(f"{bucket.url}/lake"),
            state_url=f"{bucket.url}/state",
            selection=Selection(),
            audit_share=0.0,
        )

    def change(self) -> None:
        self.database.execute("UPDATE person SET name = name || 'x' WHERE id = 7")

    def run(self) -> RunResult:
        self.proxy.seen.clear()
        return run(self.settings, lambda event: self.events.append(repr(event)))

    def history(self, limit: int | None = None) -> list[Manifest]:
        """As a reader finds it who is troubled by nothing."""
        self.proxy.faults.clear()
        self.proxy.always = None
        return list(self.reader.history(limit))

    def require_truth(self) -> None:
        """What the manifest in head names is all there, and is what the database holds."""
        for entry in self.history(1)[0].tables:
            lines: list[bytes] = []
            for one in entry.objects:
                data = content(self.bucket, f"lake/{one.key}")
                assert len(data) == one.stored_bytes
                lines += igzip.decompress(data).splitlines(keepends=True)
            assert sorted(lines) == sorted(lines_of(self.database.dsn, entry.table.label, entry))


@pytest.fixture
def job(
    pg: PgDatabase,
    s3_server: S3Server,
    s3_bucket: S3Bucket,
    make_proxy: Callable[[str], S3Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> Job:
    """The first run is done."""
    pg.execute(TABLES)
    proxy = make_proxy(s3_server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    patience = Patience(TRIES, 0.001, 0.01, 0.001)
    monkeypatch.setattr(
        "floodmark.backends.RetryingStorage", lambda inner, observer, *_: RetryingStorage(inner, observer, patience)
    )
    monkeypatch.setattr("floodmark.backends.open_storage", functools.cache(open_storage))
    impatient: Any = functools.partial(StorageOptions, read_timeout=0.5)
    monkeypatch.setattr("floodmark.backends.StorageOptions", impatient)
    made = Job(pg, s3_bucket, proxy)
    made.run()
    return made


def hang(seen: Seen, forward: Forward) -> None:
    """No answer for longer than anyone waits; the request never arrives."""
    time.sleep(0.8)


def hang_after(seen: Seen, forward: Forward) -> None:
    """The request takes effect, and its answer never comes."""
    forward(seen)
    time.sleep(0.8)


PASSING: dict[str, Fault] = {
    "no answer": no_answer,
    "lost answer": lost_answer,
    "cut answer": cut_answer,
    "short answer": short_answer,
    "flipped answer": flipped_answer,
    "short request": short_request,
    "flipped request": flipped_request,
    "500": error(500, "InternalError"),
    "503": error(503, "SlowDown"),
    "409": error(409, "ConditionalRequestConflict"),
    "hang": hang,
    "hang after": hang_after,
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_not_noticed(job: Job, fault: str) -> None:
    """At every request of a run in turn: one commit, of one run, that holds the truth."""
    step = 4 if "hang" in fault else 1  # these take their time
    number, spoilt = 0, 0
    while True:
        job.change()
        job.proxy.faults.extend([*[None] * number, PASSING[fault]])
        job.events.clear()
        result = job.run()
        spoilt += any("Retried" in event for event in job.events)
        if job.proxy.faults:
            break  # the run has fewer requests than that
        newest, before = job.history(2)
        assert newest == result.manifest and newest.parent == f"manifests/{before.run_id}.json", number
        assert [entry.status for entry in newest.tables] == ["extracted", "unchanged"], number
        number += step
    assert number >= 10 and spoilt >= 2, (number, spoilt)
    assert len({manifest.run_id for manifest in job.history()}) == number // step + 2
    job.require_truth()
    require_none(*job.events)


@pytest.mark.parametrize("fault", ["no answer", "lost answer", "500", "403"])
def test_a_store_that_goes_away_for_good(job: Job, fault: str) -> None:
    """From each request of a run on: readers see the old or the new, whole, and the next run ends with the truth."""
    lasting = {**PASSING, "403": error(403, "AccessDenied")}[fault]
    number = 0
    while True:
        job.change()
        before = job.history(1)[0]
        job.proxy.faults.extend([None] * number)
        job.proxy.always = lasting
        try:
            published: Manifest | None = job.run().manifest
        except StorageError as refused:
            published = None
            require_none(str(refused))
        all_asked = len(job.proxy.seen) <= number
        after = job.history(1)[0]
        assert published in (None, after)
        assert after == before or after.parent == f"manifests/{before.run_id}.json", number
        for manifest in (before, after):
            for entry in manifest.tables:
                for one in entry.objects:
                    content(job.bucket, f"lake/{one.key}")
        if all_asked:
            break
        number += 2
    assert number >= 10
    job.run()
    job.require_truth()


def test_a_lost_answer_to_the_swap_of_head(job: Job) -> None:
    """Committed exactly once, never called a conflict, however often the answer is lost; nothing is deleted."""

    def losing(seen: Seen, forward: Forward) -> Answer | None:
        if seen.method == "PUT" and seen.path.endswith("/state/head.json"):
            forward(seen)
            return None
        return forward(seen)

    objects = set(keys(job.bucket))
    for _ in range(3):
        job.change()
        job.proxy.always = losing
        result = job.run()
        assert job.proxy.seen[-1].method in ("GET", "PUT", "DELETE")
        newest, before = job.history(2)
        assert newest == result.manifest and newest.parent == f"manifests/{before.run_id}.json"
        assert "DELETE" not in {seen.method for seen in job.proxy.seen if "/data/" in seen.path}
    assert objects <= set(keys(job.bucket))
    assert len(job.history()) == 4
    job.require_truth()


def test_a_swap_of_head_that_never_arrives(job: Job) -> None:
    """Not committed, and said so as what it is: unknown, until head is read."""

    def dropping(seen: Seen, forward: Forward) -> Answer | None:
        return None if seen.method == "PUT" and seen.path.endswith("/state/head.json") else forward(seen)

    job.change()
    job.proxy.always = dropping
    with pytest.raises(StorageError) as refused:
        job.run()
    assert not isinstance(refused.value, Conflict) and "head.json" in str(refused.value)
    assert len(job.history()) == 1
    job.run()
    assert len(job.history()) == 2
    job.require_truth()


def test_no_right_to_list(
    pg: PgDatabase,
    s3_server: S3Server,
    s3_bucket: S3Bucket,
    make_proxy: Callable[[str], S3Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Credentials that may put, get and delete, and no more: a missing key is a 403. Days in a row, an object lost."""
    pg.execute(TABLES)
    proxy = make_proxy(s3_server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)

    def strict(seen: Seen, forward: Forward) -> Answer | None:
        if seen.method == "POST" or "list-type" in seen.path:
            return error(403, "AccessDenied")(seen, forward)
        answer = forward(seen)
        missing = answer.status == 404 and seen.method in ("GET", "HEAD")
        return error(403, "AccessDenied")(seen, forward) if missing else answer

    job = Job(pg, s3_bucket, proxy)
    for number in range(3):
        job.change()
        proxy.always = strict
        assert entry_of(job.run().manifest, "public.person").status == "extracted"
        job.require_truth()
        assert len(job.history()) == number + 1
    lost = entry_of(job.history(1)[0], "public.sick").objects[0].key
    s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key=f"lake/{lost}")
    pg.execute("UPDATE sick SET id = id")
    proxy.always = strict
    assert entry_of(job.run().manifest, "public.sick").status == "extracted"
    job.require_truth()
