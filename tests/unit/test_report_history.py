"""The report's facts: what a night keeps, what is read again, and what a history without manifests still tells."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fix_report import NOW, Invented, Teller, many_tables, service_tables
from fix_state import commit, dropped, entry, failed_over, manifest, never, point, quick_ledger, stored, table
from floodmark.errors import NoState, StateUnreadable
from floodmark.layout import manifest_key
from floodmark.model import Column, TableName
from floodmark.report import StateHistory, read_history
from floodmark.report.facts import RunFacts, SchemaChange
from floodmark.report.nights import committed_run, read_days, tables_of
from floodmark.report.schema_changes import schema_changes
from floodmark.state.manifest import Manifest, decode
from floodmark.storage.memory import MemoryStorage

FORMATS = Path(__file__).parents[1] / "formats"
GOLDEN = sorted(FORMATS.glob("manifest-1*.json"))


class Reads:
    """Counts the manifests that are read."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.keys: list[str] = []
        self.all: set[tuple[str, str]] = set()
        storage.faults = self

    def __call__(self, operation: str, key: str, moment: str) -> None:
        self.all.add((operation, key.partition("/")[0]))
        if operation == "get" and key.startswith("manifests/") and moment == "before":
            self.keys.append(key)


def told(nights: int, tables: tuple[Invented, ...], **lost: str) -> tuple[Teller, MemoryStorage]:
    storage = MemoryStorage()
    teller = Teller(storage, "cases", nights, tables)
    teller.tell(lambda night: lost.get(f"n{night}", ""))
    return teller, storage


def states(run: RunFacts) -> dict[str, str]:
    return {name.name: state for name, state in zip(run.table_names(), run.table_states(), strict=True)}


def facts(now: Manifest, before: Manifest | None = None) -> RunFacts:
    older = None if before is None else tables_of(before, {}, newest=False)
    return committed_run("manifests/x.json", now, tables_of(now, older or {}, newest=True), older, None)


def test_each_table_has_one_byte_a_night_and_only_news_say_more() -> None:
    at, later = point(1), point(2)
    kept, gone = entry("kept", at, stored("k")), entry("gone", at, stored("g"))
    before = manifest("r1", at, kept, gone, entry("ill", at, stored("i")), dropped(entry("old", at)), entry("left", at))
    grown = entry("kept", later, stored("k", "reused"), stored("k2"))
    now = manifest(
        "r2", later, grown, dropped(gone), failed_over(entry("ill", at, stored("i"))), dropped(entry("old", at)),
        replace(entry("left", at), carried_over=True), never("new"),
        replace(entry("same", at, stored("s")), status="unchanged"),
    )  # fmt: skip
    run = facts(now, before)
    assert states(run) == {"kept": "c", "gone": "d", "ill": "f", "old": " ", "left": "-", "new": "f", "same": "u"}
    news = {one.name.name: one for one in run.table_nights()}
    assert sorted(news) == ["gone", "ill", "kept", "new"]
    assert (news["kept"].rows_before, news["kept"].rows) == (3, 6)
    assert (news["kept"].chunks_read, news["kept"].chunks, news["kept"].moved_bytes) == (1, 2, 40)
    assert run.counts == {"extracted": 1, "dropped": 1, "failed": 2, "left": 1, "unchanged": 1}
    assert run.outcome == "partial" and run.exit_code == 3


