"""The proof by the journal, step by step, without a database: every doubt must lead to the question."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from floodmark.lineage import Lineage
from floodmark.model import (
    Chunk,
    ChunkMark,
    Column,
    Encoding,
    Fingerprint,
    JournalMark,
    ObjectEntry,
    Point,
    Reason,
    TableEntry,
    TableName,
    Watermark,
)
from floodmark.observed import JournalFacts, Observation, Part, TableInfo
from floodmark.pipeline.detect import MAX_XID_GAP, plan_table, settle_plan
from floodmark.pipeline.entries import ChunkOutcome, EntryFacts, finished_entry, proven_outcome, remembered_chunk
from floodmark.pipeline.plans import Policy, TablePlan
from floodmark.pipeline.remembered import remember_entry
from floodmark.state.manifest import checksum

NAME = TableName("public", "person")
RESET = "2026-11-01 00:00:00+00"
LINEAGE = Lineage("7001", 5, "731", RESET, RESET, False, RESET, RESET)
THEN = Point("2026-11-01T01:00:00Z", 1000, 1010, LINEAGE)
NOW = Point("2026-11-02T01:00:00Z", 2000, 2020, LINEAGE)
FACTS = JournalFacts("stamp", newest=1000, floor=1000)
PART = Part("16500", NAME, relfilenode=42, heap_blocks=20, total_bytes=20 * 8192, by_block=True, journal=FACTS)
INFO = TableInfo(
    table=NAME,
    oid=16500,
    kind="table",
    columns=(Column("id", "bigint", False),),
    parts=(PART,),
    fingerprint=Fingerprint("schema", "config"),
)
CHUNKS = (Chunk("16500", 0, 10), Chunk("16500", 10, 20))
POLICY = Policy(chunk_bytes=10 * 8192)
SAME = Observation(rows=7, young=0, frozen=0, relfilenode=42)


def entry(journal: JournalMark | None, point: Point = THEN) -> TableEntry:
    objects = tuple(
        ObjectEntry(key, 7, 70, 35, "5" * 64, key * 64, chunk, "extracted")
        for key, chunk in zip("ab", CHUNKS, strict=True)
    )
    marks = tuple(ChunkMark(chunk, 42, 7, 0, index) for index, chunk in enumerate(CHUNKS))
    return TableEntry(
        schema="public",
        name="person",
        status="extracted",
        reason=Reason("first_run", ""),
        columns=INFO.columns,
        encoding=Encoding(),
        fingerprint=INFO.fingerprint,
        watermark=Watermark(point, 16500, marks, journal=UNSET if journal is None else (journal,)),
        checksum=checksum(objects),
        rows=14,
        objects=objects,
    )


MARK = JournalMark("16500", "stamp", 1000)


def planned(
    facts: JournalFacts | None = FACTS, mark: JournalMark | None = MARK, now: Point = NOW, **changes: Any
) -> TablePlan:
    info = replace(INFO, parts=(replace(PART, journal=facts, **changes),))
    return plan_table(info, remember_entry(entry(mark)), POLICY, now)


def test_the_journal_proves_without_a_question() -> None:
    plan = planned()
    assert plan.questions == () and plan.to_extract == ()
    assert [chunk.proven for chunk in plan.chunks] == [SAME, SAME]
    assert plan.reason == Reason("journal", "all 2 chunks proven unchanged by the journal")
    assert settle_plan(plan, [], POLICY) == plan


@pytest.mark.parametrize(
    ("facts", "mark"),
    [
        (None, MARK),
        (FACTS, None),
        (replace(FACTS, doubt="it is off"), MARK),
        (replace(FACTS, stamp="other"), MARK),
        (replace(FACTS, newest=1001), MARK),
        (replace(FACTS, floor=1001), MARK),
        (FACTS, replace(MARK, since=1001)),
    ],
)
def test_any_doubt_leads_to_the_question(facts: JournalFacts | None, mark: JournalMark | None) -> None:
    plan = planned(facts, mark)
    assert [question.since for question in plan.questions] == [1000, 1000]
    assert settle_plan(plan, [SAME, SAME], POLICY).reason.code == "unchanged"
    assert settle_plan(plan, [SAME, replace(SAME, young=1)], POLICY).reason.code == "rows_changed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"relfilenode": 43}, "rewritten"),
        ({"no_proof": "because"}, "no_proof"),
        ({"measured": False}, "no_proof"),
        ({"fingerprint": "other"}, "schema_changed"),
        ({"now": replace(NOW, lineage=replace(LINEAGE, started_at="later"))}, "lineage_changed"),
        ({"now": replace(NOW, xmin=999)}, "lineage_changed"),
        ({"now": replace(NOW, xmax=1000 + MAX_XID_GAP)}, "lineage_changed"),
    ],
)
def test_the_journal_stands_for_the_question_only(change: dict[str, Any], code: str) -> None:
    assert {chunk.reason.code for chunk in planned(**change).chunks if chunk.reason} == {code}


def test_a_journal_does_not_decide_for_a_watched_column() -> None:
    info = replace(INFO, watched="id")
    assert len(plan_table(info, remember_entry(entry(MARK)), POLICY, NOW).questions) == 2


def test_a_doubt_is_told_with_the_proof() -> None:
    plan = settle_plan(planned(JournalFacts(doubt="it is off")), [SAME, SAME], POLICY)
    assert plan.reason.detail == "all 2 chunks proven unchanged; the journal was not used: it is off"


def test_blocks_that_are_new_are_asked_for() -> None:
    plan = planned(heap_blocks=25, total_bytes=25 * 8192)
    assert [question.probe for question in plan.questions] == [True]
    plan = settle_plan(plan, [Observation(0, 0, 0, 42)], POLICY)
    assert plan.reason.detail == "all 3 chunks proven unchanged, 2 of them by the journal"


# What is remembered for the next run


def remembered_journal(plan: TablePlan, before: TableEntry, now: Point = NOW) -> Any:
    """What the entry that follows remembers of the journal."""
    outcomes = [proven_outcome(chunk) for chunk in plan.chunks]
    found = finished_entry(plan, outcomes, remember_entry(before), EntryFacts("now", now, Encoding()), 0)
    assert found.watermark is not None and found.watermark.point == now
    return found.watermark.journal


def test_a_journal_is_remembered_with_the_first_snapshot_that_showed_it() -> None:
    plan = planned()
    assert remembered_journal(plan, entry(MARK)) == (MARK,)
    assert remembered_chunk(proven_outcome(plan.chunks[0]), plan.info, NOW).journal == MARK  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("mark", "facts", "now"),
    [
        (None, FACTS, NOW),
        (replace(MARK, stamp="older"), FACTS, NOW),
        (MARK, replace(FACTS, stamp="newer"), NOW),
        (MARK, FACTS, replace(NOW, lineage=replace(LINEAGE, started_at="later"))),
        (MARK, FACTS, replace(NOW, xmax=1000 + MAX_XID_GAP)),
    ],
)
def test_a_journal_that_was_not_the_same_is_a_new_one(
    mark: JournalMark | None, facts: JournalFacts, now: Point
) -> None:
    """A chunk that is proven by counting, or read, may be proven by the journal from the next run but one."""
    plan = settle_plan(planned(facts, mark), [SAME, SAME] if planned(facts, mark).questions else [], POLICY)
    assert remembered_journal(plan, entry(mark), now) == (JournalMark("16500", facts.stamp, now.xmax or 0),)


def test_a_journal_of_a_part_that_was_not_measured_is_not_remembered() -> None:
    """It is read: its last chunk can hold more blocks than its place says."""
    plan = planned(measured=False)
    outcomes = [ChunkOutcome(chunk, None, SAME) for chunk in plan.chunks]
    found = finished_entry(plan, outcomes, remember_entry(entry(MARK)), EntryFacts("now", NOW, Encoding()), 0)
    assert found.watermark is not None and found.watermark.journal is UNSET


@pytest.mark.parametrize("facts", [None, JournalFacts(doubt="it is off")])
def test_a_journal_in_doubt_is_not_remembered(facts: JournalFacts | None) -> None:
    plan = settle_plan(planned(facts), [SAME, SAME], POLICY)
    assert remembered_journal(plan, entry(MARK)) is UNSET


@given(st.integers(990, 1010), st.integers(990, 1010), st.integers(990, 1010), st.sampled_from(("stamp", "other")))
def test_it_proves_just_if_all_that_can_be_missing_is_older(newest: int, floor: int, since: int, stamp: str) -> None:
    plan = planned(JournalFacts(stamp, newest, floor), replace(MARK, since=since))
    assert (not plan.questions) == (stamp == "stamp" and max(newest, floor, since) <= 1000)
