"""Lines that the native encoder makes from the server's binary rows, against the server's own, byte for byte.

Hypothesis draws tables: names, types, domains over them, nulls and extreme values. Both makers read each table through
the whole source, as JSON Lines and as CSV. `make soak` goes on for SOAK_MINUTES.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fix_native_lines import ASCII, KINDS, TYPES, Drawn, assert_same_lines, create, kinds_on, tables
from fix_postgres import PgDatabase, Servers
from floodmark.config import ColumnRule, TableRule
from floodmark.native import is_built

pytestmark = pytest.mark.skipif(not is_built(), reason="the native encoder is not built")
QUICK = settings(max_examples=15, suppress_health_check=list(HealthCheck))
PERVERSE = {
    "bytea_output": "escape",
    "IntervalStyle": "sql_standard",
    "DateStyle": "'German, DMY'",
    "extra_float_digits": "-5",
    "TimeZone": "'Asia/Kathmandu'",
    "lc_monetary": "'C'",
    "xmlbinary": "hex",
}


def compare(database: PgDatabase, version: int, examples: settings = QUICK, **limits: object) -> None:
    @examples
    @given(drawn=tables(version, **limits))  # type: ignore[arg-type]
    def compared(drawn: Drawn) -> None:
        create(database, drawn)
        assert assert_same_lines(database.url) == len(drawn.rows)

    compared()


def test_drawn_tables(pg_any: PgDatabase) -> None:
    pg_any.execute(TYPES)
    for name, value in PERVERSE.items():
        pg_any.execute(f'ALTER DATABASE "{pg_any.name}" SET {name} = {value}')
    compare(pg_any, pg_any.version)


@pytest.mark.parametrize("third", range(3))
def test_every_kind(pg: PgDatabase, third: int) -> None:
    """A third of all kinds at once, every other one as a domain."""
    pg.execute(TYPES)
    kinds = list(kinds_on(pg.version).items())[third::3]
    columns = tuple((name, kind, number % 2 == 0) for number, (name, kind) in enumerate(kinds))
    rows = st.lists(st.tuples(*(st.none() | kind.values for _, kind in kinds)), min_size=3, max_size=3).map(tuple)

    @settings(QUICK, max_examples=3)
    @given(rows)
    def compared(drawn: tuple[tuple[str | None, ...], ...]) -> None:
        create(pg, Drawn(columns, drawn))
        assert assert_same_lines(pg.url) == 3

    compared()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_databases_in_another_encoding(postgres: Servers, pg_version: int, encoding: str) -> None:
    """Each text is converted to UTF-8, or only checked."""
    server, name = postgres[pg_version], f"in_{encoding.lower()}"
    server.admin().execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    database = server.adopt(name)
    try:
        database.execute("SET client_encoding = 'UTF8'")
        database.execute(TYPES if encoding == "SQL_ASCII" else TYPES.replace("ünïcode", "ünïcôde"))
        last = 255 if encoding == "LATIN1" else 127
        columns = 'i, repeat(chr(i), 2) AS t, chr(i)::"char" AS c, chr(i)::name AS n, ARRAY[chr(i)] AS a'
        database.execute(f"CREATE TABLE t AS SELECT {columns} FROM generate_series(1, {last}) i")
        assert assert_same_lines(database.url) == last
        compare(database, pg_version, settings(QUICK, max_examples=6), names=ASCII.filter(bool), leave_out=not_ascii())
    finally:
        database.drop()


def not_ascii() -> list[str]:
    """The kinds whose values can be beyond ASCII."""
    return [
        name
        for name in KINDS
        if any(part in name for part in ("text", "char", "name", "json", "mood", "pair", "words"))
    ]


RULES = {
    "masks": TableRule(columns=ColumnRule(mask={"b": "hash", "c": "redact", "d": "null"})),
    "a filter": TableRule(where="a % 3 = 1"),
    "both, and no column that is left out": TableRule(
        where="b IS NOT NULL", columns=ColumnRule(mask={"b": "hash"}, exclude=("c", "d"))
    ),
}
PARTS = """
    CREATE TABLE t (a int, b text, c text[], d timestamptz) PARTITION BY RANGE (a);
    CREATE TABLE one PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE two (d timestamptz, gone int, c text[], b text, a int); ALTER TABLE two DROP gone;
    ALTER TABLE t ATTACH PARTITION two FOR VALUES FROM (100) TO (9999); INSERT INTO t {}"""
LARGE = "UPDATE t SET c = ARRAY(SELECT md5(a::text || i) FROM generate_series(1, 3000) i) WHERE a % 90 = 0"
SHAPES = {
    "a table": "CREATE TABLE t AS {}",
    "a view": "CREATE TABLE base AS {}; CREATE VIEW t AS SELECT * FROM base",
    "a materialized view": "CREATE MATERIALIZED VIEW t AS {}",
    "a table with large values": f"CREATE TABLE t AS {{}}; {LARGE}",
    "a partitioned table": PARTS,
}
ROWS = (
    "SELECT a, CASE WHEN a % 5 > 0 THEN 'line ' || a END AS b, ARRAY['x', NULL, a::text] AS c, "
    "timestamptz 'epoch' + a * interval '1 h' AS d FROM generate_series(1, 700) a"
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", [None, *RULES])
def test_rules_and_shapes(pg: PgDatabase, shape: str, rule: str | None) -> None:
    pg.execute(SHAPES[shape].format(ROWS))
    lines = assert_same_lines(pg.url, rule=RULES[rule] if rule else None)
    assert lines == {None: 700, "masks": 700, "a filter": 234}.get(rule, 560)


def test_many_columns_and_dropped_ones(pg: PgDatabase) -> None:
    pg.execute(f"CREATE TABLE t ({', '.join(f'column_{i} int' for i in range(1600))})")
    pg.execute("INSERT INTO t (column_7, column_1599) SELECT i, -i FROM generate_series(1, 50) i")
    assert assert_same_lines(pg.url) == 50
    pg.execute("ALTER TABLE t DROP column_3, DROP column_1599")
    assert assert_same_lines(pg.url) == 50


def test_a_table_without_columns(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); ALTER TABLE t DROP a")
    assert assert_same_lines(pg.url) == 2


@pytest.mark.soak
def test_drawn_tables_for_hours(postgres: Servers, pg_version: int) -> None:
    database = postgres[pg_version].database()
    database.execute(TYPES)
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60")) / 4
    number = 0
    while time.monotonic() < end:
        compare(database, pg_version, settings(QUICK, max_examples=200, database=None), most_rows=30)
        number += 200
    print(f"PostgreSQL {pg_version}: {number} drawn tables")
    database.drop()
