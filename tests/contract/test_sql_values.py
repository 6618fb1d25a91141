"""Values as SQL sources land them: the same as PostgreSQL's row_to_json gives, whatever the database is."""

from __future__ import annotations

import gc
import hashlib
import hmac
import struct
import tempfile
from contextlib import closing
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from fix_postgres import PgDatabase
from fix_sql import chunks_in, duckdb_database, reflected_database, text_of
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.errors import TableError
from floodmark.source.postgres.connect import pinned_settings
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source
from floodmark.source.sql.values import NoJsonForm, float32_value, json_value, plain_value


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2**100, "1267650600228229401496703205376"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.00"), "-0.00"),
        (Decimal("1E-30"), "0.000000000000000000000000000001"),
        (Decimal("NaN"), '"NaN"'),
        (Decimal("-Infinity"), '"-Infinity"'),
        (float("nan"), '"NaN"'),
        (float("inf"), '"Infinity"'),
        (0.1, "0.1"),
        (b"\x00\xff", '"\\\\x00ff"'),
        (bytearray(b"a"), '"\\\\x61"'),
        (memoryview(b"a"), '"\\\\x61"'),
        (date(31, 1, 2), '"0031-01-02"'),
        (datetime(2024, 1, 31, 12, 0, 0, 500000), '"2024-01-31T12:00:00.5"'),
        (datetime(2024, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), '"2024-01-31T10:00:00+00:00"'),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), '"0001-01-01T00:00:00+02:00"'),
        (time(1, 2, 3, 4), '"01:02:03.000004"'),
        (time(1, 2, 3, tzinfo=timezone(-timedelta(hours=3, minutes=30))), '"01:02:03-03:30"'),
        (timedelta(days=3, seconds=14706, microseconds=700000), '"P3DT4H5M6.7S"'),
        (timedelta(0), '"PT0S"'),
        (timedelta(days=2), '"P2D"'),
        (-timedelta(hours=1, microseconds=500000), '"PT-1H-0.5S"'),
        (UUID(int=255), '"00000000-0000-0000-0000-0000000000ff"'),
        ([1, None, Decimal("1.0")], "[1,null,1.0]"),
        (({"a": b"x"},), '[{"a":"\\\\x78"}]'),
        ({1: "a", None: 2}, '{"1":"a","null":2}'),
        (Colour.RED, '"red"'),
    ],
)
def test_a_value_by_its_python_type(value: object, text: str) -> None:
    assert msgspec.json.encode(plain_value(value)).decode() == text


def test_a_value_of_another_type_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(NoJsonForm, match=r"\Acomplex\Z"):
        plain_value(1j)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 16777216.0, 1e-45, 3.4028235e38, 1e10, -2.5, 123456.79])
def test_a_float_of_32_bits_reads_back_as_the_same(value: float) -> None:
    narrow = struct.unpack("f", struct.pack("f", value))[0]
    short = float32_value(narrow)
    assert isinstance(short, float)
    assert struct.pack("f", short) == struct.pack("f", narrow)
    assert len(repr(short)) <= len(repr(narrow))
    assert float32_value(struct.unpack("f", struct.pack("f", 0.1))[0]) == 0.1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": [1,\n 2]}', b'{"a": [1,  2]}'),
        ("1.10", b"1.10"),
        ("not json", b'"not json"'),
        ("", b'""'),
        ('{"a": NaN}', b'"{\\"a\\": NaN}"'),
    ],
)
def test_json_is_embedded_on_one_line(text: str, line: bytes) -> None:
    assert msgspec.json.encode(json_value(text)) == line


PG_VALUES = """
SELECT 1::smallint AS a, 9223372036854775807 AS b, 1.50::numeric(30,2) AS c, 1e25::numeric AS d, 0.1::real AS e,
123.25::float8 AS f, 'NaN'::float8 AS g, true AS h, E'é"\\\\\\n'::text AS i, 'x'::char(3) AS j,
'\\x00ff'::bytea AS k, '2024-01-31'::date AS l, '2024-01-31 12:00:00.5'::timestamp AS m,
'2024-01-31 12:00:00+02'::timestamptz AS n, '12:00:00.25'::time AS o,
1 AS p, '00000000-0000-0000-0000-0000000000ff'::uuid AS q,
'{"a": 1.10, "b": [1,\\n2]}'::json AS r, '{"a": 1.10}'::jsonb AS s, ARRAY[1, NULL, 3] AS t, ARRAY[1.50, 2] AS u,
NULL::int AS v, 'NaN'::numeric AS w, '0001-01-01'::date AS x, B'101' AS y
""".replace("\\\\\\n", "\\\\\\\\\\n").replace('\'{"a": 1.10, "b": [1,\\n2]}\'', 'E\'{"a": 1.10, "b": [1,\\n2]}\'')


