"""The native encoder against real servers: random values of every kind, as JSON Lines and as CSV, byte for byte.

A table gets random values by COPY in the binary format, floats by their bits. The server makes its own lines of it, and
the encoder makes its lines of the server's binary rows. `make soak` goes on for SOAK_MINUTES; SEED=n plays one again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import psycopg
import pytest

from fix_encoder import PG_NAMES, VALUES, copied, rows
from fix_encoder_values import EXPECTED
from fix_postgres import BINARIES, PgDatabase, Servers
from floodmark.config import Limits
from floodmark.objects.numbers import quote_large
from floodmark.source.postgres.connect import pinned_settings

encoder = pytest.importorskip("floodmark.native.encoder", reason="the native encoder is not built")

# For more values of what is hardest to write, in the same time
GROUPS = {
    "all": tuple(VALUES),
    "floats": ("float8", "float4"),
    "numerics": ("numeric",),
    "times": ("timestamp", "timestamptz", "date", "time", "timetz", "interval"),
}
ROWS = 5000
_LINE = r"replace(replace(row_to_json(r)::text, E'\n', ' '), E'\r', ' ')"
_PLAIN = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'"


def fill(connection: psycopg.Connection[Any], kinds: Sequence[str], random: Random, number: int) -> None:
    columns = ", ".join(f"c{place} {PG_NAMES.get(kind, kind)}" for place, kind in enumerate(kinds))
    connection.execute(f"CREATE TEMP TABLE t ({columns})")
    with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
        for row in rows(random, kinds, number):
            copy.write(row)


def received(connection: psycopg.Connection[Any], statement: str) -> list[bytes]:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return [bytes(part) for part in copy]


def server_lines(connection: psycopg.Connection[Any]) -> tuple[bytes, bytes]:
    """Return a table as the server's own JSON Lines and CSV, under the settings that Floodmark pins."""
    connection.execute(pinned_settings(Limits(), connection.info.server_version))
    connection.execute("SET LOCAL search_path = pg_temp, pg_catalog")
    lines = received(connection, f"COPY (SELECT {_LINE} FROM (SELECT * FROM t) r) TO STDOUT ({_PLAIN})")
    return b"".join(lines), b"".join(received(connection, "COPY t TO STDOUT (FORMAT csv, HEADER true, NULL '')"))


def assert_same(found: bytes, expected: bytes, seed: int) -> None:
    """Compare line by line first, so that a failure shows one line and not megabytes."""
    if found != expected:
        for one, other in zip(found.split(b"\n"), expected.split(b"\n"), strict=False):
            assert one == other, f"SEED={seed}"
    assert len(found) == len(expected), f"SEED={seed}"


def compare(database: PgDatabase, kinds: Sequence[str], seed: int, number: int) -> None:
    """Compare the encoder's lines of a table of random rows with the server's, in each format and by each way."""
    connection = database.connect()
    version = connection.info.server_version
    fill(connection, kinds, Random(seed), number)
    fields = [(f"c{place}", kind) for place, kind in enumerate(kinds)]
    lines, table = server_lines(connection)
    row = connection.execute("SELECT string_agg(record_send(r), ''::bytea) FROM (SELECT * FROM t) r", binary=True)
    ((records,),) = row.fetchall()
    messages = received(connection, "COPY t TO STDOUT (FORMAT binary)")

    json_lines = encoder.Encoder(fields, "jsonl", server_version=version)
    assert_same(bytes(json_lines.records(records)[0]), lines, seed)
    assert_same(b"".join(bytes(json_lines.message(message)[0]) for message in messages), lines, seed)
    large = encoder.Encoder(fields, "jsonl", True, server_version=version)
    assert_same(bytes(large.records(records)[0]), quote_large(lines), seed)
    csv = encoder.Encoder(fields, "csv", server_version=version)
    found, number_of_rows = csv.records(records)
    assert_same(csv.header() + bytes(found), table, seed)
    assert number_of_rows == number
    connection.close()


@pytest.mark.parametrize("kind", sorted({value.kind for value in EXPECTED} - {"raw"}))
def test_the_expected_values_are_those_of_a_server(pg: PgDatabase, kind: str) -> None:
    """The values of tests/unit/test_encoder_values.py, which needs no server."""
    values = [value for value in EXPECTED if value.kind == kind]
    connection = pg.connect()
    pg_type = PG_NAMES.get(kind, kind.removeprefix("array:") + "[]" * kind.startswith("array:"))
    connection.execute(f"CREATE TEMP TABLE t (a {pg_type})")
    with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(copied(value.data) for value in values) + b"\xff\xff")
    lines, table = server_lines(connection)
    assert lines.decode() == "".join(f'{{"a":{value.in_json}}}\n' for value in values)
    assert table.decode() == "a\n" + "".join(f"{value.in_csv}\n" for value in values)


@pytest.mark.parametrize("group", GROUPS)
def test_random_values(pg_any: PgDatabase, group: str) -> None:
    compare(pg_any, GROUPS[group], seed=int(os.environ.get("SEED") or 13), number=500)


@pytest.mark.soak
@pytest.mark.parametrize("group", GROUPS)
def test_random_values_for_hours(postgres: Servers, pg_version: int, group: str) -> None:
    database, kinds = postgres[pg_version].database(), GROUPS[group]
    seed = int(os.environ.get("SEED") or time.time())
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60")) / (len(GROUPS) * len(BINARIES))
    tables = 0
    while time.monotonic() < end and not (tables and os.environ.get("SEED")):
        compare(database, kinds, seed + tables, ROWS)
        tables += 1
    print(f"PostgreSQL {pg_version}, {group}: {tables} tables, {tables * ROWS * len(kinds)} values")
    database.drop()
