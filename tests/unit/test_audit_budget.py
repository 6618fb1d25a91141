"""The audit's budget over many runs, without a database: its share, its order, and what is carried over."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.model import Chunk, ChunkMark, ObjectEntry, Point, Reason, TableEntry, Watermark
from floodmark.pipeline.audit_budget import BYTES_OF_A_TASK, Candidate, choose_audits
from floodmark.state.last_read import last_read, oldest_read

MIB = 1024**2


class Nights:
    """A database whose chunks have these sizes, over many runs. `read` is the number of the run that read each last."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(sizes)
        self.read = [0] * len(self.sizes)
        self.number, self.carried, self.spent = 0, 0, 0

    @property
    def total(self) -> int:
        return sum(size + BYTES_OF_A_TASK for size in self.sizes)

    def run(self, share: float, *, reads: bool = True, proven: Sequence[int] | None = None) -> tuple[int, ...]:
        self.number += 1
        which = list(range(len(self.sizes))) if proven is None else proven
        candidates = [Candidate(f"{self.read[one]:014}Z", self.sizes[one]) for one in which]
        choice = choose_audits(candidates, share, self.carried, reads=reads)
        chosen = tuple(which[number] for number in choice.chosen)
        for one in chosen:
            self.read[one] = self.number
        self.spent += sum(self.sizes[one] + BYTES_OF_A_TASK for one in chosen)
        self.carried = choice.carried
        return chosen

    def longest_wait(self) -> int:
        return self.number - min(self.read)


@given(
    st.lists(st.integers(0, 4096 * MIB), min_size=1, max_size=40),
    st.sampled_from((0.1, 0.5, 1.0, 2.0, 7.0, 33.0, 100.0)),
    st.integers(1, 60),
)
def test_no_run_of_runs_reads_more_than_its_share(sizes: list[int], share: float, runs: int) -> None:
    """What was read and what is carried over never exceed what was earned, and hardly anything is lost."""
    nights = Nights(sizes)
    for _ in range(runs):
        nights.run(share)
        assert nights.spent + nights.carried <= nights.number * (nights.total * share / 100 + 1)
        assert nights.carried <= max(size + BYTES_OF_A_TASK for size in sizes)
    lost = nights.number * nights.total * share / 100 - nights.spent - nights.carried
    assert lost <= nights.number if share < 100 else True


@given(st.lists(st.integers(0, 4096 * MIB), min_size=1, max_size=40), st.sampled_from((0.5, 2.0, 10.0, 50.0)))
def test_each_chunk_is_read_within_a_known_number_of_runs(sizes: list[int], share: float) -> None:
    """A round takes 100 / share runs, and one more for what does not divide evenly."""
    nights, bound = Nights(sizes), int(100 / share) + 2
    for _ in range(3 * bound):
        nights.run(share)
        assert nights.longest_wait() <= bound


def test_a_small_database_is_audited_every_few_runs_and_a_large_one_a_little_each_night() -> None:
    small, large = Nights([MIB]), Nights([64 * MIB] * 10_000)
    small_nights = [len(small.run(2.0)) for _ in range(150)]
    assert sum(small_nights) == 3 and set(small_nights) == {0, 1}
    assert {len(large.run(2.0)) for _ in range(20)} == {200}


def test_a_large_chunk_waits_until_enough_is_carried_over_and_no_smaller_one_passes_it() -> None:
    nights = Nights([1000 * MIB, 10 * MIB, 10 * MIB])
    nights.read = [0, 1, 2]
    chosen = [nights.run(5.0) for _ in range(25)]
    first = next(number for number, one in enumerate(chosen) if one)
    assert chosen[first][0] == 0 and 15 < first < 21, "it takes about 20 shares of a twentieth"


def test_the_least_recently_read_chunk_comes_first_and_an_extraction_counts_as_a_reading() -> None:
    nights = Nights([MIB] * 4)
    nights.read = [3, 1, 4, 2]
    nights.number = 4
    assert nights.run(25.0) == (1,)
    nights.read[3] = nights.number  # it was extracted
    assert nights.run(25.0) == (0,)
    assert nights.run(100.0) == (2, 1, 3, 0)


