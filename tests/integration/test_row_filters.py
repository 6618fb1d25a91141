"""A filter may name the table that its columns belong to, however the table is stored and read."""

from __future__ import annotations

from typing import Any

import pytest
from isal import igzip

from fix_runs import Nightly
from floodmark.config import TableRule
from floodmark.errors import ConfigError
from floodmark.model import Format

FILL = "INSERT INTO {} SELECT i, 'v' || i FROM generate_series(1, 1000) i"
SHAPES = {
    "narrow": "CREATE TABLE t (id int, v text); " + FILL.format("t"),
    "TOASTed": "CREATE TABLE t (id int, v text); " + FILL.format("t") + "; "
    "INSERT INTO t SELECT 5000, string_agg(md5(i::text), '') FROM generate_series(1, 400) i",
    "partitioned": "CREATE TABLE t (id int, v text) PARTITION BY RANGE (id); "
    "CREATE TABLE leaf PARTITION OF t FOR VALUES FROM (0) TO (500); "
    "CREATE TABLE below PARTITION OF t FOR VALUES FROM (500) TO (9999) PARTITION BY RANGE (id); "
    'CREATE TABLE "found" PARTITION OF below FOR VALUES FROM (500) TO (9999); ' + FILL.format("t"),
}
# The names that copy_groups gives, as names of tables and columns.
NAMES = (
    "r",
    "found",
    "first",
    "floodmark row",
    "floodmark group",
    *(f"floodmark {what} {i}" for what in ("group", "number", "found", "row") for i in (0, 1)),
)


def rules(where: str, table: str = "public.t") -> dict[str, Any]:
    return {"rules": {table: TableRule(where=where)}}


def landed(job: Nightly, label: str) -> list[bytes]:
    """All lines of a table; a CSV object's header is one of them."""
    objects = job.entry(label).objects
    return [line for one in objects for line in igzip.decompress((job.folder / one.key).read_bytes()).splitlines()]


@pytest.mark.parametrize("row_format", ["jsonl", "csv"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_filter_may_be_qualified_by_the_tables_name(nightly: Nightly, shape: str, row_format: Format) -> None:
    nightly.database.execute(SHAPES[shape])
    nightly.run(format=row_format, **rules("id > 400 AND v IS NOT NULL"))
    bare = landed(nightly, "public.t")
    assert len(bare) >= 600
    nightly.run(format=row_format, **rules("t.id > 400 AND (t).v IS NOT NULL AND t IS NOT NULL"))
    assert nightly.outcome("public.t") == ("unchanged", "identical")
    assert landed(nightly, "public.t") == bare


@pytest.mark.parametrize("shape", ["narrow", "TOASTed"])
def test_a_filter_may_be_qualified_by_schema_and_table(nightly: Nightly, shape: str) -> None:
    nightly.database.execute(SHAPES[shape])
    nightly.run(**rules("id > 400"))
    nightly.run(**rules("public.t.id > 400"))
    assert nightly.outcome("public.t") == ("unchanged", "identical")


@pytest.mark.parametrize("partitioned", [False, True])
def test_no_name_of_ours_takes_the_place_of_a_users(nightly: Nightly, partitioned: bool) -> None:
    """Tables and columns have the names that the statements use inside; a column of each table is a row in itself."""
    database = nightly.database
    database.execute("CREATE TYPE pair AS (id int, ctid int)")
    columns = ", ".join(f'"{name}" int' for name in NAMES if name != "r")
    wheres = {}
    for name in NAMES:
        by = "PARTITION BY RANGE (id)" if partitioned else ""
        database.execute(f'CREATE TABLE "{name}" (id int, {columns}, r pair) {by}')
        if partitioned:
            other = NAMES[(NAMES.index(name) + 1) % len(NAMES)]
            database.execute(f'CREATE SCHEMA "of {name}"')
            database.execute(f'CREATE TABLE "of {name}"."{other}" PARTITION OF "{name}" DEFAULT')
        database.execute(
            f'INSERT INTO "{name}" (id, "first", r) SELECT i, i, ROW(i, 7)::pair FROM generate_series(1, 99) i'
        )
        wheres[f'public."{name}"'] = TableRule(where=f'"{name}".id > 90 AND "first" > 90 AND ("{name}".r).ctid = 7')
    nightly.run()
    nightly.require_truth()
    nightly.run(rules=wheres)
    assert {nightly.entry(f"public.{name}").rows for name in NAMES} == {9}
    for name in NAMES:
        assert (
            b'"id":91,' in nightly.landed(f"public.{name}")[0]
            and b'"r":{"id":91,"ctid":7}' in landed(nightly, f"public.{name}")[0]
        )


def test_a_filter_reaches_no_name_that_only_the_statement_has(nightly: Nightly) -> None:
    """Else a filter on a column that is gone would be taken for one on a number of ours."""
    nightly.database.execute(SHAPES["narrow"])
    for name in NAMES:
        with pytest.raises(ConfigError, match="a column that the table does not have"):
            nightly.plan(**rules(f'"{name}" IS NOT NULL'))
