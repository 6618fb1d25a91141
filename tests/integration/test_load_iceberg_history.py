"""`load --history --into iceberg:`, as PyIceberg reads what it made. The oracle of `test_load_history` knows it too."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField
from test_load_iceberg import TYPES, normal

from fix_iceberg import INTO, NAMESPACE, Warehouse
from fix_load import Job
from floodmark.load import iceberg_expiry


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


class Histories:
    """A job's tables with their histories, as PyIceberg reads them."""

    def __init__(self, job: Job, warehouse: Warehouse) -> None:
        self.job, self.warehouse = job, warehouse

    def load(self, *arguments: str, code: int = 0) -> dict[str, str]:
        return self.job.load(INTO, *self.warehouse.options, "--history", *arguments, code=code)

    def rows(self, name: str, *, current: bool) -> list[tuple[Any, ...]]:
        """The rows without the history's own columns."""
        found = [row for row in self.warehouse.rows(f"{name}_history") if row[-1] is current]
        assert all((row[-2] is None) is current and row[-3] is not None for row in found)
        return [row[:-3] for row in found]

    def files(self, name: str, *, current: bool) -> set[str]:
        tasks = self.warehouse.table(f"{name}_history").scan(row_filter=f"is_current = {current}").plan_files()
        assert all(task.file.partition[0] is current for task in tasks)
        return {task.file.file_path for task in tasks}

    def types(self, name: str) -> dict[str, str]:
        return {one.name: str(one.field_type) for one in self.warehouse.table(f"{name}_history").schema().fields}


@pytest.fixture
def histories(job: Job, warehouse: Warehouse) -> Histories:
    return Histories(job, warehouse)


def test_every_type_and_every_change_of_columns(histories: Histories) -> None:
    job, warehouse = histories.job, histories.warehouse
    job.night(TYPES)
    only = [word for name in ("kinds", "nothing", "ancient", "endless") for word in ("--table", name)]
    assert histories.load(*only, code=3)["public.endless"] == "failed", "an infinite date is as impossible in a history"
    assert warehouse.names() == [one + end for one in ("ancient", "kinds", "nothing") for end in ("", "_history")]
    assert warehouse.rows("nothing_history") == [] and not histories.files("nothing", current=True)
    assert normal(histories.rows("kinds", current=True)) == normal(warehouse.rows("kinds"))
    assert histories.types("kinds") == {
        **{one.name: str(one.field_type) for one in warehouse.table("kinds").schema().fields},
        **{"valid_from": "timestamptz", "valid_to": "timestamptz", "is_current": "boolean"},
    }
    before = warehouse.rows("kinds")
    job.night(
        "UPDATE kinds SET b = NULL WHERE s IS NOT NULL; INSERT INTO nothing VALUES (1, 'x'); UPDATE ancient SET e = 2"
    )
    histories.load(*only, "--exclude", "endless")
    assert normal(histories.rows("kinds", current=True)) == normal(warehouse.rows("kinds"))
    assert normal(histories.rows("kinds", current=False)) == normal([row for row in before if row[0] is not None])
    assert histories.rows("nothing", current=True) == [(1, "x")]
    days = warehouse.table("ancient_history").scan(selected_fields=("d", "is_current")).to_arrow()
    assert sorted(days.column("d").cast("int32").to_pylist()) == [-735160, -735160, 20454, 20454]
    closed = histories.files("kinds", current=False)
    job.night(
        "ALTER TABLE kinds ALTER n TYPE numeric(12,2), ALTER i TYPE bigint, ADD extra text, DROP v;"
        "UPDATE kinds SET extra = 'new' WHERE s = 1"
    )
    histories.load("--table", "kinds")
    assert closed < histories.files("kinds", current=False), "Iceberg reads them in the wider types"
    types = histories.types("kinds")
    assert (types["n"], types["i"], types["extra"]) == ("decimal(12, 2)", "long", "string")
    assert list(types)[-3:] == ["valid_from", "valid_to", "is_current"] and "v" in types
    assert len(histories.rows("kinds", current=True)) == 3 and len(histories.rows("kinds", current=False)) == 3
    then = warehouse.table("kinds_history").metadata.current_snapshot_id
    whole = warehouse.rows("kinds_history")
    job.night("ALTER TABLE kinds ALTER i TYPE text, ALTER n TYPE numeric(14,4); UPDATE kinds SET t = 't' WHERE s = 1")
    histories.load("--table", "kinds")
    types = histories.types("kinds")
    assert (types["n"], types["i"]) == ("decimal(14, 4)", "string")
    assert not closed & histories.files("kinds", current=False), "Iceberg can't read them in these types"
    names = list(types)
    i, n = names.index("i"), names.index("n")
    numbers = sorted((str(row[i]), row[n]) for row in histories.rows("kinds", current=False))
    assert numbers == [("-1", Decimal("0.0000"))] * 3 + [("2147483647", Decimal("-99999999.9900"))]
    assert normal(warehouse.rows("kinds_history", then)) == normal(whole), "time travel, in the types of that time"


