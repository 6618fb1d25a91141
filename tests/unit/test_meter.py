"""The progress of a chunk while its lines are read."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fix_cli import Clock
from floodmark.events import ChunkProgress, Event
from floodmark.meter import ChunkMeter, LineRatio
from floodmark.model import Chunk, TableName

PERSON, VISIT = TableName("public", "person"), TableName("public", "visit")
CHUNK = Chunk("1", 0, 8)
MB = 10**6


def told(events: list[Event]) -> list[tuple[int, bool]]:
    assert all(isinstance(event, ChunkProgress) and (event.table, event.chunk) == (PERSON, CHUNK) for event in events)
    return [(event.done_bytes, event.finished) for event in events if isinstance(event, ChunkProgress)]


def test_a_chunk_is_told_of_at_most_four_times_a_second() -> None:
    events: list[Event] = []
    clock = Clock()
    with ChunkMeter(events.append, PERSON, CHUNK, 64 * MB, 128 * MB, clock) as meter:
        for _ in range(100):  # 10 seconds, in blocks of a tenth
            clock.now += 0.1
            meter.add(MB)
    shown = told(events)
    assert shown[0] == (0, False) and shown[-1] == (64 * MB, True)
    between = [done for done, finished in shown[1:-1] if not finished]
    assert len(between) == 33, "every third block is 0.3 s later"
    assert between[0] == 1_500_000 and between[-1] == 49_500_000, "half of the lines' bytes"
    assert between == sorted(between)


def test_progress_inside_a_chunk_never_stands_still_and_never_reaches_its_size() -> None:
    events: list[Event] = []
    clock = Clock()
    with ChunkMeter(events.append, PERSON, CHUNK, 64 * MB, 64 * MB, clock) as meter:
        for _ in range(300):  # five times what was expected
            clock.now += 1
            meter.add(MB)
    inside = [done for done, finished in told(events) if not finished]
    assert len(inside) == 301 and all(before < after for before, after in pairwise(inside))
    assert inside[-1] < 64 * MB


def test_a_chunk_that_fails_does_not_count() -> None:
    events: list[Event] = []
    clock = Clock()
    with pytest.raises(ValueError), ChunkMeter(events.append, PERSON, CHUNK, 8, 8, clock) as meter:
        clock.now += 1
        meter.add(4)
        raise ValueError
    assert told(events) == [(0, False), (4, False), (0, True)]


def test_the_ratio_is_that_of_the_table_then_of_all_tables() -> None:
    ratio = LineRatio()
    assert ratio.expected_lines(PERSON, 100) == 100, "nothing is known"
    ratio.add(PERSON, 300, 100)
    ratio.add(PERSON, 100, 100)
    assert ratio.expected_lines(PERSON, 50) == 100 and ratio.expected_lines(VISIT, 50) == 100
    ratio.add(VISIT, 50, 100)
    assert (ratio.expected_lines(PERSON, 50), ratio.expected_lines(VISIT, 50)) == (100, 25)
    ratio.add(VISIT, 0, 100)  # an empty chunk says nothing about the others
    ratio.add(VISIT, 10, 0)  # a view has no size
    assert ratio.expected_lines(VISIT, 50) == 25