def test_reflected_postgresql_gives_what_row_to_json_does(pg: PgDatabase) -> None:
    pg.execute(f"CREATE TABLE t AS {PG_VALUES}")
    with pg.connect(autocommit=False) as connection:
        connection.execute(pinned_settings(Limits(), connection.info.server_version))
        ((truth,),) = connection.execute("SELECT row_to_json(row.*)::text FROM public.t AS row").fetchall()
    (chunk,) = reflected_database(pg).chunks("t")
    assert chunk == truth.replace("\n", " ") + "\n"


DUCKDB_VALUES = {
    "18446744073709551615::ubigint": "18446744073709551615",
    "-170141183460469231731687303715884105727::hugeint": "-170141183460469231731687303715884105727",
    "123456789012345678901234567890123456789012345::bignum": "123456789012345678901234567890123456789012345",
    "1.50::decimal(10,2)": "1.50",
    "12345678901234567890123456789012345678::decimal(38,0)": "12345678901234567890123456789012345678",
    "0.1::float": "0.1",
    "'-inf'::float": '"-Infinity"',
    "'nan'::double": '"NaN"',
    "true": "true",
    "'a\"é'": '"a\\"é"',
    "'\\x00\\xFF'::blob": '"\\\\x00ff"',
    "'101'::bit": '"101"',
    "date '2024-01-31'": '"2024-01-31"',
    "'infinity'::date": '"infinity"',
    "date '0044-03-15 (BC)'": '"0044-03-15 BC"',
    "timestamp '0044-03-15 (BC) 12:00:00.5'": '"0044-03-15T12:00:00.5 BC"',
    "timestamptz '0044-03-15 (BC) 12:00:00+00'": '"0044-03-15T12:00:00+00:00 BC"',
    "date '12024-03-15'": '"12024-03-15"',
    "time '24:00:00'": '"24:00:00"',
    "timetz '12:00:00+05:30'": '"12:00:00+05:30"',
    "timestamp '2024-01-31 12:00:00.5'": '"2024-01-31T12:00:00.5"',
    "'-infinity'::timestamp": '"-infinity"',
    "timestamp_s '2024-01-31 12:00:00'": '"2024-01-31T12:00:00"',
    "timestamp_ns '2024-01-31 12:00:00.123456789'": '"2024-01-31T12:00:00.123456789"',
    "timestamptz '2024-01-31 12:00:00.5+02'": '"2024-01-31T10:00:00.5+00:00"',
    "interval '13 months 3 days 04:05:06.7'": '"P1Y1M3DT4H5M6.7S"',
    "interval '-1 month 2 days -00:00:05'": '"P-1M2DT-5S"',
    "interval '-00:00:00.25'": '"PT-0.25S"',
    "interval '25 hours'": '"PT25H"',
    "interval '0 days'": '"PT0S"',
    "uuid '00000000-0000-0000-0000-0000000000ff'": '"00000000-0000-0000-0000-0000000000ff"',
    "'{\"a\": [1.10,\n 2]}'::json": '{"a": [1.10,  2]}',
    "[1, NULL, 3]": "[1,null,3]",
    "[1.50::decimal(5,2)]": "[1.50]",
    "array[1, 2]::int[2]": "[1,2]",
    "{'a': 1, 'b': 'x', 'c': ['\\x01'::blob]}": '{"a":1,"b":"x","c":["\\\\x01"]}',
    "map {'k': 1.5::decimal(3,1)}": '{"k":1.5}',
    "map {7: 'a'}": '{"7":"a"}',
    "[interval '1 month']": '["1 month"]',
    "[date 'infinity']": '["infinity"]',
    "union_value(num := 1)": '{"num":1}',
    "'b'::enum('a', 'b')": '"b"',
    "NULL::int": "null",
    "chr(0) || 'a'": '"\\u0000a"',
}