def test_columns_keys_and_names_that_change_are_told_one_by_one() -> None:
    at, later = point(1), point(2)
    old = (Column("id", "integer", False), Column("code", "text", True), Column("gone", "date", True))
    new = (Column("id", "bigint", False), Column("code", "text", False), Column("note", "public.t", True, base="text"))
    moved = replace(entry("b", at, stored("b")), schema="s")
    moved = replace(moved, watermark=replace(moved.watermark, table_oid=99))  # type: ignore[type-var]
    before = manifest("r1", at, entry("a", at, stored("a"), columns=old, primary_key=("id",)), moved)
    renamed = replace(moved, name="c")
    a = entry("a", later, stored("a2"), columns=new, primary_key=("id", "code"))
    now = manifest("r2", later, a, renamed, dropped(moved), entry("d", later))
    found = schema_changes(tables_of(before, {}, newest=False), tables_of(now, {}, newest=False))
    assert found == (
        SchemaChange(kind="column_type", table=table("a"), column="id", before="integer", after="bigint"),
        SchemaChange(kind="column_null", table=table("a"), column="code", before="null", after="not null"),
        SchemaChange(kind="column_added", table=table("a"), column="note", after="public.t (text)"),
        SchemaChange(kind="column_removed", table=table("a"), column="gone", before="date"),
        SchemaChange(kind="key", table=table("a"), before="id", after="id, code"),
        SchemaChange(kind="table_new", table=table("d")),
        SchemaChange(kind="table_renamed", table=TableName("s", "c"), before="s.b", after="s.c"),
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_each_manifest_of_this_format_gives_facts(path: Path) -> None:
    found = decode(Manifest, path.read_bytes(), path.name)
    run = facts(found, found)
    assert len(run.table_names()) == len(run.table_states()) == len(found.tables)
    assert run.changes == () and run.run_id == found.run_id
    read_days(found)


def test_the_newest_nights_are_read_one_by_one_and_known_ones_not_again() -> None:
    teller, storage = told(9, service_tables(9))
    reads = Reads(storage)
    first = read_history(teller.ledger, 5)
    assert len(reads.keys) == 6  # the sixth one only tells what the fifth one changed
    assert [run.run_id[-6:] for run in first.runs] == [f"{night:06x}" for night in (8, 7, 6, 5, 4)]
    reads.keys.clear()
    assert read_history(teller.ledger, 5, first) == first and reads.keys == []
    teller.nights += 1
    teller._committed(9)
    reads.keys.clear()
    second = read_history(teller.ledger, 5, first)
    assert len(reads.keys) == 1
    assert second == read_history(teller.ledger, 5)


def test_a_history_is_read_from_the_ledger_and_nothing_is_listed_or_written() -> None:
    teller, storage = told(3, many_tables(2), n1="failed")
    reads = Reads(storage)
    read_history(teller.ledger, 5)
    assert reads.all == {("get", "inflight.json"), ("get", "head.json"), ("get", "manifests")}


def test_runs_share_the_names_of_their_tables() -> None:
    teller, _ = told(6, many_tables(30))
    history = read_history(teller.ledger, 9)
    assert len({id(run.names) for run in history.runs}) == 1 and len(history.runs) == 6


def test_a_history_that_was_pruned_ends_there() -> None:
    teller, storage = told(6, many_tables(3))
    oldest = [run.key for run in read_history(teller.ledger, 9).published][3]
    assert oldest is not None
    storage.delete(oldest)
    assert len(read_history(teller.ledger, 9).runs) == 3


def test_runs_that_committed_nothing_are_in_their_places() -> None:
    teller, _ = told(6, many_tables(3), n2="failed", n4="stopped", n3="none")
    history = read_history(teller.ledger, 9)
    assert [run.outcome for run in history.runs] == ["success", "stopped", "failed", "success", "success"]
    assert history.runs[1].chunks_done == 13 and history.runs[2].exit_code == 12


def test_commits_keep_their_order_if_a_clock_was_set_back() -> None:
    teller, _ = told(5, many_tables(2), n2="failed")
    teller.start_of = lambda night: NOW - timedelta(days=20)  # type: ignore[method-assign]
    teller.nights += 1
    teller._committed(5)
    history = read_history(teller.ledger, 9)
    assert [run.run_id[-6:] for run in history.published] == [f"{night:06x}" for night in (5, 4, 3, 1, 0)]
    assert history.published[0].key == teller.ledger.head().manifest  # type: ignore[union-attr]
    assert "failed" in {run.outcome for run in history.runs}
    assert read_history(teller.ledger, 9, history) == history


def test_before_the_first_commit_only_the_ends_of_runs_are_known() -> None:
    teller, _ = told(2, (), n0="failed", n1="failed")
    history = read_history(teller.ledger, 9)
    assert not history.committed and [run.outcome for run in history.runs] == ["failed", "failed"]
    assert history.database == "cases" and history.tables_now() == []


def test_a_place_without_a_state_is_told() -> None:
    with pytest.raises(NoState):
        read_history(quick_ledger(MemoryStorage()), 9)


@pytest.mark.parametrize("field", ["started_at", "finished_at"])
@pytest.mark.parametrize("moment", ["soon", "2026-11-30T01:02:03", ""])
def test_an_invalid_time_in_a_manifest_is_told(field: str, moment: str) -> None:
    odd = replace(manifest("r1", point(1), entry("t", point(1))), **{field: moment})
    with pytest.raises(StateUnreadable, match="invalid timestamp"):
        facts(odd)


def test_an_invalid_time_of_an_audit_counts_as_never() -> None:
    at = point(1)
    odd = entry("t", at, stored("t"))
    assert odd.watermark is not None
    marks = tuple(replace(mark, audited="99999999999999Z") for mark in odd.watermark.chunks)
    whole = manifest("r1", at, replace(odd, watermark=replace(odd.watermark, chunks=marks)))
    assert [one.day for one in read_days(whole)] == [""]


def test_another_number_of_nights_reads_again() -> None:
    ledger = quick_ledger(MemoryStorage())
    for number in range(4):
        commit(ledger, f"r{number}", number)
    two = read_history(ledger, 2)
    assert len(two.runs) == 2 and len(read_history(ledger, 3, two).runs) == 3


def test_a_history_of_many_tables_stays_small() -> None:
    teller, _ = told(4, many_tables(2000))
    history = read_history(teller.ledger, 60)
    assert size_of(history) < 2000 * 150


def size_of(history: StateHistory) -> int:
    names: Any = {id(run.names): len(run.names) for run in history.runs}
    return len(history.tables) + sum(len(run.states) + len(run.news) for run in history.runs) + sum(names.values())


def test_the_key_of_a_run_is_that_of_its_manifest() -> None:
    teller, _ = told(2, many_tables(1))
    run = read_history(teller.ledger, 9).runs[0]
    assert run.key == manifest_key(run.run_id)
