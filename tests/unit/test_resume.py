"""What is kept of finished chunks, when it is written, and what may be used of that: without a server."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from fix_state import HOME, RESTORED, entry, manifest, no_wait, point, stored
from floodmark.errors import StateUnreadable, StorageUnavailable
from floodmark.events import Event, ProgressFound, Warned
from floodmark.layout import progress_key
from floodmark.lineage import Lineage
from floodmark.model import (
    Chunk,
    ChunkMark,
    Encoding,
    Fingerprint,
    JournalMark,
    PartDefinition,
    SourceIdentity,
    TableName,
)
from floodmark.observed import Part, TableInfo
from floodmark.pipeline import resume
from floodmark.pipeline.remembered import Remembered, RememberedChunk, remember_entry, with_finished
from floodmark.pipeline.resume import FinishedWork, LeftChunks, ProgressTracker, usable_chunks
from floodmark.state.documents import Documents
from floodmark.state.inflight import read_progress, remove_progress, write_progress
from floodmark.state.manifest import FinishedChunks, Progress, Working, decode, encode
from floodmark.storage.memory import MemoryStorage

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
HERE = "s3://lake/cases"
TABLE = TableName("public", "t")
SHAPE = Fingerprint("schema", "config", 2)
STAMP = "the transactions that wrote the definition"
PART = Part("16385", TABLE, 16390, 100, 819200, True, stamp=STAMP)
SOURCE = SourceIdentity("postgresql", "7100000000000000001", "cases", "18.0")


def chunk(number: int, moment: int = 1, stamp: str = "20261123010000Z", lineage: Lineage = HOME) -> RememberedChunk:
    place = Chunk("16385", number * 8, number * 8 + 8)
    key = f"data/database_name=cases/table_name=t/extraction_timestamp={stamp}/t-{number:05d}.jsonl.gz"
    return RememberedChunk(
        ChunkMark(place, 16390, 3, 0, None),
        point(moment, lineage),
        16385,
        SHAPE,
        replace(stored(key), chunk=place),
        stamp=STAMP,
    )


class Desk:
    """A ProgressTracker with a clock and a store of its own."""

    def __init__(self, *left: LeftChunks) -> None:
        self.now = 100.0
        self.seconds_a_write = 0.0
        self.written: list[tuple[FinishedChunks, ...]] = []
        self.works: list[FinishedWork] = []
        self.events: list[Event] = []
        self.broken = False
        self.finished = ProgressTracker(left, self.save, self.events.append, lambda: self.now)

    def save(self, work: FinishedWork) -> None:
        self.now += self.seconds_a_write
        if self.broken:
            raise StorageUnavailable("put an object", on="progress", why="a test says so")
        self.written.append(work.chunks)
        self.works.append(work)


def document(*chunks: FinishedChunks, **changes: object) -> Progress:
    whole = Progress(
        run_id="dead",
        written_at="2026-11-23T01:00:00.000Z",
        destination=HERE,
        encoding=Encoding(),
        dialect=SOURCE.dialect,
        system_identifier=SOURCE.system_identifier,
        database=SOURCE.database,
        timestamps=("20261123010000Z",),
        chunks=chunks,
    )
    return replace(whole, **changes)


def test_the_journal_of_each_part_is_kept() -> None:
    """A part of a partitioned table has its own; a chunk without one says nothing about the others."""
    mark = JournalMark("16385", "the journal's objects", 900)
    other = replace(chunk(1), mark=replace(chunk(1).mark, chunk=Chunk("16400", 0, 8)))
    (found,) = written(replace(chunk(0), journal=mark), replace(chunk(1), journal=replace(mark, since=950)), other)
    assert found.watermark.journal == (mark,)
    left = usable_chunks(document(found), HERE, Encoding(), NOW)
    assert [one.journal for _, one in left.chunks] == [mark, mark, None]


def written(*chunks: RememberedChunk) -> tuple[FinishedChunks, ...]:
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    for one in chunks:
        desk.finished.add_chunk(TABLE, one)
    desk.finished.save()
    return desk.written[-1]


def test_what_is_written_is_what_is_read() -> None:
    chunks = [chunk(0), chunk(1), replace(chunk(2), object=None), chunk(3, moment=2)]
    progress = document(*written(*chunks))
    assert len(progress.chunks) == 2, "one for each snapshot"
    again = decode(Progress, encode(progress), "progress")
    left = usable_chunks(again, HERE, Encoding(), NOW)
    assert [(table, replace(one.mark, object=None)) for table, one in left.chunks] == [
        (TABLE, one.mark) for one in chunks
    ]
    assert [replace(one, mark=replace(one.mark, object=None)) for _, one in left.chunks] == chunks


def test_each_partition_is_written_with_its_own_definition() -> None:
    leaves = [
        replace(chunk(0), mark=replace(chunk(0).mark, chunk=Chunk(leaf, 0, 8)), part=f"{leaf} is", stamp=f"by {leaf}")
        for leaf in ("16401", "16402")
    ]
    left = usable_chunks(decode(Progress, encode(document(*written(*leaves))), "progress"), HERE, Encoding(), NOW)
    assert [(one.mark.chunk.part, one.part, one.stamp) for _, one in left.chunks] == [
        ("16401", "16401 is", "by 16401"),
        ("16402", "16402 is", "by 16402"),
    ]


@pytest.mark.parametrize(
    ("destination", "encoding", "age", "expected"),
    [
        (HERE, Encoding(), timedelta(0), 2),
        ("s3://lake/elsewhere", Encoding(), timedelta(0), 0),
        (HERE, Encoding(compression="zstd"), timedelta(0), 0),
        (HERE, Encoding(), timedelta(days=4), 2),
        (HERE, Encoding(), timedelta(days=4, seconds=1), 1),  # prune may be at the other's object
    ],
)
def test_only_objects_that_may_be_named_are_taken_over(
    destination: str, encoding: Encoding, age: timedelta, expected: int
) -> None:
    progress = document(*written(chunk(0), replace(chunk(1), object=None)))
    assert len(usable_chunks(progress, destination, encoding, NOW + age).chunks) == expected


@pytest.mark.parametrize(("floor", "expected"), [("20261123005959Z", 1), ("20261123010000Z", 0)])
def test_what_is_not_above_the_floor_may_be_gone(floor: str, expected: int) -> None:
    progress = document(*written(chunk(0)))
    assert len(usable_chunks(progress, HERE, Encoding(), NOW, floor).chunks) == expected


def test_a_progress_that_names_an_object_it_does_not_have_is_damaged() -> None:
    (told,) = written(chunk(0))
    data = encode(document(told)).replace(b'"object": 0', b'"object": 1')
    with pytest.raises(StateUnreadable, match="not among its objects"):
        decode(Progress, data, "progress")


def test_progress_is_written_now_and_then_and_the_less_often_the_longer_it_takes() -> None:
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    desk.finished.add_chunk(TABLE, chunk(0))
    assert desk.written == [], "a short run writes none"
    desk.now += 2.0
    desk.seconds_a_write = 0.5
    desk.finished.add_chunk(TABLE, chunk(1))
    desk.now += 24.9
    desk.finished.add_chunk(TABLE, chunk(2))
    assert len(desk.written) == 1, "0.5 s of writing in 25 s"
    desk.now += 0.2
    desk.finished.add_chunk(TABLE, chunk(3))
    assert [len(told.watermark.chunks) for (told,) in desk.written] == [2, 4]
    desk.finished.save()
    assert len(desk.written) == 2, "nothing is new"


def test_a_progress_that_can_t_be_written_does_not_end_the_run() -> None:
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    desk.broken = True
    desk.now += 2.0
    desk.finished.add_chunk(TABLE, chunk(0))
    assert [type(event) for event in desk.events] == [Warned]
    desk.finished.add_chunk(TABLE, chunk(1))
    assert len(desk.events) == 1, "not at each chunk"
    desk.broken = False
    desk.finished.save()
    assert len(desk.written) == 1 and desk.finished.worth_keeping


def test_a_long_run_pauses_for_a_part_of_its_time() -> None:
    """Half a percent of the time so far, and a minute at most."""
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    for moment, pause in ((100.0, 2.0), (4_000.0, 20.0), (40_000.0, 60.0)):
        desk.now = 100.0 + moment
        desk.finished.add_chunk(TABLE, chunk(0))
        before = len(desk.written)
        desk.now += pause - 0.1
        desk.finished.add_chunk(TABLE, chunk(1))
        assert len(desk.written) == before
        desk.now += 0.2
        desk.finished.add_chunk(TABLE, chunk(2))
        assert len(desk.written) == before + 1


def starts(chunks: tuple[FinishedChunks, ...]) -> list[int]:
    return [mark.chunk.start // 8 for told in chunks for mark in told.watermark.chunks]


def test_each_chunk_of_a_long_run_is_written_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 3)
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    for number in range(8):
        desk.finished.add_chunk(TABLE, chunk(number))
        desk.finished.save()
    assert [(work.part, starts(work.chunks), work.parts) for work in desk.works] == [
        (None, [0], ()),
        (None, [0, 1], ()),
        (1, [0, 1, 2], ()),
        (None, [], (1,)),
        (None, [3], (1,)),
        (None, [3, 4], (1,)),
        (2, [3, 4, 5], ()),
        (None, [], (1, 2)),
        (None, [6], (1, 2)),
        (None, [6, 7], (1, 2)),
    ]
    assert (desk.finished.saved_count, desk.finished.parts_written) == (8, 2)


def test_chunks_that_are_no_longer_of_use_are_in_no_part_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 2)
    desk, late = Desk(), TableName("public", "late")
    desk.finished.begin_snapshot(SOURCE)
    for number in range(4):
        desk.finished.add_chunk(TABLE if number % 2 else late, chunk(number))
    desk.finished.save()
    desk.finished.keep_only([late])
    desk.finished.save()
    assert [(work.part, starts(work.chunks), work.parts) for work in desk.works[3:]] == [
        (3, [0, 2], ()),
        (None, [], (3,)),
    ]
    desk.finished.begin_snapshot(replace(SOURCE, system_identifier="another"))
    desk.finished.add_chunk(TABLE, chunk(5))
    desk.finished.save()
    assert (starts(desk.works[-1].chunks), desk.works[-1].parts) == ([5], ())
    assert desk.finished.parts_written == 3, "a key is never used again"


def test_a_part_that_can_t_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 2)
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    desk.broken = True
    desk.finished.add_chunk(TABLE, chunk(0))
    desk.finished.add_chunk(TABLE, chunk(1))
    desk.finished.save()
    desk.broken = False
    desk.finished.save()
    assert [(work.part, starts(work.chunks), work.parts) for work in desk.works] == [(2, [0, 1], ()), (None, [], (2,))]


class Parted:
    """A run's progress with two parts in a store, and a reader of it."""

    def __init__(self) -> None:
        self.store = MemoryStorage("memory:state")
        self.documents = Documents(self.store, sleep=no_wait)
        self.run = Working(run_id="dead", timestamp="", progress=progress_key("dead"), started_at="")
        self.told: list[str] = []
        for number in (1, 2):
            write_progress(self.documents, document(*written(chunk(number))), number)
        keys = (progress_key("dead", 1), progress_key("dead", 2))
        write_progress(self.documents, document(*written(chunk(3)), parts=keys))

    def read(self) -> list[int]:
        found = read_progress(self.documents, self.run, self.told.append)
        return [] if found is None else starts(found.chunks)


