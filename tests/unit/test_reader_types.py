"""What types become with consumers, and PostgreSQL's dates as numbers."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.model import Column
from floodmark.reader.changes import columns_digest
from floodmark.reader.moments import NoCounterpart, parse_days, parse_microseconds
from floodmark.reader.types import ColumnType, column_type, json_schema

# type in the manifest → kind, Arrow, DuckDB, Glue, mojap
TYPES = {
    "smallint": ("int16", "int16", "SMALLINT", "smallint", "int16"),
    "integer": ("int32", "int32", "INTEGER", "int", "int32"),
    "bigint": ("int64", "int64", "BIGINT", "bigint", "int64"),
    "numeric(12,2)": ("decimal", "decimal128(12, 2)", "DECIMAL(12,2)", "decimal(12,2)", "decimal128(12,2)"),
    "numeric": ("decimal", "decimal128(38, 10)", "DECIMAL(38,10)", "decimal(38,10)", "decimal128(38,10)"),
    "numeric(3,-2)": ("decimal", "decimal128(5, 0)", "DECIMAL(5,0)", "decimal(5,0)", "decimal128(5,0)"),
    "numeric(2,5)": ("decimal", "decimal128(5, 5)", "DECIMAL(5,5)", "decimal(5,5)", "decimal128(5,5)"),
    "numeric(39,2)": ("digits", "string", "VARCHAR", "string", "string"),
    "real": ("float32", "float", "FLOAT", "float", "float32"),
    "double precision": ("float64", "double", "DOUBLE", "double", "float64"),
    "boolean": ("bool", "bool", "BOOLEAN", "boolean", "bool"),
    "date": ("date", "date32[day]", "DATE", "date", "date32"),
    "timestamp(3) without time zone": ("timestamp", "timestamp[us]", "TIMESTAMP", "timestamp", "timestamp(us)"),
    "timestamp with time zone": (
        "timestamptz",
        "timestamp[us, tz=UTC]",
        "TIMESTAMP WITH TIME ZONE",
        "timestamp",
        "timestamp(us)",
    ),
    "time without time zone": ("time", "string", "TIME", "string", "string"),
    "time(0) with time zone": ("text", "string", "VARCHAR", "string", "string"),
    "uuid": ("uuid", "string", "UUID", "string", "string"),
    "jsonb": ("json", "string", "JSON", "string", "string"),
    "integer[]": ("json", "string", "JSON", "string", "string"),
    "bytea": ("bytes", "binary", "BLOB", "binary", "string"),
    "character varying(9)": ("text", "string", "VARCHAR", "string", "string"),
    '"char"': ("text", "string", "VARCHAR", "string", "string"),
    "interval": ("text", "string", "VARCHAR", "string", "string"),
    "public.colour": ("any", "string", "VARCHAR", "string", "string"),
    "int4range": ("any", "string", "VARCHAR", "string", "string"),
}


@pytest.mark.parametrize("name", TYPES)
def test_what_a_postgresql_type_becomes(name: str) -> None:
    found = column_type(Column("c", name, True), "postgresql")
    assert (found.kind, found.arrow, found.duckdb, found.glue, found.mojap) == TYPES[name]


@pytest.mark.parametrize("name", TYPES)
def test_a_domain_is_what_lies_beneath_it(name: str) -> None:
    domain = Column("c", "public.d", True, name)
    assert column_type(domain, "postgresql") == column_type(Column("c", name, True), "postgresql")
    assert json_schema(domain, "postgresql") == json_schema(Column("c", name, True), "postgresql")
    assert column_type(domain, "postgresql", as_text=True) == ColumnType("any")


def test_a_domain_of_which_nothing_is_told_is_text() -> None:
    assert column_type(Column("c", "public.d", True), "postgresql") == ColumnType("any")


def test_a_shape_is_what_it_was_but_for_domains() -> None:
    """A cursor that an older release wrote holds it: docs/format.md specifies it."""
    plain = [Column("id", "integer", False), Column("paid", "public.amount", True)]
    assert columns_digest(plain) == hashlib.sha256(b'[["id","integer"],["paid","public.amount"]]').hexdigest()
    told = [plain[0], Column("paid", "public.amount", True, "numeric(12,2)")]
    assert (
        columns_digest(told)
        == hashlib.sha256(b'[["id","integer"],["paid","public.amount","numeric(12,2)"]]').hexdigest()
    )


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("INTEGER", "int64"),
        ("bigint unsigned", "int64"),
        ("REAL", "float64"),
        ("double precision", "float64"),
        *((name, "any") for name in ("VARCHAR(9)", "", "DECIMAL(10,2)", "DATETIME", "BLOB")),
    ],
)
def test_sqlite_types_go_by_affinity_and_promise_little(declared: str, kind: str) -> None:
    assert column_type(Column("c", declared, True), "sqlite").kind == kind


def test_a_column_may_be_wanted_as_text() -> None:
    assert column_type(Column("c", "numeric", True), "postgresql", as_text=True) == ColumnType("any")


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_moments_are_those_of_python(moment: datetime) -> None:
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    text = moment.isoformat()
    assert parse_microseconds(text, False) == parse_microseconds(f"{text}+00:00", False) == since // datetime.resolution
    assert parse_days(text[:10], False) == moment.date().toordinal() - date(1970, 1, 1).toordinal()


def test_infinity_is_duckdbs_number_or_none() -> None:
    assert parse_days("-infinity", True) == -(2**31 - 1) and parse_microseconds("infinity", True) == 2**63 - 1
    for text in ("infinity", "294276-12-31T23:59:59", "yesterday", "2026-01-01T00:00:00+01:00"):
        with pytest.raises(NoCounterpart):
            parse_microseconds(text, False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("UTINYINT", "int16"),
        ("USMALLINT", "int32"),
        ("UINTEGER", "int64"),
        ("HUGEINT", "digits"),
        ("DECIMAL(38,10)", "decimal"),
        ("FLOAT", "float32"),
        ("TIMESTAMP_MS", "timestamp"),
        ("TIMESTAMP_NS", "text"),
        ("TIMESTAMP WITH TIME ZONE", "timestamptz"),
        ("INTEGER[3]", "json"),
        ("STRUCT(a INTEGER)", "json"),
        ("MAP(VARCHAR, INTEGER)", "json"),
        ("ENUM('DATE')", "any"),
        ("date", "any"),
    ],
)
def test_duckdb_types_keep_their_meaning(name: str, kind: str) -> None:
    assert column_type(Column("c", name, True), "duckdb").kind == kind
    if name == "HUGEINT":
        assert column_type(Column("c", "UBIGINT", True), "duckdb").arrow == "decimal128(20, 0)"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tinyint(1)", "int16"),
        ("tinyint(3) unsigned", "int16"),
        ("smallint(5) unsigned zerofill", "int32"),
        ("mediumint(8) unsigned", "int32"),
        ("int(11)", "int32"),
        ("int unsigned", "int64"),
        ("bigint(20)", "int64"),
        ("bigint(20) unsigned", "decimal"),
        ("decimal(38,10)", "decimal"),
        ("decimal(65,30)", "digits"),
        ("float(10,2)", "float32"),
        ("double", "float64"),
        ("year(4)", "int16"),
        ("date", "date"),
        ("datetime(6)", "timestamp"),
        ("timestamp", "timestamptz"),
        ("time(3)", "text"),
        ("bit(10)", "text"),
        ("varchar(20)", "text"),
        ("varbinary(10)", "bytes"),
        ("point", "bytes"),
        ("enum('date','it''s')", "text"),
        ("json", "json"),
        ("uuid", "uuid"),
        ("TEXT", "text"),
        ("vector(3)", "any"),
    ],
)
def test_mysql_types_keep_their_meaning(name: str, kind: str) -> None:
    for dialect in ("mariadb", "mysql"):
        assert column_type(Column("c", name, True), dialect).kind == kind
    if name == "bigint(20) unsigned":
        assert column_type(Column("c", name, True), "mysql").arrow == "decimal128(20, 0)"


def test_a_date_in_no_calendar_is_null() -> None:
    for text in ("0000-00-00", "2024-00-01", "2024-02-31", "0000-00-00T00:00:00", "2024-02-31T10:00:00+00:00"):
        assert parse_days(text, False) is None and parse_microseconds(text, True) is None