@pytest.mark.parametrize("sql", DUCKDB_VALUES)
def test_each_value_of_duckdb_has_one_exact_form(tmp_path: Path, sql: str) -> None:
    database = duckdb_database(tmp_path / "a.duckdb")
    database.run(f"CREATE TABLE t AS SELECT {sql} AS v")
    assert database.chunks("t") == [f'{{"v":{DUCKDB_VALUES[sql]}}}\n']


def test_a_hash_takes_the_text_that_a_line_would_hold(tmp_path: Path) -> None:
    database = duckdb_database(tmp_path / "a.duckdb")
    database.run("CREATE TABLE t AS SELECT 1.50::decimal(4,2) AS v, date '2024-01-31' AS d, NULL AS n")
    rule = TableRule(columns=ColumnRule(mask={"v": "hash", "d": "hash", "n": "hash"}))
    (chunk,) = database.chunks("t", rules={"t": rule}, mask_key=Secret("k"))
    v, d = (hmac.new(b"k", text, hashlib.sha256).hexdigest() for text in (b"1.50", b"2024-01-31"))
    assert chunk == f'{{"v":"{v}","d":"{d}","n":null}}\n'


def test_a_type_without_a_form_fails_its_table_without_its_value(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t AS SELECT int4range(7717, 7718) AS canary")
    with pytest.raises(TableError, match="a value of type Range") as caught:
        reflected_database(pg).chunks("t")
    assert "7717" not in str(caught.value)


def test_json_that_is_nested_too_deeply_fails_its_table_only(tmp_path: Path) -> None:
    database = duckdb_database(tmp_path / "a.duckdb")
    database.run(f"CREATE TABLE t AS SELECT '{'[' * 5000}{']' * 5000}'::json AS v")
    database.run("CREATE TABLE u AS SELECT '[[1]]'::json AS v")
    with pytest.raises(TableError, match="nested too deeply") as caught:
        database.chunks("t")
    assert "[[" not in str(caught.value)
    assert database.chunks("u") == ['{"v":[[1]]}\n']


def test_rows_too_wide_for_duckdbs_memory_are_told_and_read_with_more(tmp_path: Path) -> None:
    duckdb_database(tmp_path / "a.duckdb").run(
        "CREATE TABLE t AS SELECT repeat(hash(n)::text, 5000) AS v FROM range(2000) r(n)"
    )
    for more, lines in (("", None), ("?memory_limit=1GB", 2000)):
        source = open_sql_source(SqlOptions(Secret(f"duckdb:///{tmp_path}/a.duckdb{more}"), Limits(connections=1)))
        with closing(source.snapshot()) as snapshot:
            (info,) = snapshot.tables(Selection(), "")
            if lines is None:
                with pytest.raises(TableError, match=r"OutOfMemoryException\n.*\?memory_limit=1GB"):
                    text_of(snapshot, info, chunks_in(info)[0])
            else:
                assert sum(text_of(snapshot, info, chunk).count("\n") for chunk in chunks_in(info)) == lines


def test_what_duckdb_spills_is_private_and_goes_with_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb_database(tmp_path / "a.duckdb").run(
        "CREATE TABLE t AS SELECT repeat(hash(n)::text, 10) AS v FROM range(600000) r(n); "
        "CREATE VIEW v AS SELECT * FROM t ORDER BY v"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    modes: list[int] = []

    def look(block: bytes) -> None:
        modes.extend(one.stat().st_mode & 0o777 for one in (tmp_path / "temporary").iterdir() if any(one.iterdir()))

    source = open_sql_source(SqlOptions(Secret(f"duckdb:///{tmp_path}/a.duckdb"), Limits(connections=1)))
    with closing(source.snapshot()) as snapshot:
        (info,) = snapshot.tables(Selection(include=("main.v",)), "")
        (part,) = info.parts
        assert snapshot.extract(info, part, chunks_in(info)[0], True, look).lines == 600000
    assert set(modes) == {0o700}
    del source, snapshot
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []
