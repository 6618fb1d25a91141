"""Domains: what a manifest says lies beneath one, and that consumers have its values as that type."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from jsonschema import Draft202012Validator
from msgspec import UNSET
from test_load import TARGETS, held

import floodmark
from fix_catalog import read_catalog
from fix_load import FIRST, Job, ask, unchanged
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.config import ColumnRule, Selection, TableRule
from floodmark.model import Column
from floodmark.reader.reader import Table
from floodmark.reader.schema import json_schemas, mojap

TYPES = """
    CREATE TYPE colour AS ENUM ('red', 'green'); CREATE TYPE pair AS (x int, y text);
    CREATE DOMAIN amount AS numeric(12,2); CREATE DOMAIN price AS amount CHECK (VALUE >= 0);
    CREATE DOMAIN cost AS price NOT NULL; CREATE DOMAIN whole AS int; CREATE DOMAIN word AS varchar(9);
    CREATE DOMAIN note AS text; CREATE DOMAIN list AS int[]; CREATE DOMAIN prices AS price[];
    CREATE DOMAIN hue AS colour; CREATE DOMAIN couple AS pair; CREATE DOMAIN doc AS json; CREATE DOMAIN docb AS jsonb;
    CREATE DOMAIN flag AS boolean; CREATE DOMAIN day AS date; CREATE DOMAIN moment AS timestamptz(3);
    CREATE DOMAIN real8 AS float8; CREATE DOMAIN digest AS bytea; CREATE DOMAIN wide AS numeric(60,2)"""
# column → the domain in the manifest, what lies beneath, the type in DuckDB and in Arrow
COLUMNS = {
    "amount": ("public.amount", "numeric(12,2)", "DECIMAL(12,2)", "decimal128(12, 2)"),
    "price": ("public.price", "numeric(12,2)", "DECIMAL(12,2)", "decimal128(12, 2)"),
    "cost": ("public.cost", "numeric(12,2)", "DECIMAL(12,2)", "decimal128(12, 2)"),
    "whole": ("public.whole", "integer", "INTEGER", "int32"),
    "word": ("public.word", "character varying(9)", "VARCHAR", "string"),
    "note": ("public.note", "text", "VARCHAR", "string"),
    "list": ("public.list", "integer[]", "JSON", "string"),
    "prices": ("public.prices", "public.price[]", "JSON", "string"),
    "hue": ("public.hue", "public.colour", "VARCHAR", "string"),
    "couple": ("public.couple", "public.pair", "VARCHAR", "string"),
    "doc": ("public.doc", "json", "JSON", "string"),
    "docb": ("public.docb", "jsonb", "JSON", "string"),
    "flag": ("public.flag", "boolean", "BOOLEAN", "bool"),
    "day": ("public.day", "date", "DATE", "date32[day]"),
    "moment": ("public.moment", "timestamp(3) with time zone", "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]"),
    "real8": ("public.real8", "double precision", "DOUBLE", "double"),
    "digest": ("public.digest", "bytea", "BLOB", "binary"),
    "wide": ("public.wide", "numeric(60,2)", "VARCHAR", "string"),
}
TABLE = f"""{TYPES};
    CREATE TABLE told (id int, {", ".join(f"{name} {name}" for name in COLUMNS)}, among price[]);
    INSERT INTO told VALUES
      (1, 9999999999.99, 1.5, 0.10, -2147483648, 'äöü', '12', '{{1,NULL}}', '{{1.50,2}}', 'red', '(1,"a b")', '"s"',
       '{{"a": 1.10}}', true, '2026-11-28', '2026-07-01 12:00:00.125+01', '-0', '\\x00ff', 1e50, '{{1.5}}'),
      (2, -0.01, 0, 7, 0, '', '', '{{}}', '{{}}', 'green', NULL, '[1.10]', 'null', false, '0044-03-15',
       '1600-02-29 0:00Z', 0.1, '', -1, NULL),
      (3, NULL, NULL, 0, {", ".join(["NULL"] * 16)})"""
# What a consumer holds where PostgreSQL's own value is another kind of Python's.
AS_JSON = {
    "list": ("[1,null]", "[]"),
    "prices": ("[1.50,2.00]", "[]"),
    "couple": ('{"x":1,"y":"a b"}', None),
    "doc": ('"s"', "[1.10]"),
    "docb": ('{"a": 1.10}', None),
    "wide": ("1" + "0" * 50 + ".00", "-1.00"),
    "among": ("[1.50]", None),
}


@pytest.fixture
def told(nightly: Nightly) -> Table:
    nightly.database.execute(TABLE)
    nightly.run()
    nightly.require_truth()
    return floodmark.open(str(nightly.folder)).latest()["told"]


def truth(database: PgDatabase) -> list[tuple[Any, ...]]:
    """What PostgreSQL says, each domain cast to the type that stands in COLUMNS."""
    cast = ", ".join(f"{name}::{beneath}" for name, (_, beneath, _, _) in COLUMNS.items())
    with psycopg.connect(database.dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(f"SELECT id, {cast}, among FROM told ORDER BY id").fetchall()
    names = ("id", *COLUMNS, "among")
    return [
        tuple(
            (*AS_JSON[name], None)[number] if name in AS_JSON else value for name, value in zip(names, row, strict=True)
        )
        for number, row in enumerate(rows)
    ]


def without_bases(folder: Path) -> None:
    """The manifest as a Floodmark wrote them that told no base types."""
    state = folder / "_floodmark"
    head = json.loads((state / "head.json").read_bytes())
    manifest = state / head["manifest"]
    document = json.loads(manifest.read_bytes())
    for table in document["tables"]:
        for column in table["columns"]:
            column.pop("base", None)
    manifest.write_text(json.dumps(document))
    head["manifest_sha256"] = hashlib.sha256(manifest.read_bytes()).hexdigest()
    (state / "head.json").write_text(json.dumps(head))


def test_the_manifest_says_what_lies_beneath_a_domain_and_beneath_nothing_else(told: Table) -> None:
    found = {column.name: (column.type, column.base) for column in told.columns}
    assert found == {
        "id": ("integer", UNSET),
        **{name: (kind, beneath) for name, (kind, beneath, _, _) in COLUMNS.items()},
        "among": ("public.price[]", UNSET),
    }
    assert all(column.nullable for column in told.columns), "the column may be null where its domain may not"


def test_every_version_of_postgresql_says_it(pg_any: PgDatabase) -> None:
    pg_any.execute(f"{TYPES}; CREATE TABLE t (a cost NOT NULL, b list, c int)")
    assert read_catalog(pg_any)["public.t"].info.columns == (
        Column("a", "public.cost", False, "numeric(12,2)"),
        Column("b", "public.list", True, "integer[]"),
        Column("c", "integer", True),
    )


def test_a_mask_leaves_no_base(pg: PgDatabase) -> None:
    pg.execute(f"{TYPES}; CREATE TABLE t (a amount)")
    rules = {"t": TableRule(columns=ColumnRule(mask={"a": "redact"}))}
    assert read_catalog(pg, Selection(rules=rules))["public.t"].info.columns == (Column("a", "text", True),)


def test_arrow_and_duckdb_hold_what_postgresql_holds(told: Table, nightly: Nightly) -> None:
    expected = truth(nightly.database)
    table = told.arrow().read_all()
    assert [str(field.type) for field in table.schema][1:-1] == [arrow for _, _, _, arrow in COLUMNS.values()]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = told.relation(connection)
        assert [str(kind) for kind in found.types][1:-1] == [kind for _, _, kind, _ in COLUMNS.values()]
        rows = found.fetchall()
    assert [_in_utc(row) for row in rows] == [_in_utc(row) for row in expected]


def _in_utc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.astimezone(UTC) if hasattr(one, "astimezone") else one for one in row)


def test_rows_have_the_values_of_the_type_beneath(told: Table) -> None:
    first, second, last = told.rows()
    numerics = [(type(row[name]), row[name]) for row in (first, second) for name in ("amount", "price", "cost", "wide")]
    assert numerics == [
        (Decimal, Decimal(text)) for text in ("9999999999.99", "1.50", "0.10", "1e50", "-0.01", "0.00", "7.00", "-1.00")
    ]
    assert (first["whole"], first["flag"], first["list"], first["doc"]) == (-(2**31), True, [1, None], "s")
    assert str(first["real8"]) == "-0.0" and first["moment"] == "2026-07-01T11:00:00.125+00:00"
    assert first["prices"] == [1.5, 2.0] and first["among"] == [1.5], "within an array a number is as it was"
    assert set(last.values()) == {3, Decimal(0), None}


def test_the_documents_for_others_go_by_the_type_beneath(told: Table, nightly: Nightly) -> None:
    assert nightly.last is not None
    (document,) = mojap(nightly.last)
    found = {column["name"]: column for column in document["columns"]}
    assert [found[name]["type"] for name in ("amount", "cost", "whole", "note", "moment", "list")] == [
        "decimal128(12,2)", "decimal128(12,2)", "int32", "string", "timestamp(us)", "string",
    ]  # fmt: skip
    assert found["moment"]["datetime_format"] == "ISO8601" and found["amount"]["description"].startswith(
        "public.amount"
    )
    (schema,) = json_schemas(nightly.last)
    check = Draft202012Validator(schema)
    lines = [json.loads(line) for line in told.lines()]
    assert all(check.is_valid(line) for line in lines)
    for name, wrong in {
        "amount": "1",
        "whole": 2**31,
        "word": "0123456789",
        "flag": "t",
        "day": "28.11.",
        "note": 1,
    }.items():
        assert not check.is_valid({**lines[0], name: wrong}), name


def test_a_not_null_column_of_a_domain_over_json_may_hold_a_null(nightly: Nightly) -> None:
    nightly.database.execute(f"{TYPES}; CREATE TABLE t (d doc NOT NULL); INSERT INTO t VALUES ('null')")
    nightly.run()
    assert nightly.last is not None
    assert mojap(nightly.last)[0]["columns"][0]["nullable"] is True


def test_an_upgrade_reads_nothing_anew_and_says_so(nightly: Nightly) -> None:
    """A run over a manifest that names no base types: the proof holds, and the entry names them from now on."""
    nightly.database.execute(f"{TABLE}; CREATE TABLE plain (a int); INSERT INTO plain VALUES (1)")
    nightly.run()
    before = {label: nightly.entry(label) for label in ("public.told", "public.plain")}
    taken = floodmark.open(str(nightly.folder)).latest()
    without_bases(nightly.folder)
    old = floodmark.open(str(nightly.folder)).latest()
    assert {column.base for column in old["told"].columns} == {UNSET}
    result = nightly.run()
    assert nightly.outcomes() == dict.fromkeys(before, ("unchanged", "unchanged"))
    assert result.uploaded_bytes == 0
    for label, entry in before.items():
        now = nightly.entry(label)
        assert (now.columns, now.fingerprint, now.objects[0].key) == (
            entry.columns,
            entry.fingerprint,
            entry.objects[0].key,
        )
        assert (now.changed_at, now.changed_by) == (entry.changed_at, entry.changed_by)
    now_read = floodmark.open(str(nightly.folder)).latest()
    (change,) = now_read.changes(old).changed
    assert change.table.label == "public.told" and change.whole, "a consumer who took it as text takes it anew"
    assert not now_read.changes(taken)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_that_holds_text_gets_the_table_anew_and_once(job: Job, tmp_path: Path, kind: str) -> None:
    job.night(f"{TYPES}; CREATE TABLE paid (id int, sum price, n note)")
    job.night("INSERT INTO paid VALUES (1, 1.50, 'x'), (2, NULL, NULL)")
    target = TARGETS[kind](tmp_path)
    without_bases(job.landing)
    assert job.load(target)["public.paid"] == "loaded"
    assert held(target, "public.paid") == [(1, "1.50", "x"), (2, None, None)]
    job.night("SELECT 1")
    assert job.load(target) == {**unchanged(FIRST), "public.paid": "loaded"}
    assert held(target, "public.paid") == [(1, Decimal("1.50"), "x"), (2, None, None)]
    assert set(job.load(target).values()) == {"unchanged"}


def test_another_domain_of_the_same_name_is_another_type(nightly: Nightly) -> None:
    nightly.database.execute(f"{TYPES}; CREATE TABLE t (a amount); INSERT INTO t VALUES (1.50)")
    nightly.run()
    before = nightly.entry("public.t")
    nightly.database.execute(
        "ALTER TABLE t ALTER a TYPE numeric(14,2); DROP DOMAIN amount CASCADE; CREATE DOMAIN amount AS numeric(14,2);"
        "ALTER TABLE t ALTER a TYPE amount"
    )
    nightly.run()
    now = nightly.entry("public.t")
    assert nightly.outcome("public.t") == ("extracted", "schema_changed")
    assert "type changed: a (public.amount, numeric(12,2) to public.amount, numeric(14,2))" in now.reason.detail
    assert now.checksum == before.checksum and now.changed_at == now.as_of != before.changed_at


def test_a_column_may_still_be_loaded_as_text(job: Job, tmp_path: Path) -> None:
    job.night(f"{TYPES}; CREATE TABLE paid (sum amount, d doc); INSERT INTO paid VALUES (1.50, '\"s\"')")
    file = tmp_path / "cases.duckdb"
    job.load(f"duckdb:{file}", "--text", "public.paid.sum", "--text", "public.paid.d")
    assert ask(file, "SELECT typeof(sum), sum, typeof(d), d FROM public.paid") == [("VARCHAR", "1.50", "VARCHAR", "s")]
