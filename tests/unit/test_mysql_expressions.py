"""Expressions of MariaDB and MySQL that depend on the row alone, and others."""

from __future__ import annotations

import pytest

from floodmark.source.mysql.expressions import is_settled

TIMES = frozenset({"at", "Ende"})


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "id > 5 and (name like 'x%' or not (`deleted` is null))",
        "lower(name) IN ('now()', \"rand()\") and v between (1) and (2)",
        "`a` + interval 1 day > '2026-01-01 10:00:00'",
        "concat(`a`,`b``c`)",
        "v LIKE '%7' AND id < 1000 # a comment",
        "v = 1 -- it's later than now()",
        "created > timestamp'2026-01-01 00:00:00'",
        "date_format(`d`,'%Y-%m')",
        "timestamp < '2026-01-01'",
    ],
)
def test_the_row_alone(expression: str) -> None:
    assert is_settled(expression, TIMES)


@pytest.mark.parametrize(
    "expression",
    [
        "created > now()",
        "created > NOW ( )",
        "created > current_timestamp",
        "d < curdate() - interval 1 year",
        "rand() < 0.5",
        "sysdate(6) > d",
        "unix_timestamp() > 5",
        "id = @wanted",
        "id = @@server_id",
        "own_function(id) = 1",
        "cases.lower(id) = 1",
        "cases . `lower`(id) = 1",
        "`lower`(id) = 1",
        "substr (name, 1) = 'x'",
        "/*! now() */ > d",
        "/*M!100100 now() */ > d",
        "# it's\n now() > 'a'",
        "at > created",
        "`ende` > created",
        "cast(v as time) > created",
        "timestampdiff(year,`born`,current_timestamp())",
    ],
)
def test_more_than_the_row(expression: str) -> None:
    assert not is_settled(expression, TIMES)