def test_names_and_tables_of_others(histories: Histories) -> None:
    job, warehouse = histories.job, histories.warehouse
    catalog = warehouse.catalog
    catalog.create_namespace(NAMESPACE)
    schema = Schema(NestedField(1, "mine", LongType(), required=False))
    catalog.create_table((NAMESPACE, "empty_history"), schema)
    job.night('CREATE TABLE big_history (id int); CREATE TABLE odd (a int, "Valid_To" int)')
    assert {name for name, status in histories.load(code=3).items() if status == "failed"} == {
        *("public.big", "public.empty", "public.odd")
    }
    said = job.refused(INTO, *warehouse.options, "--history", code=3)
    assert "cases.empty_history: Floodmark did not make it" in said and "a landed table is called public.big_h" in said
    assert "it has a column Valid_To" in said and warehouse.rows("empty_history") == []
    assert {"big", "empty", "odd"}.isdisjoint(warehouse.names()), "a table does not come without its history"
    job.night("DROP TABLE odd, big_history; UPDATE person SET name = 'Eve' WHERE id = 2")
    said = job.refused(INTO, *warehouse.options, "--history", "--exclude", "empty", code=3)
    assert "an earlier load loaded public.big_history, which is gone since" in said
    histories.load("--exclude", "empty", "--drop", code=3)
    assert histories.load("--exclude", "empty")["public.big"] == "loaded"
    assert [row[1] for row in histories.rows("person", current=False)] == [None]
    history = warehouse.table("person_history")
    history.delete("id = 1")
    assert set(histories.load("--exclude", "empty").values()) == {"unchanged"}
    job.night("DELETE FROM person")
    old = warehouse.rows("person")
    said = job.refused(INTO, *warehouse.options, "--history", "--table", "person", code=3)
    assert "can't continue a history: cases.person_history: someone changed its rows" in said
    assert warehouse.rows("person") == old, "it keeps its old rows"
    assert job.load(INTO, *warehouse.options, "--table", "person") == {"public.person": "loaded"}
    catalog.rename_table((NAMESPACE, "person_history"), (NAMESPACE, "mine"))
    histories.load("--table", "person")
    assert warehouse.rows("person_history") == [] and len(warehouse.rows("mine")) == 2
    warehouse.table("person_history").transaction().set_properties(
        {"floodmark.history-format": "9"}
    ).commit_transaction()
    assert "its version 9 is not known" in job.refused(INTO, *warehouse.options, "--history", code=13)


def test_old_snapshots_expire(histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    job, warehouse = histories.job, histories.warehouse
    monkeypatch.setattr(iceberg_expiry, "_KEPT", datetime.timedelta(0))
    for name in ("a", "b", "c", "d"):
        job.night(f"UPDATE person SET name = '{name}' WHERE id = 1")
        assert histories.load("--table", "person", "--keep-snapshots", "1") == {"public.person": "loaded"}
    history = warehouse.table("person_history")
    assert len(history.snapshots()) == 1 and [row[1] for row in histories.rows("person", current=False)] == [
        "a",
        "b",
        "c",
    ]
    data = {str(path) for path in (warehouse.folder / "cases/person_history/data").rglob("*.parquet")}
    assert data == warehouse.files("person_history") and len(data) == 4, "the files of closed rows stay"
    assert history.properties["floodmark.run-id"] == job.run_id

    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert "the package duckdb is not installed" in job.refused(INTO, *warehouse.options, "--history", code=10)
