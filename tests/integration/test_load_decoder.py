"""Loads with the compiled decoder and without it: the same tables, files and errors, for all types with extremes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fix_decoder import needs_decoder
from fix_load import Job
from floodmark.reader import arrow
from floodmark.reader.decoder import line_decoder

pytestmark = needs_decoder

COLUMNS = """
    yes boolean, small smallint, middle integer, big bigint, single real, double double precision, exact numeric(38,10),
    price numeric(12,2), bare numeric, huge numeric(60,20), t text, v varchar(40), c char(5), q "char", n name, id uuid,
    d date, at timestamp, atz timestamptz, clock time, clockz timetz, span interval, doc jsonb, source json, raw bytea,
    numbers integer[], texts text[], mood mood, money money, address inet, bits bit(3), period daterange, pair pair,
    "we""ird ✓" text"""
EVERYDAY = """
    n % 3 = 0, n % 32768, n * 31, n * 4294967297, n / 7.0, n / 3.0 * 10.0 ^ (n % 40 - 20), n / 8.0, n / 100.0, n / 4.0,
    n * 1e30, 'text ' || n || E' "quoted" \\\\ \\t\\n é 😀', 'v' || n, 'c', 'x', 'name', md5(n::text)::uuid,
    date '0001-01-01' + n * 17, timestamp '1970-01-01' + (n - 2500) * interval '100 days 3.000001 seconds',
    timestamptz '1999-12-31 23:59:59.9Z' + n * interval '1 hour', time '00:00' + n * interval '1.5 seconds', '10:00+02',
    n * interval '1 month 1 second', jsonb_build_object('a', n / 10.0, 'b', jsonb_build_array(n, null, 'x"y')),
    ('{"a" :  ' || n || '.10, "b": [1e5, "\\ud800"], "a": null}')::json, decode(md5(n::text), 'hex'),
    ARRAY[n, null], ARRAY['a"', null],
    'happy', n, '10.0.0.1', B'101', daterange('2024-01-01', '2024-02-01'), ROW(n, 'p')::pair, 'odd'"""
EXTREMES = {
    "small": "-32768",
    "middle": "-2147483648",
    "big": "-9223372036854775808",
    "single": "'-Infinity'",
    "double": "'NaN'",
    "exact": "-9999999999999999999999999999.9999999999",
    "price": "-0.01",
    "bare": "1e27",
    "huge": "'NaN'",
    "t": "repeat('é', 300000)",
    "d": "'4714-11-24 BC'",
    "at": "'4714-11-24 00:00:00 BC'",
    "atz": "'infinity'",
    "clock": "'24:00'",
    "span": "'-178000000 years'",
    "doc": "'[1.10, 12345678901234567890123, {\"\": []}]'",
    "source": "' null '",
    "raw": "''",
    "numbers": "'[5:6]={1,2}'",
    "mood": "'so, \"so\"'",
    "pair": "ROW(NULL, '')::pair",
    "q": "''",
    "period": "'empty'",
    "yes": "false",
}
MORE = {
    "single": "'-0'",
    "double": "'-0'",
    "d": "'infinity'",
    "at": "'-infinity'",
    "atz": "'0044-03-15 12:00Z BC'",
    "source": "'\"\\ud800\"'",
    "t": "E'\\x01\\x1f\\x7f'",
    "doc": "'null'",
    "exact": "0",
}
SETUP = f"""
    CREATE TYPE mood AS ENUM ('happy', 'so, "so"'); CREATE TYPE pair AS (a int, b text);
    CREATE TABLE everything ({COLUMNS});
    INSERT INTO everything SELECT {EVERYDAY} FROM generate_series(1, 5000) n;
    INSERT INTO everything (yes) VALUES (NULL);
    CREATE TABLE ordinary AS SELECT * FROM everything WHERE yes IS NOT NULL;
    INSERT INTO everything ({", ".join(EXTREMES)}) VALUES ({", ".join(EXTREMES.values())});
    INSERT INTO everything ({", ".join(MORE)}) VALUES ({", ".join(MORE.values())});
    INSERT INTO everything (double, single) VALUES (5e-324, 1e-45), (1.7976931348623157e308, 3.4028235e38);
    CREATE TABLE unfit (a numeric, b numeric(5,2)); INSERT INTO unfit VALUES ('NaN', 1), (1e-11, 2), (1, 'NaN');"""


class Counted:
    """A decoder that counts the blocks that it took and refused."""

    def __init__(self, whole: Any, counts: dict[bool, int]) -> None:
        self._whole, self._counts = whole, counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def take(self, lines: bytes) -> bool:
        taken = bool(self._whole.take(lines))
        self._counts[taken] = self._counts.get(taken, 0) + 1
        return taken


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[bool, int]:
    counts: dict[bool, int] = {}
    monkeypatch.setattr(arrow, "line_decoder", lambda *given: Counted(line_decoder(*given), counts))
    return counts


def without_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "line_decoder", lambda *given: None)


def test_the_same_tables_in_duckdb_with_the_decoder_and_without(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.night(SETUP)
    with monkeypatch.context() as patched:
        counts = counted(patched)
        loaded = job.load(f"duckdb:{tmp_path}/decoded.duckdb", code=3)
        said = reasons(job.refused(f"duckdb:{tmp_path}/decoded.duckdb", code=3))
    assert counts[True] > 5 and counts[False] > 0, "both ways were used"
    with monkeypatch.context() as patched:
        without_decoder(patched)
        assert job.load(f"duckdb:{tmp_path}/python.duckdb", code=3) == loaded
        assert reasons(job.refused(f"duckdb:{tmp_path}/python.duckdb", code=3)) == said
    assert len(said) == 1
    assert loaded["public.everything"] == loaded["public.ordinary"] == "loaded" and loaded["public.unfit"] == "failed"
    with duckdb.connect() as connection:
        for name in ("decoded", "python"):
            connection.execute(f"ATTACH '{tmp_path}/{name}.duckdb' AS {name} (READ_ONLY)")
        types = (
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = '{}' ORDER BY ALL"
        )
        ours, theirs = (connection.execute(types.format(name)).fetchall() for name in ("decoded", "python"))
        assert ours == theirs
        for table in ("everything", "ordinary", "person", "big"):
            both = [f"(SELECT COLUMNS(*)::VARCHAR FROM {name}.public.{table})" for name in ("decoded", "python")]
            for one, other in (both, reversed(both)):
                assert connection.execute(f"{one} EXCEPT ALL {other}").fetchall() == [], table
        found = connection.execute(
            "SELECT count(*), count(DISTINCT COLUMNS(*)) FROM decoded.public.everything"
        ).fetchone()
        assert found is not None and found[0] == 5005


def test_the_same_parquet_files_with_the_decoder_and_without(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.night(SETUP)
    left_out = (
        "--exclude",
        "unfit",
        "--text",
        "public.everything.d",
        "--text",
        "public.everything.at",
        "--text",
        "public.everything.atz",
    )
    with monkeypatch.context() as patched:
        counts = counted(patched)
        loaded = job.load(f"parquet:{tmp_path}/decoded", *left_out)
    assert counts[True] > 5 and set(loaded.values()) == {"loaded"}
    with monkeypatch.context() as patched:
        without_decoder(patched)
        assert job.load(f"parquet:{tmp_path}/python", *left_out) == loaded
    ours, theirs = (files_of(tmp_path / name) for name in ("decoded", "python"))
    assert ours == theirs and len(ours) > 4


def reasons(said: str) -> list[str]:
    """The errors in a log, without their times."""
    return re.findall("why=.*", said)


def files_of(folder: Path) -> list[tuple[str, bytes]]:
    """A target's Parquet files: their table and bytes. Their names are random."""
    return sorted((path.parent.name, path.read_bytes()) for path in folder.rglob("*.parquet"))