class Stored(Desk):
    """A ProgressTracker that writes to a store. A write can fail `before` it takes effect, or `after`."""

    def __init__(self) -> None:
        super().__init__()
        self.documents = Documents(MemoryStorage("memory:state"), sleep=no_wait)
        self.failing: str | None = None

    def save(self, work: FinishedWork) -> None:
        parts = tuple(progress_key("dead", part) for part in work.parts) or UNSET
        names = {name: getattr(work.source, name) for name in ("system_identifier", "dialect", "database")}
        whole = document(*work.chunks, timestamps=work.timestamps, parts=parts, **names)
        if self.failing != "before":
            write_progress(self.documents, whole, work.part)
        if self.failing is not None:
            raise StorageUnavailable("put an object", on="progress", why="a test says so")

    def read(self) -> LeftChunks:
        run = Working(run_id="dead", timestamp="", progress=progress_key("dead"), started_at="")
        found = read_progress(self.documents, run, self.events.append)
        return usable_chunks(found or document(), HERE, Encoding(), NOW)


def test_the_next_run_reads_all_parts() -> None:
    parted = Parted()
    assert parted.read() == [1, 2, 3]
    remove_progress(parted.documents, "dead", 2)
    assert (parted.read(), list(parted.store.list(""))) == ([], [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run_id": "another"}, [2, 3]),
        ({"destination": "s3://elsewhere"}, [2, 3]),
        ({"encoding": Encoding(compression="zstd")}, [2, 3]),
        ({"system_identifier": "another"}, [2, 3]),
        ({"timestamps": ()}, [1, 2, 3]),
        ({"written_at": "later"}, [1, 2, 3]),
    ],
)
def test_a_part_of_another_kind_is_left_out(changes: dict[str, object], expected: list[int]) -> None:
    parted = Parted()
    data = encode(document(*written(chunk(1)), **changes))
    parted.documents.overwrite(progress_key("dead", 1), data)
    assert parted.read() == expected


def test_a_part_that_is_gone_or_damaged_costs_only_its_own_chunks() -> None:
    parted = Parted()
    parted.documents.overwrite(progress_key("dead", 2), b"{")
    assert parted.read() == [1, 3] and len(parted.told) == 1
    parted.documents.delete(progress_key("dead", 1))
    assert parted.read() == [3]


def test_a_chunk_that_was_finished_again_counts_once_and_as_it_was_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part with its first state was written before, and is not written again."""
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 2)
    desk = Stored()
    desk.finished.begin_snapshot(SOURCE)
    for number, moment in ((0, 1), (1, 1), (2, 1), (1, 2), (2, 2)):
        desk.finished.add_chunk(TABLE, chunk(number, moment))
        desk.finished.save()
    assert desk.finished.parts_written == 2 and desk.finished.saved_count == 3
    found = desk.read()
    assert {known.mark.chunk.start // 8: known.point.taken_at for _, known in found.chunks} == {
        0: point(1).taken_at,
        1: point(2).taken_at,
        2: point(2).taken_at,
    }
    assert len(found.chunks) == 3


@pytest.mark.parametrize("number", range(60))
def test_what_is_read_back_was_finished_whatever_failed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes fail, or their answer is lost; chunks are finished again; snapshots of other databases come in between."""
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 3)
    chance, desk, source = random.Random(number), Stored(), SOURCE
    ever, own = set[tuple[str, str, Chunk]](), dict[Chunk, str]()
    desk.finished.begin_snapshot(source)
    for moment in range(1, 60):
        desk.failing = chance.choice((None, None, None, "before", "after"))
        kind = chance.random()
        if kind < 0.03:
            source = replace(source, system_identifier=f"{moment}")
            desk.finished.begin_snapshot(source)
            desk.finished.announce_timestamp(f"2026112301{moment:02}00Z")
            own.clear()
        elif kind < 0.06:
            desk.finished.keep_only([TABLE] if chance.random() < 0.5 else [])
            own = own if desk.finished.worth_keeping else {}
        else:
            one = chunk(chance.randrange(12), moment)
            desk.finished.add_chunk(TABLE, one)
            own[one.mark.chunk] = one.point.taken_at
            ever.add((source.system_identifier, one.point.taken_at, one.mark.chunk))
        desk.finished.save()
        found = desk.read()
        told = {known.mark.chunk: known.point.taken_at for _, known in found.chunks}
        assert {(found.source[1], taken_at, place) for place, taken_at in told.items()} <= ever
        if desk.failing is None:
            assert told == own and found.source[1] == source.system_identifier


@pytest.mark.parametrize(
    ("changes", "source", "expected"),
    [
        ({}, {}, [1]),
        ({"watermark": {"point": point(1)}}, {}, [0, 1]),
        ({"watermark": {"point": point(3, RESTORED)}}, {}, [0, 1]),
        ({"watermark": {"table_oid": 1}}, {}, [0, 1]),
        ({"watermark": {"parts": (PartDefinition("16385", "other"),)}}, {}, [0, 1]),
        ({"watermark": None}, {}, [0, 1]),
        ({"fingerprint": Fingerprint("new", "config", 2)}, {}, [0, 1]),
        ({"name": "other"}, {}, [0, 1]),
        ({}, {"system_identifier": "another"}, [0, 1]),
    ],
)
def test_what_a_manifest_knows_as_well_is_not_held_in_memory(
    changes: dict[str, Any], source: dict[str, str], expected: list[int]
) -> None:
    """A chunk that the manifest knows from an earlier moment, or otherwise, can be the one that is proven."""
    known = chunk(0, 3)
    good = replace(entry("t", point(3), known.object or stored("")), fingerprint=SHAPE)
    more = dict(changes)
    mark = more.pop("watermark", {})
    assert good.watermark is not None
    good = replace(good, watermark=None if mark is None else replace(good.watermark, **mark), **more)
    committed = manifest("r1", point(3), good)
    committed = replace(committed, source=replace(committed.source, **source))
    progress = document(*written(chunk(0, 2), chunk(1, 2)))
    left = usable_chunks(progress, HERE, Encoding(), NOW, None, committed)
    assert [one.mark.chunk.start // 8 for _, one in left.chunks] == expected
    told = remember_entry(good)
    every = usable_chunks(progress, HERE, Encoding(), NOW)
    used, of_all = (with_finished(told, [one for _, one in some.chunks], info(), point(9)) for some in (left, every))
    assert used == of_all, "the same chunks can be proven"


def test_what_is_committed_is_not_kept() -> None:
    desk = Desk()
    desk.finished.begin_snapshot(SOURCE)
    desk.finished.add_chunk(TABLE, chunk(0))
    desk.finished.add_chunk(TableName("public", "late"), chunk(1))
    desk.finished.save()
    desk.finished.keep_only([TableName("public", "late")])
    desk.finished.save()
    assert [told.name for told in desk.written[-1]] == ["late"] and desk.finished.worth_keeping
    desk.finished.keep_only([])
    assert not desk.finished.worth_keeping


def test_another_database_s_chunks_are_not_this_one_s() -> None:
    """A server that took over may have the same names, oids and numbers."""
    left = LeftChunks("dead", ("postgresql", SOURCE.system_identifier, "cases"), ((TABLE, chunk(0)),))
    desk = Desk(left, replace(left, run_id="other", source=("postgresql", "another", "cases")))
    desk.finished.begin_snapshot(SOURCE)
    assert desk.events == [ProgressFound("dead", 1)]
    desk.finished.add_chunk(TABLE, chunk(1))
    desk.finished.begin_snapshot(replace(SOURCE, server_version="18.1"))
    assert len(desk.finished.chunks_of(TABLE)) == 2
    desk.finished.begin_snapshot(replace(SOURCE, system_identifier="another"))
    assert [one.mark.chunk.start for one in desk.finished.chunks_of(TABLE)] == [0]
    assert desk.events[1:] == [ProgressFound("other", 1)]


def info(**changes: object) -> TableInfo:
    whole = TableInfo(table=TABLE, oid=16385, kind="r", columns=(), parts=(PART,), fingerprint=SHAPE)
    return replace(whole, **changes)


@pytest.mark.parametrize(
    ("told", "finished", "best"),
    [
        ([chunk(0, 1)], [chunk(0, 2)], 2),
        ([chunk(0, 2)], [chunk(0, 1)], 2),
        ([chunk(0, 2, lineage=RESTORED)], [chunk(0, 1)], 1),  # nothing of another history can be proven
        ([chunk(0, 1)], [chunk(0, 2, lineage=RESTORED)], 1),
        ([], [chunk(0, 1), chunk(0, 3), chunk(0, 2)], 3),
        ([replace(chunk(0, 2), fingerprint=Fingerprint("old", "config"))], [chunk(0, 1)], 1),
    ],
)
def test_of_two_memories_of_a_place_the_one_that_can_be_proven_later_counts(
    told: list[RememberedChunk], finished: list[RememberedChunk], best: int
) -> None:
    before = Remembered(None, {one.mark.chunk: one for one in told})
    (known,) = with_finished(before, finished, info(), point(9)).chunks.values()
    assert known.point.taken_at == point(best).taken_at


@pytest.mark.parametrize(
    "now",
    [
        info(oid=16999),
        info(fingerprint=replace(SHAPE, schema="new")),
        info(fingerprint=replace(SHAPE, config="new")),
        info(fingerprint=replace(SHAPE, guards=3)),
        info(parts=(replace(PART, fingerprint="new"),)),
        info(parts=(replace(PART, stamp="renamed there and back"),)),
        info(parts=(replace(PART, id="16999"),)),
    ],
)
def test_what_was_read_of_another_table_or_definition_is_left_out(now: TableInfo) -> None:
    assert with_finished(Remembered(), [chunk(0)], now, point(9)).chunks == {}


def test_what_release_0_1_0_left_is_not_used() -> None:
    """It wrote no stamp, so a change there and back could not be seen."""
    (told,) = written(chunk(0))
    left = usable_chunks(document(replace(told, stamp=UNSET)), HERE, Encoding(), NOW)
    assert len(left.chunks) == 1
    assert with_finished(Remembered(), [one for _, one in left.chunks], info(), point(9)).chunks == {}
