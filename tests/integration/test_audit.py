"""The audit on real servers: its share over many runs, and a table that it finds rewritten, replaced or gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import UNSET

from fix_runs import Nightly
from floodmark.events import ChunkAudited, Event, RunStarted, TableDecided, Warned
from floodmark.pipeline.extract import ChunkTask, Extractor
from floodmark.state.last_read import last_read

FILL = """
    CREATE TABLE person (id int, name text); CREATE TABLE other (id int, name text);
    INSERT INTO person SELECT i, 'person ' || i || repeat('x', 200) FROM generate_series(1, 900) i;
    INSERT INTO other SELECT i, 'other ' || i || repeat('x', 200) FROM generate_series(1, 900) i
"""
EXCHANGE = "ALTER TABLE person RENAME TO x; ALTER TABLE other RENAME TO person; ALTER TABLE x RENAME TO other"
ACTS = {
    "truncate and fill again": "TRUNCATE person; INSERT INTO person SELECT id, 'again' FROM other",
    "vacuum full": "VACUUM FULL person",
    "exchange": EXCHANGE,
    "create anew": "ALTER TABLE person RENAME TO old; CREATE TABLE person AS SELECT id, 'anew' AS name FROM old",
    "drop": "DROP TABLE person",
}


def once(act: Callable[[], object], at: type[Event], number: int) -> Callable[[Event], None]:
    """Act at an event of a kind, the first time after so many of them."""
    seen: list[Event] = []

    def observe(event: Event) -> None:
        if isinstance(event, at):
            seen.append(event)
            if len(seen) == number:
                act()

    return observe


@pytest.mark.parametrize("kind", ACTS)
def test_an_audit_meets_another_table(nightly_any: Nightly, kind: str) -> None:
    """All is proven unchanged when the other session acts; the run takes a new snapshot and lands what that shows."""
    job = nightly_any
    job.database.execute(FILL)
    job.run()
    job.run_observed(once(lambda: job.database.execute(ACTS[kind]), TableDecided, 2), audit_share=100.0)
    assert not [event.message for event in job.events if isinstance(event, Warned)]
    assert sum(isinstance(event, RunStarted) for event in job.events) == 2
    dropped = {entry.table.label for entry in job.last.tables if entry.status == "dropped"} if job.last else set()
    assert dropped == ({"public.person"} if kind == "drop" else set())
    job.require_truth()


def test_one_chunk_of_several_finds_another_table(nightly: Nightly, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table exchanged for a moment: one chunk's reading meets the other table, and the next chunks' do not."""
    job = nightly
    job.database.execute(FILL)
    job.run()
    read, reads = Extractor.content_digest, []

    def content_digest(self: Extractor, task: ChunkTask) -> str:
        reads.append(task)
        if len(reads) == 1:
            job.database.execute(EXCHANGE)
        try:
            return read(self, task)
        finally:
            if len(reads) == 1:
                job.database.execute(EXCHANGE)

    monkeypatch.setattr(Extractor, "content_digest", content_digest)
    job.run_observed(lambda event: None, audit_share=100.0, connections=1)
    assert len(reads) > 4
    assert sum(isinstance(event, RunStarted) for event in job.events) == 2
    job.require_truth()


def reads_of(job: Nightly) -> dict[str, list[str]]:
    """When each chunk of each table was last read, by the last manifest."""
    assert job.last is not None
    found: dict[str, list[str]] = {}
    for entry in job.last.tables:
        assert entry.watermark is not None
        found[entry.name] = [
            last_read(mark, None if mark.object is None else entry.objects[mark.object])
            for mark in entry.watermark.chunks
        ]
    return found


def audits(job: Nightly) -> int:
    return sum(isinstance(event, ChunkAudited) for event in job.events)


def test_each_chunk_is_audited_once_in_a_round_of_unchanged_days(nightly_any: Nightly) -> None:
    """Two tables of some chunks, a tenth a day: ten days read each of them once, the longest unread first."""
    job = nightly_any
    job.database.execute(FILL)
    first = job.run().manifest.timestamp
    chunks = sum(map(len, reads_of(job).values()))
    assert chunks >= 8
    counts = []
    for _ in range(11):
        before = sorted(read for reads in reads_of(job).values() for read in reads)
        job.run(audit_share=10.0)
        counts.append(audits(job))
        after = sorted(read for reads in reads_of(job).values() for read in reads)
        assert after[: chunks - counts[-1]] == before[counts[-1] :], "the oldest were read, and no other"
        assert job.last is not None and after[chunks - counts[-1] :] == [job.last.timestamp] * counts[-1]
    assert chunks <= sum(counts) <= chunks + 1 and max(counts) <= 2 and 0 in counts
    assert min(read for reads in reads_of(job).values() for read in reads) > first


def test_what_is_extracted_counts_as_read(nightly: Nightly) -> None:
    nightly.database.execute(FILL)
    nightly.run()
    nightly.database.execute("UPDATE person SET name = name WHERE id = 1")
    nightly.run()
    assert nightly.last is not None
    assert nightly.extracted_chunks("public.person")
    reads, day = reads_of(nightly), nightly.last.timestamp
    assert set(reads["other"]) == {min(reads["other"])} and day in reads["person"]
    oldest = sum(read < day for read in reads["person"]) + len(reads["other"])
    nightly.run(audit_share=100.0 * oldest / (oldest + 1))
    assert set(reads_of(nightly)["other"]) == {nightly.last.timestamp}, "they had not been read for longer"


def test_a_reading_that_finds_the_same_lines_counts(nightly: Nightly) -> None:
    nightly.database.execute(FILL)
    nightly.run()
    nightly.database.execute("VACUUM FULL person")
    nightly.run()
    assert nightly.last is not None and nightly.outcome("public.person") == ("unchanged", "identical")
    assert set(reads_of(nightly)["person"]) == {nightly.last.timestamp}
    assert max(reads_of(nightly)["other"]) < nightly.last.timestamp
    before = reads_of(nightly)
    nightly.run()
    assert reads_of(nightly) == before, "a proof is no reading, and the times stay"


def test_a_rerun_without_audit_leaves_its_share(nightly: Nightly) -> None:
    nightly.database.execute(FILL)
    nightly.run()
    nightly.run(audit_share=100.0, audit=False)
    assert audits(nightly) == 0 and nightly.last is not None and nightly.last.audit_carried
    before = nightly.last.audit_carried
    nightly.run(audit_share=100.0, only=("public.person",), audit=False)
    assert nightly.last is not None and nightly.last.audit_carried == before, "it holds the largest chunk already"


def test_chunks_without_a_proof_are_not_audited(nightly: Nightly) -> None:
    nightly.database.execute(FILL)
    nightly.run(detect="always")
    nightly.run(detect="always", audit_share=100.0)
    assert audits(nightly) == 0 and nightly.last is not None and nightly.last.audit_carried is UNSET
