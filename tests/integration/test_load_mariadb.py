"""What a MariaDB database's values become in DuckDB, by way of a run and a load."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import pytest

from fix_command import Floodmark
from fix_mariadb import MyDatabase

KINDS = """
    id int PRIMARY KEY, small tinyint, large int unsigned, huge bigint unsigned, price decimal(12,2),
    digits decimal(65,30), single float, born date, seen datetime(6), at timestamp(3) NULL, length time(2), bits bit(5),
    name varchar(20) CHARACTER SET latin1, kind enum('a', 'b'), raw blob, uid uuid, details json, place point
"""
VALUES = """
    1, -5, 4294967295, 18446744073709551615, 1.5, 1.5, 0.1, '2024-01-31', '2024-01-31 12:00:00.5',
    '2024-01-31 12:00:00.5', '838:59:59', b'101', 'ä', 'b', x'00ff', '123e4567-e89b-12d3-a456-426614174000',
    '{"a": 1}', ST_GeomFromText('POINT(1 2)')
"""


@pytest.fixture
def job(my: MyDatabase, tmp_path: Path) -> Floodmark:
    my.execute(
        f"CREATE TABLE kinds ({KINDS})", f"INSERT INTO kinds VALUES ({VALUES})", "INSERT INTO kinds (id) VALUES (2)"
    )
    my.execute(
        "CREATE TABLE zero (id int PRIMARY KEY, born date, seen datetime)", "SET sql_mode = 'ALLOW_INVALID_DATES'"
    )
    my.execute("INSERT INTO zero VALUES (1, '0000-00-00', '0000-00-00'), (2, '2024-02-31', '2024-02-30 10:00:00')")
    made = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": my.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")})
    made("run")
    return made


def test_values_keep_their_types(job: Floodmark, my: MyDatabase, tmp_path: Path) -> None:
    job("load", "--into", f"duckdb:{tmp_path}/lake.duckdb", "--table", f"{my.name}.kinds")
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as lake:
        lake.execute("SET TimeZone = 'UTC'")
        row, empty = lake.execute(f'SELECT * EXCLUDE (single, place) FROM "{my.name}".kinds ORDER BY id').fetchall()
        kinds = dict(lake.execute(f'SELECT column_name, column_type FROM (DESCRIBE "{my.name}".kinds)').fetchall())
    assert row == (
        1, -5, 4294967295, Decimal(18446744073709551615), Decimal("1.50"), "1.500000000000000000000000000000",
        date(2024, 1, 31), datetime(2024, 1, 31, 12, 0, 0, 500000),
        datetime(2024, 1, 31, 12, 0, 0, 500000, tzinfo=UTC), "838:59:59.00", "00101", "ä", "b", b"\x00\xff",
        UUID("123e4567-e89b-12d3-a456-426614174000"), '{"a": 1}',
    )  # fmt: skip
    assert set(empty[1:]) == {None}
    assert (kinds["large"], kinds["huge"], kinds["single"]) == ("BIGINT", "DECIMAL(20,0)", "FLOAT")
    assert (kinds["details"], kinds["place"]) == ("JSON", "BLOB")


def test_a_zero_date_is_null_and_as_text_what_the_client_prints(job: Floodmark, my: MyDatabase, tmp_path: Path) -> None:
    """docs/consumers.md says so: such a date is in no calendar, and no type of a consumer has it."""
    into = ("load", "--into", f"duckdb:{tmp_path}/lake.duckdb", "--table", f"{my.name}.zero")
    rows = f'SELECT * FROM "{my.name}".zero ORDER BY id'
    job(*into)
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as lake:
        assert lake.execute(rows).fetchall() == [(1, None, None), (2, None, None)]
    job(*into, "--text", f"{my.name}.zero.born", "--text", f"{my.name}.zero.seen")
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as lake:
        found = lake.execute(rows).fetchall()
    assert found == [(1, "0000-00-00", "0000-00-00T00:00:00"), (2, "2024-02-31", "2024-02-30T10:00:00")]
