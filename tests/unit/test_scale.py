"""A database of a tebibyte, invented: which chunks are read again, what is asked and written, and memory per chunk."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from bench.invented import InventedSource, InventedTables
from msgspec.structs import replace

import floodmark.backends
import floodmark.pipeline.job
from fix_state import no_wait
from floodmark.config import DestinationSettings, Settings
from floodmark.config.settings import SourceSettings
from floodmark.errors import RunStopped
from floodmark.events import ChunkDone, Event, Observer, ignore_event
from floodmark.model import Compression, TableEntry
from floodmark.objects.spool import SPOOL_BUFFER, SPOOL_MEMORY, LineSpool
from floodmark.pipeline import extract, resume
from floodmark.pipeline.publish import RunResult
from floodmark.prune.job import KeepLast, prune_stores
from floodmark.state.ledger import Ledger
from floodmark.stop import Stop
from floodmark.storage.memory import MemoryStorage

# One table of 1 TiB, others of 80, 5 and 0.5 GiB, and four small ones.
SHARE = 0.001
TABLES, CHUNKS = 8, 2048 + 160 + 40 + 8 + 4
# Measured: 2,060 bytes, apart from the objects. The manifest before and the one after take half of it.
BYTES_A_CHUNK = 2_800


class Night:
    """Runs on an invented database, into stores in memory that count what is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.state = MemoryStorage("memory:state", self.counter("state"))
        self.objects = MemoryStorage("memory:objects", self.counter("objects"))
        self._patch = monkeypatch
        stores = {store.url: store for store in (self.state, self.objects)}
        monkeypatch.setattr(floodmark.backends, "open_storage", lambda url, options: stores[url])

    def counter(self, name: str) -> Callable[[str, str, str], None]:
        def count(operation: str, key: str, moment: str) -> None:
            if moment == "after":
                kind = key.partition("/")[0] if name == "state" else "objects"
                self.counts[f"{operation} {kind}"] += 1

        return count

    def run(
        self, day: int, observer: Observer = ignore_event, stop: Stop | None = None, **changes: object
    ) -> RunResult:
        self.counts.clear()
        source = InventedSource(InventedTables(SHARE, day))
        self._patch.setattr(floodmark.pipeline.job, "open_source", lambda settings: source)
        settings = Settings(
            source=SourceSettings(), destination=DestinationSettings("memory:objects"), state_url="memory:state"
        )
        return floodmark.pipeline.job.run(replace(settings, **changes), observer, stop)


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Night:
    return Night(monkeypatch)


def changed_chunks(entries: tuple[TableEntry, ...], day: int) -> set[tuple[str, int]]:
    """The chunks that the invented database changed on a day."""
    tables = InventedTables(SHARE, day)
    places = [(one.chunk.part, one.chunk.start) for entry in entries for one in entry.objects]
    return {place for place in places if tables.changed_on(*place) == day}


def test_each_night_reads_what_changed_and_nothing_else(night: Night) -> None:
    first = night.run(1)
    assert len(first.manifest.tables) == TABLES and night.counts["put objects"] == CHUNKS
    size = len(night.state.get(str(first.manifest_key)).data)
    assert size / CHUNKS < 700

    night.run(1)
    assert night.counts["put objects"] == night.counts["stat objects"] == night.counts["put progress"] == 0
    assert night.counts["put manifests"] == 1

    third = night.run(2)
    new = [one for entry in third.manifest.tables for one in entry.objects if one.origin == "extracted"]
    expected = changed_chunks(third.manifest.tables, 2)
    assert {(one.chunk.part, one.chunk.start) for one in new} == expected and len(expected) > 10
    assert night.counts["put objects"] == len(expected)
    kept = sum(len(entry.objects) for entry in third.manifest.tables if entry.status == "extracted") - len(expected)
    assert night.counts["stat objects"] == kept, "each object that a changed table names again is looked at once"


def test_a_full_run_cuts_again_and_the_next_one_proves_what_it_wrote(night: Night) -> None:
    """As an operator does whose state began with other chunks."""
    assert sum(len(entry.objects) for entry in night.run(1, chunk_bytes=1024**3).manifest.tables) < CHUNKS / 1.8
    night.run(1)
    assert night.counts["put objects"] == 0, "a table keeps its chunks"
    night.run(1, full=True)
    assert night.counts["put objects"] == CHUNKS
    last = night.run(1)
    assert night.counts["put objects"] == 0
    assert {entry.reason.code for entry in last.manifest.tables} == {"unchanged"}


def test_large_chunks_wait_on_the_disk_and_others_in_memory(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    used: Counter[int] = Counter()

    class Recorded(LineSpool):
        def __init__(self, compression: Compression, memory: int) -> None:
            used[memory] += 1
            super().__init__(compression, memory)

    monkeypatch.setattr(extract, "LineSpool", Recorded)
    night.run(1)
    assert used == {SPOOL_BUFFER: 2048 + 160 + 40, SPOOL_MEMORY: 8 + 4}


def test_a_long_run_that_is_stopped_is_continued_and_its_parts_are_removed(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 400)
    stop, done = Stop(), 0

    def stop_late(event: Event) -> None:
        nonlocal done
        if isinstance(event, ChunkDone):
            done += 1
            if done == 1500:
                stop.ask(15)

    with pytest.raises(RunStopped):
        night.run(1, stop_late, stop)
    left = sorted(night.state.list("progress/"))
    assert len(left) == 4 and done < CHUNKS, "the progress and three parts"

    night.run(1)
    assert night.counts["put objects"] == CHUNKS - done
    assert sorted(night.state.list("progress/")) == left, "only prune removes what another run left"

    ledger, later = Ledger(night.state, sleep=no_wait), datetime.now(UTC) + timedelta(days=10)
    pruned = prune_stores(ledger, night.objects, KeepLast(1), later, timedelta(days=7))
    assert pruned is not None and sorted(pruned.progress) == left and pruned.objects == ()
    assert list(night.state.list("progress/")) == [] and len(list(night.objects.list(""))) == CHUNKS


def test_a_night_takes_little_memory_for_each_chunk(night: Night) -> None:
    night.run(1)
    gc.collect()
    tracemalloc.start()
    try:
        night.run(1)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most / CHUNKS < BYTES_A_CHUNK