def test_a_rerun_without_audit_leaves_its_share_to_the_next_run() -> None:
    nights = Nights([MIB] * 50)
    assert nights.run(2.0, reads=False) == () and nights.carried > 0
    assert len(nights.run(2.0)) == 2


def test_runs_that_never_audit_do_not_save_up_more_than_the_largest_chunk() -> None:
    nights = Nights([MIB, 5 * MIB, 3 * MIB])
    for _ in range(1000):
        nights.run(10.0, reads=False)
    assert nights.carried == 5 * MIB + BYTES_OF_A_TASK


def test_a_run_of_one_small_table_does_not_lose_what_a_large_chunk_waits_for() -> None:
    nights = Nights([1000 * MIB, MIB])
    for _ in range(10):
        nights.run(5.0)
    before = nights.carried
    assert nights.run(5.0, reads=False, proven=[1]) == () and nights.carried >= before
    nights.run(5.0, proven=[])
    assert nights.carried >= before, "a run that proved nothing has nothing to audit"


def test_a_share_of_zero_reads_nothing_whatever_was_carried() -> None:
    assert choose_audits([Candidate("", MIB)], 0.0, 10**12).chosen == ()
    assert choose_audits([Candidate("", MIB)], 0.0, 10**12).carried == 0


def test_chunks_that_come_and_go_keep_the_order() -> None:
    """With other chunks proven in each run, the longest wait is that of chunks that were not there to be read."""
    chance, nights = random.Random(7), Nights([MIB] * 100)
    for _ in range(400):
        proven = sorted(chance.sample(range(100), 60))
        chosen = nights.run(5.0, proven=proven)
        left = [one for one in proven if one not in chosen]
        assert not chosen or max(nights.read[one] for one in left) <= nights.number
    assert nights.longest_wait() < 80


def entry_of(*marks: tuple[str, str | None, bool]) -> TableEntry:
    """A table whose chunks have these: the timestamp in the key ("" without lines), the audit's time, provable."""
    objects, chunks = [], []
    for number, (key, audited, provable) in enumerate(marks):
        chunk = Chunk("1", number, number + 1)
        if key:
            path = f"public.t/extraction_timestamp={key}/{number}.jsonl.gz"
            objects.append(ObjectEntry(path, 1, 1, 1, "", "", chunk, "reused"))
        index = len(objects) - 1 if key else None
        mark = ChunkMark(chunk, 1, 1, 0, index, provable)
        chunks.append(mark if audited is None else ChunkMark(chunk, 1, 1, 0, index, provable, audited=audited))
    return TableEntry(
        schema="public",
        name="t",
        status="unchanged",
        reason=Reason("unchanged", ""),
        watermark=Watermark(Point("2026-11-24T01:02:06Z"), 1, tuple(chunks)),
        objects=tuple(objects),
    )


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (("20261101000000Z", None, True), "20261101000000Z"),
        (("20261101000000Z", "20261124010204Z", True), "20261124010204Z"),
        (("20261125000000Z", "20261124010204Z", True), "20261125000000Z"),
        (("", "20261124010204Z", True), "20261124010204Z"),
        (("", None, True), ""),
    ],
)
def test_a_chunk_was_last_read_when_it_was_extracted_or_audited(
    mark: tuple[str, str | None, bool], expected: str
) -> None:
    entry = entry_of(mark)
    assert entry.watermark is not None
    assert last_read(entry.watermark.chunks[0], entry.objects[0] if entry.objects else None) == expected


def test_the_oldest_reading_leaves_out_what_is_never_proven_or_never_held_a_line() -> None:
    old, new = "20261101000000Z", "20261124010204Z"
    assert oldest_read([entry_of((new, None, True), (old, new, True)), entry_of((old, None, False))]) == new
    assert oldest_read([entry_of(("", None, True))]) is None and oldest_read([]) is None
