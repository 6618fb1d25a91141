"""The versions that a history lacks, and the types of its columns. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from fix_cli import entry, manifest
from floodmark.load.history import TakenHistory, common_type, gone_histories, merged_columns, missed_versions
from floodmark.model import TableName
from floodmark.reader.reader import Snapshot
from floodmark.storage.memory import MemoryStorage


def snapshot(day: int, checksum: str | None, changed: int, status: Any = "extracted") -> Snapshot:
    """A run on a day with one table, whose content is from the day `changed`."""
    made = entry("thing", status)
    made = replace(made, checksum=checksum, changed_at=f"2026-11-{changed:02}T01:00:00.5Z")
    whole = manifest(made)
    point = replace(whole.source.snapshot, taken_at=f"2026-11-{day:02}T01:00:00Z")
    source = replace(whole.source, snapshot=point)
    return Snapshot(replace(whole, run_id=f"run-{day:02}", source=source), MemoryStorage())


def versions(taken_run: str, *snapshots: Snapshot, moment: int = 1) -> list[tuple[str, int, bool]]:
    """Run, day and whether it has rows, of each version that is missed."""
    name = snapshots[0].manifest.tables[0].table
    taken = TakenHistory(taken_run, datetime(2026, 11, moment, 1, 0, 0, 500_000, tzinfo=UTC), "a", "shape")
    found = missed_versions({name: taken}, snapshots[::-1])[name]
    return [(one.run_id, one.moment.day, one.table is not None) for one in found]


def test_each_content_counts_once_from_the_run_after_the_one_that_was_taken() -> None:
    days = [snapshot(1, "a", 1), snapshot(2, "a", 1), snapshot(3, "b", 3), snapshot(4, "b", 3), snapshot(5, "c", 5)]
    assert versions("run-01", *days) == [("run-04", 3, True), ("run-05", 5, True)]
    assert versions("run-05", *days) == []
    assert versions("run-02", *days, moment=9) == [("run-04", 3, True), ("run-05", 5, True)], "the clock went back"


def test_a_drop_between_two_equal_contents_is_a_version() -> None:
    days = [snapshot(1, "a", 1), snapshot(2, "a", 1, "dropped"), snapshot(3, "a", 3)]
    assert versions("run-01", *days) == [("run-02", 2, False), ("run-03", 3, True)]


def test_if_the_run_was_pruned_the_moment_tells() -> None:
    days = [snapshot(3, "b", 3), snapshot(4, "c", 4)]
    assert versions("run-01", *days, moment=3) == [("run-04", 4, True)]


@pytest.mark.parametrize(
    ("old", "new", "common"),
    [
        ("INTEGER", "INTEGER", "INTEGER"),
        ("BIGINT", "SMALLINT", "BIGINT"),
        ("DECIMAL(10,2)", "DECIMAL(8,4)", "DECIMAL(12,4)"),
        ("DECIMAL(38,0)", "DECIMAL(38,10)", "VARCHAR"),
        ("INTEGER", "DECIMAL(10,2)", "DECIMAL(12,2)"),
        ("BIGINT", "DECIMAL(38,20)", "VARCHAR"),
        ("FLOAT", "DOUBLE", "DOUBLE"),
        ("BIGINT", "DOUBLE", "VARCHAR"),
        ("DATE", "TIMESTAMP", "VARCHAR"),
    ],
)
def test_a_type_that_holds_both(old: str, new: str, common: str) -> None:
    assert common_type(old, new) == common_type(new, old) == common


def test_columns_that_are_gone_stay_and_new_ones_come_last() -> None:
    assert merged_columns([("a", "INTEGER"), ("b", "DATE")], [("c", "DATE"), ("a", "BIGINT")]) == [
        ("a", "BIGINT"),
        ("b", "DATE"),
        ("c", "DATE"),
    ]


def test_only_histories_with_current_rows_are_closed() -> None:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    names = [TableName("s", name) for name in "abc"]
    taken = dict(zip(names, [TakenHistory("r", moment, check, None) for check in ("x", None, "x")], strict=True))
    assert gone_histories(taken, {names[2]}) == [names[0]]
