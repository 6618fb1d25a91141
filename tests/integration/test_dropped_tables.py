"""A table that is no table of its own any more has one `dropped` entry, whatever has its name now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fix_command import Floodmark
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.pipeline.entries import carried_over

TABLES = """
    CREATE TABLE day (id int, v text); INSERT INTO day SELECT i, 'v' FROM generate_series(1, 900) i;
    CREATE TABLE other (id int, v text); INSERT INTO other VALUES (1, 'o');
    CREATE TABLE parent (id int, v text) PARTITION BY RANGE (id);
    CREATE TABLE first_leaf PARTITION OF parent FOR VALUES FROM (-9) TO (0); INSERT INTO parent VALUES (-1, 'p')
"""
RENAMED = "ALTER TABLE day RENAME TO day_was; "
ACTS = {
    "a partition": ("ALTER TABLE parent ATTACH PARTITION day DEFAULT", "a partition of public.parent"),
    "a partition below another": (
        "CREATE TABLE below PARTITION OF parent DEFAULT PARTITION BY LIST (id); "
        "ALTER TABLE below ATTACH PARTITION day DEFAULT",
        "a partition of public.below",
    ),
    "a view": (f"{RENAMED}CREATE VIEW day AS SELECT * FROM day_was", "a view"),
    "a materialized view": (f"{RENAMED}CREATE MATERIALIZED VIEW day AS SELECT * FROM day_was", "a materialized view"),
    "an extension's": ("ALTER EXTENSION plpgsql ADD TABLE day", "part of an extension"),
}
NOTHING_LEFT = {
    "dropped": "DROP TABLE day",
    "a sequence": "DROP TABLE day; CREATE SEQUENCE day",
    "a type": "DROP TABLE day; CREATE TYPE day AS (id int)",
    "an index": "DROP TABLE day; CREATE INDEX day ON other (id)",
}


def labels(job: Nightly) -> set[str]:
    assert job.last is not None
    return {entry.table.label for entry in job.last.tables}


@pytest.mark.parametrize("act", ACTS)
def test_a_table_that_became_something_else_is_dropped_once(nightly: Nightly, act: str) -> None:
    database, (statements, what) = nightly.database, ACTS[act]
    database.execute(TABLES)
    nightly.run()
    before = nightly.entry("public.day")
    database.execute(statements)
    code = "attached" if "partition" in act else "dropped"
    assert nightly.plan()["public.day"].reason.code == code
    nightly.run()
    entry = nightly.entry("public.day")
    assert nightly.outcome("public.day") == ("dropped", code)
    assert ("no longer exists" in entry.reason.detail) == (code == "dropped")
    assert (entry.checksum, entry.objects, entry.watermark) == (before.checksum, before.objects, None)
    assert f"public.day is {what} now" in entry.reason.detail
    if "partition" in act:
        assert nightly.outcome("public.parent")[0] == "extracted" and nightly.entry("public.parent").rows == 901
        nightly.require_truth("public.parent")
    nightly.run()
    assert "public.day" not in labels(nightly)


@pytest.mark.parametrize("act", NOTHING_LEFT)
def test_what_only_has_the_name_is_no_table(nightly: Nightly, act: str) -> None:
    nightly.database.execute(TABLES)
    nightly.run()
    nightly.database.execute(NOTHING_LEFT[act])
    nightly.run()
    assert nightly.outcome("public.day") == ("dropped", "dropped")
    assert nightly.entry("public.day").reason.detail == "the table no longer exists in the source"


def test_a_partition_that_is_detached_again_begins_anew(nightly: Nightly) -> None:
    database = nightly.database
    database.execute(TABLES)
    nightly.run()
    database.execute("ALTER TABLE parent ATTACH PARTITION day DEFAULT")
    nightly.run()
    database.execute("ALTER TABLE parent DETACH PARTITION day")
    nightly.run()
    assert nightly.outcome("public.day") == ("extracted", "first_run")
    nightly.require_truth()


LEFT_OUT: dict[str, dict[str, Any]] = {
    "excluded": {"exclude": ("day",)},
    "not included": {"include": ("public.other", "parent")},
    "left out of this run": {"skip": ("day",)},
}


@pytest.mark.parametrize("how", LEFT_OUT)
def test_what_the_configuration_leaves_out_is_not_dropped(nightly: Nightly, how: str) -> None:
    nightly.database.execute(TABLES)
    nightly.run()
    before = nightly.entry("public.day")
    nightly.run(**LEFT_OUT[how])
    if how == "left out of this run":
        assert nightly.entry("public.day") == carried_over(before)
    else:
        assert "public.day" not in labels(nightly)


def test_an_extensions_table_that_is_left_out_is_not_dropped(nightly: Nightly) -> None:
    nightly.database.execute(TABLES)
    nightly.run()
    nightly.database.execute(ACTS["an extension's"][0])
    nightly.run(exclude=("day",))
    assert "public.day" not in labels(nightly)


def test_a_view_that_is_named_no_more_is_not_dropped(nightly: Nightly) -> None:
    nightly.database.execute(TABLES + "; CREATE VIEW seen AS SELECT id FROM other")
    nightly.run(include=("*", "seen"))
    assert nightly.outcome("public.seen") == ("extracted", "first_run")
    nightly.run(include=("*",))
    assert labels(nightly) == {"public.day", "public.other", "public.parent"}


def test_consumers_take_it_for_dropped(pg: PgDatabase, tmp_path: Path) -> None:
    job = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")})
    pg.execute(TABLES)
    load = ("load", "--into", f"duckdb:{tmp_path / 'file.duckdb'}", "--drop", "--output", "json")
    deliver = ("deliver", "--to", str(tmp_path / "zone"), "--output", "json")
    job("run")
    job(*load)
    job(*deliver)
    pg.execute("ALTER TABLE parent ATTACH PARTITION day DEFAULT")
    assert job.run().outcomes["public.day"] == ("dropped", "attached")
    assert {one["name"]: one["status"] for one in job(*load).json["tables"]} == {
        "day": "dropped", "other": "unchanged", "parent": "loaded"
    }  # fmt: skip
    (delivery,) = job(*deliver).json["deliveries"]
    assert {one["name"]: one["status"] for one in delivery["tables"]}["day"] == "gone"
    assert "public.day" not in job.run().outcomes
