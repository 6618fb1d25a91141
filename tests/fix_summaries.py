"""Servers that keep WAL summaries, and a second opinion: the rows of each chunk that they prove are counted too."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fix_postgres import BASE, BINARIES, Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.errors import SourceError
from floodmark.events import TableDecided, WrittenBlocksRead
from floodmark.pipeline import observe
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.detect import settle_plan
from floodmark.pipeline.plans import Policy
from floodmark.pipeline.work import TableWork

SUMMARIZING = {"summarize_wal": "on", "autovacuum": "off"}
VERSIONS = [version for version in sorted(BINARIES) if version >= 17]
_COUNTED = Policy(chunk_bytes=1)
MakeServer = Callable[..., Cluster]


def summarize(server: Cluster) -> None:
    """End the open summary, and return when it is there."""
    admin = server.admin()
    admin.execute("CHECKPOINT")
    end = time.monotonic() + 30
    reached = "SELECT coalesce(max(end_lsn), '0/0') >= (SELECT redo_lsn FROM pg_control_checkpoint())"
    while admin.execute(f"{reached} FROM pg_available_wal_summaries()").fetchall() != [(True,)]:
        assert time.monotonic() < end, "no summary came"
        time.sleep(0.01)


def remove_summaries(server: Cluster) -> None:
    """Remove all summaries, as the server does after wal_summary_keep_time."""
    for path in (server.data / "pg_wal" / "summaries").glob("*.summary"):
        path.unlink()


class SecondOpinion:
    """Counts the rows of each chunk that is proven because no block was written: the count must prove it too."""

    def __init__(self, told: Counter[str], patch: pytest.MonkeyPatch) -> None:
        self._told = told
        self._prove = observe._look_for_writes
        patch.setattr(observe, "_look_for_writes", self._look)

    def _look(self, attempt: Attempt, works: Sequence[TableWork]) -> None:
        plans = [work.plan for work in works]
        self._prove(attempt, works)
        for before, work in zip(plans, works, strict=True):
            for asked, chunk in zip(before.chunks, work.plan.chunks, strict=True):
                if not chunk.unwritten:
                    continue
                assert asked.question is not None
                try:
                    seen = attempt.snapshot.observe([asked.question])
                except SourceError:
                    continue  # others are at work: the table can't be counted under this snapshot any more
                (counted,) = settle_plan(replace(before, chunks=(asked,)), seen, _COUNTED).chunks
                assert counted.reason is None, f"{work.table.label}: {chunk.chunk}: {counted.reason}"
                assert counted.proven == chunk.proven
                self._told["chunks without a written block"] += 1


class SummarizedJob:
    """A nightly job on a server that keeps WAL summaries. Every proof by them is held against a count."""

    def __init__(self, job: Nightly) -> None:
        self.job, self.database, self.server = job, job.database, job.database.server

    def summarize(self) -> None:
        summarize(self.server)

    def run(self, **changes: Any) -> tuple[str, int]:
        """Run, hold what landed against the database; the reason of person, and how many chunks needed no count."""
        self.job.run(**changes)
        self.job.require_truth()
        return self.job.entry("public.person").reason.code, self.unwritten()

    def day(self, *statements: str, **changes: Any) -> tuple[str, int]:
        """Live through a day, end the summary, and run."""
        for statement in statements:
            self.database.execute(statement)
        self.summarize()
        return self.run(**changes)

    def unwritten(self, label: str = "public.person") -> int:
        found = [event for event in self.job.events if isinstance(event, TableDecided) and event.table.label == label]
        return found[-1].unwritten

    def told(self) -> WrittenBlocksRead:
        return [event for event in self.job.events if isinstance(event, WrittenBlocksRead)][-1]

    def detail(self, label: str = "public.person") -> str:
        return self.job.entry(label).reason.detail


PERSON = """
    CREATE TABLE person (id bigint PRIMARY KEY, name text);
    INSERT INTO person SELECT i, 'name ' || i || repeat('x', 200) FROM generate_series(1, 1000) i
"""
CHUNKS = 4  # of person


@pytest.fixture
def second_opinion(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the rows of each chunk that WAL summaries prove, and the chunks."""
    told = Counter[str]()
    SecondOpinion(told, monkeypatch)
    return told


class SummarizingServers:
    """The summarizing servers that a worker's tests share."""

    def __init__(self) -> None:
        self.running: dict[int, Cluster] = {}

    def __getitem__(self, version: int) -> Cluster:
        if version not in self.running:
            settings = SUMMARIZING
            self.running[version] = Cluster.create(BINARIES[version], settings=settings, base=BASE)
        return self.running[version]


@pytest.fixture(scope="session")
def summarizing() -> Iterator[SummarizingServers]:
    servers = SummarizingServers()
    yield servers
    for server in servers.running.values():
        server.close()


def _job(database: PgDatabase, folder: Path) -> SummarizedJob:
    job = SummarizedJob(Nightly(database, folder / "landing"))
    database.execute(PERSON)
    database.execute("VACUUM (FREEZE) person")  # else the first reader writes hint bits, as full pages
    job.summarize()
    assert job.run() == ("first_run", 0)
    return job


@pytest.fixture
def summarized(
    summarizing: SummarizingServers, tmp_path: Path, second_opinion: Counter[str]
) -> Iterator[SummarizedJob]:
    """A job that has run once on the default version, with the table person."""
    database = summarizing[VERSIONS[-1]].database()
    yield _job(database, tmp_path)
    database.drop()


@pytest.fixture(params=VERSIONS, ids=lambda version: f"pg{version}")
def summarized_any(
    request: pytest.FixtureRequest, summarizing: SummarizingServers, tmp_path: Path, second_opinion: Counter[str]
) -> Iterator[SummarizedJob]:
    """The same on each version with summaries."""
    database = summarizing[request.param].database()
    yield _job(database, tmp_path)
    database.drop()


@pytest.fixture
def own_summarized(make_server: MakeServer, tmp_path: Path, second_opinion: Counter[str]) -> SummarizedJob:
    """The same on a server of the test's own, which it may restart and configure."""
    return _job(make_server(VERSIONS[-1], settings=SUMMARIZING).database(), tmp_path)
