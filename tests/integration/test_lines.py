"""Lines are byte for byte what row_to_json gives, whatever the data, the names and the server's own settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fix_postgres import PgDatabase
from fix_runs import CHUNK, Nightly
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.source.postgres.connect import pinned_settings
from floodmark.source.postgres.snapshot import PostgresSource

KINDS = """
    CREATE TYPE colour AS ENUM ('red', 'gr"een', 'back\\slash');
    CREATE DOMAIN plate AS text;
    CREATE TYPE point3 AS (x int, y numeric, z text);
    CREATE TABLE kinds (
      a bool, b bytea, c "char", d char(7), e varchar(9), f text, g name, h int2, i int4, j int8, k numeric,
      l float4, m float8, n money, o date, p time, q timetz, r timestamp, s timestamptz, t interval, u uuid,
      v json, w jsonb, x xml, y inet, z cidr, aa macaddr, ab point, ac box, ad bit(3), ae varbit, af int[],
      ag text[][], ah int4range, ai tstzrange, aj colour, ak plate, al point3, am tsvector, an int4multirange,
      ao json[], ap colour[], aq jsonpath)
"""
ROWS = r"""
    INSERT INTO kinds VALUES (true, '\x00ff5c', 'q', 'ab', 'v',
      E'line\nfeed\ttab \\ back\u2028 \r "quote" \x01\x02 é 🦀',
      'name', -1, 2, 9007199254740993, 'NaN', 1.1, 'Infinity', 12.34, '0044-03-15 BC', '23:59:60', '04:05:06+02',
      'infinity', '2026-07-01 12:00+01', '-1 year 2 days -03:04:05.06', gen_random_uuid(),
      E'{"a" :\n\t[1,\r\n 2 ], "b":"\\n\\\\"}', '{"b":1,"a":[null,"\\n"]}', '<a b="c">x&amp;</a>', '10.0.0.1/8',
      '10.0.0.0/8', '08:00:2b:01:02:03', '(1.1,2)', '(1,1),(0,0)', '101', '10', '{1,NULL,3}', '{{a,"b,c"},{"\\","}"}}',
      '[1,5)', '[2026-01-01 00:00+00,)', 'gr"een', 'p', '(1,2.50,"z q,\\")', 'a:1 b:2', '{[1,3),[5,9)}',
      ARRAY[E'{"x":\n1}'::json, '2'], '{red,"back\\slash"}', '$.a[*] ? (@ > 1)');
    INSERT INTO kinds (f) SELECT repeat(chr(c) || E'\\', 3) FROM generate_series(1, 1200) c;
    INSERT INTO kinds DEFAULT VALUES
"""


def fill_with_kinds(database: PgDatabase) -> None:
    """A table of every kind of value; xml only where the server was built with it."""
    has_xml = "libxml" in database.value("SELECT setting FROM pg_config WHERE name = 'CONFIGURE'")
    database.execute(KINDS)
    database.execute(ROWS if has_xml else ROWS.replace("'<a b=\"c\">x&amp;</a>'", "NULL"))


def test_every_kind_of_value_on_every_version(nightly_any: Nightly) -> None:
    fill_with_kinds(nightly_any.database)
    nightly_any.run()
    nightly_any.require_truth()
    lines = nightly_any.landed("public.kinds")
    assert len(lines) == 1202
    assert all(line.count(b"\n") == 1 and isinstance(json.loads(line), dict) for line in lines)
    assert nightly_any.outcome("public.kinds") == ("extracted", "first_run")
    nightly_any.run()
    assert nightly_any.outcome("public.kinds") == ("unchanged", "unchanged")
    nightly_any.run(full=True, encoder="server")
    assert nightly_any.landed("public.kinds") == lines


PERVERSE = {
    "TimeZone": "'Asia/Kathmandu'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-5",
    "xmlbinary": "hex",
    "quote_all_identifiers": "on",
    "search_path": "evil, public",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "enable_tidscan": "off",
    "synchronize_seqscans": "on",
    "max_parallel_workers_per_gather": "8",
    "statement_timeout": "50",
    "lock_timeout": "50",
    "idle_in_transaction_session_timeout": "5",
    "row_security": "on",
    "lc_monetary": "'C'",
    "jit": "on",
    "constraint_exclusion": "on",
    "gin_fuzzy_search_limit": "5",
}


def test_no_setting_of_the_database_shows_through(nightly: Nightly) -> None:
    """Every setting that is pinned is set otherwise for the whole database; the lines are the same."""
    database = nightly.database
    fill_with_kinds(database)
    nightly.run()
    before = nightly.landed("public.kinds")
    limits = Limits()
    pinned = {part.split()[2] for part in pinned_settings(limits, database.version * 10000).split("; ")}
    assert pinned - {"transaction_timeout"} <= set(PERVERSE)
    for name, value in PERVERSE.items():
        if name == "standard_conforming_strings" and database.version >= 19:
            continue  # it can't be off any more
        database.execute(f'ALTER DATABASE "{database.name}" SET {name} = {value}')
    if database.version >= 17:
        database.execute(f'ALTER DATABASE "{database.name}" SET transaction_timeout = 50')
    database.execute(
        "CREATE SCHEMA evil; "
        "CREATE FUNCTION evil.row_to_json(record) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'evil'; END $$"
    )
    nightly.run(full=True)
    assert nightly.landed("public.kinds") == before
    assert nightly.outcome("public.kinds") == ("extracted", "forced")


NAMES = [
    "plain",
    "With Capitals",
    'quo"te',
    "a/b",
    "dots.in.name",
    "per%cent",
    "żółć",
    "select",
    "tab\there",
    "r",
    "x' OR '1",
    "back\\slash",
    "..",
    "$1",
    "%s",
]


def test_names_of_any_kind(nightly_any: Nightly) -> None:
    database = nightly_any.database
    for schema in ("public", 'odd "schema".x'):
        quoted_schema = '"' + schema.replace('"', '""') + '"'
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted_schema}")
        for name in NAMES:
            quoted = '"' + name.replace('"', '""') + '"'
            database.execute(f"CREATE TABLE {quoted_schema}.{quoted} ({quoted} int, r_ int, t text)")
            database.execute(f"INSERT INTO {quoted_schema}.{quoted} VALUES (1)" if name != "r" else "SELECT 1")
    database.execute("DROP TABLE public.r")
    nightly_any.run()
    assert nightly_any.last is not None and len(nightly_any.last.tables) == 2 * len(NAMES) - 1
    assert {status for status, _ in nightly_any.outcomes().values()} == {"extracted"}
    for entry in nightly_any.last.tables:
        relation = ".".join('"' + part.replace('"', '""') + '"' for part in (entry.schema, entry.name))
        keys = [obj.key for obj in entry.objects]
        assert all(key.isascii() and " " not in key and ".." not in key for key in keys)
        if entry.name != "r":
            assert json.loads(nightly_any.landed(f"{entry.schema}.{entry.name}")[0])[entry.name] == 1, relation
    every = [obj.key for entry in nightly_any.last.tables for obj in entry.objects]
    assert len(set(every)) == len(every)
    nightly_any.run()
    assert {status for status, _ in nightly_any.outcomes().values()} == {"unchanged"}


SHAPES = """
    CREATE TABLE empty (a int);
    CREATE TABLE columnless ();
    INSERT INTO columnless SELECT FROM generate_series(1, 3);
    CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS a;
    CREATE TABLE parent (a int, b text);
    CREATE TABLE child (c int) INHERITS (parent);
    INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 3);
    CREATE TABLE parted (k int, v text, w int) PARTITION BY RANGE (k);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY LIST (k);
    CREATE TABLE parted_2a PARTITION OF parted_2 FOR VALUES IN (10, 11);
    CREATE TABLE odd_order (w int, gone int, v text, k int);
    ALTER TABLE odd_order DROP gone;
    ALTER TABLE parted ATTACH PARTITION odd_order FOR VALUES FROM (20) TO (30);
    INSERT INTO parted SELECT k, 'v' || k, -k FROM unnest(ARRAY[1, 2, 10, 11, 25]) k;
    CREATE VIEW a_view AS SELECT a FROM parent;
    CREATE MATERIALIZED VIEW a_matview AS SELECT a FROM parent;
"""


def test_tables_of_every_shape(nightly_any: Nightly) -> None:
    nightly_any.database.execute(SHAPES)
    nightly_any.run()
    nightly_any.require_truth()
    assert set(nightly_any.outcomes()) == {
        f"public.{name}" for name in ("empty", "columnless", "unlogged", "parent", "child", "parted")
    }
    assert nightly_any.landed("public.columnless") == [b"{}\n"] * 3
    assert nightly_any.landed("public.parent") == [b'{"a":1,"b":"p"}\n']
    assert nightly_any.entry("public.empty").objects == () and nightly_any.entry("public.empty").rows == 0
    assert b'{"k":25,"v":"v25","w":-25}\n' in nightly_any.landed("public.parted")
    nightly_any.run()
    assert set(nightly_any.outcomes().values()) == {("unchanged", "unchanged")}
    nightly_any.database.execute("UPDATE parted SET v = 'x' WHERE k = 11")
    nightly_any.run()
    nightly_any.require_truth()
    assert nightly_any.outcome("public.parted") == ("extracted", "rows_changed")
    assert nightly_any.extracted_chunks("public.parted") == 1
    nightly_any.database.execute("ALTER TABLE parted DETACH PARTITION odd_order")
    nightly_any.run()
    nightly_any.require_truth()
    assert nightly_any.outcome("public.parted") == ("extracted", "rows_removed")
    assert nightly_any.entry("public.parted").reason.detail == "partition public.odd_order was detached or dropped"


def test_views_only_when_named(nightly: Nightly) -> None:
    nightly.database.execute(SHAPES)
    nightly.run(include=("public.*", "public.a_view", "public.a_matview"))
    assert nightly.landed("public.a_view") == nightly.landed("public.a_matview") == [b'{"a":1}\n', b'{"a":2}\n']
    nightly.run(include=("public.*", "public.a_view", "public.a_matview"))
    assert nightly.outcome("public.a_view") == ("unchanged", "identical")
    nightly.database.execute("INSERT INTO parent VALUES (7)")
    nightly.run(include=("public.*", "public.a_view", "public.a_matview"))
    assert nightly.outcome("public.a_view") == ("extracted", "no_proof")
    assert nightly.outcome("public.a_matview") == ("unchanged", "identical")


def test_wide_rows_and_toast(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE wide (id int, doc text)")
    nightly.database.execute(
        "INSERT INTO wide SELECT i, (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 4000) j) "
        "FROM generate_series(1, 60) i"
    )
    nightly.database.execute("INSERT INTO wide VALUES (0, repeat('w', 30000000))")
    nightly.run()
    nightly.require_truth()
    nightly.database.execute("UPDATE wide SET doc = doc || 'x' WHERE id = 3")
    nightly.run()
    nightly.require_truth()
    assert nightly.outcome("public.wide") == ("extracted", "rows_changed")


def test_a_row_wider_than_postgresql_can_print_fails_its_table_alone(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE calm AS SELECT 1 AS a")
    nightly.database.execute("CREATE TABLE huge AS SELECT repeat('h', 600000000) AS a, NULL::text AS b")
    nightly.database.execute("UPDATE huge SET b = a")
    result = nightly.run()
    assert result.failed == 1
    assert nightly.outcome("public.calm") == ("extracted", "first_run")
    assert nightly.outcome("public.huge") == ("failed", "failed")
    assert "1 GiB" in nightly.entry("public.huge").reason.detail


RULES: dict[str, dict[str, Any]] = {
    "exclude": {"rules": {"public.person": TableRule(columns=ColumnRule(exclude=("nino",)))}},
    "mask": {
        "rules": {
            "public.person": TableRule(columns=ColumnRule(mask={"nino": "hash", "name": "redact", "born": "null"}))
        },
        "mask_key": Secret("s3cret"),
    },
    "where": {"rules": {"public.person": TableRule(where="not test_data")}},
}


@pytest.mark.parametrize("what", RULES)
def test_rules_shape_lines_and_are_in_the_fingerprint(nightly: Nightly, what: str) -> None:
    database = nightly.database
    database.execute("CREATE TABLE person (id int, name text, nino text, born date, test_data bool)")
    rows = "SELECT i, 'n' || i, 'QQ' || i, '2000-01-01', i % 2 = 0 FROM generate_series(1, 9) i"
    database.execute(f"INSERT INTO person {rows}")
    nightly.run()
    nightly.run(**RULES[what])
    assert nightly.outcome("public.person") == ("extracted", "config_changed")
    lines = [json.loads(line) for line in nightly.landed("public.person")]
    if what == "exclude":
        assert list(lines[0]) == ["id", "name", "born", "test_data"]
    if what == "mask":
        assert lines[0]["name"] == "REDACTED" and lines[0]["born"] is None and len(lines[0]["nino"]) == 64
    if what == "where":
        assert [line["id"] for line in lines] == [1, 3, 5, 7, 9]
    nightly.run(**RULES[what])
    assert nightly.outcome("public.person") == ("unchanged", "unchanged")
    database.execute("UPDATE person SET name = 'other' WHERE id = 3")
    nightly.run(**RULES[what])
    assert nightly.entry("public.person").reason.code in ("rows_changed", "identical")
    nightly.run()
    nightly.require_truth()


def test_a_new_mask_key_changes_the_fingerprint(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE person (nino text); INSERT INTO person VALUES ('QQ123456C')")
    rules = {"public.person": TableRule(columns=ColumnRule(mask={"nino": "hash"}))}
    nightly.run(rules=rules, mask_key=Secret("one"))
    first = nightly.landed("public.person")
    nightly.run(rules=rules, mask_key=Secret("two"))
    assert nightly.outcome("public.person") == ("extracted", "config_changed")
    assert nightly.landed("public.person") != first


def test_a_pattern_that_matches_nothing_is_an_error(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE person (id int)")
    for named in ({"include": ("public.persn",)}, {"skip": ("audit_*",)}, {"only": ("persom",)}):
        with pytest.raises(ConfigError, match="matches no table"):
            nightly.run(**named)


def test_json_with_newlines_is_one_line_even_in_small_chunks(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE j (v json); ALTER TABLE j ALTER v SET STORAGE PLAIN")
    nightly.database.execute(
        'INSERT INTO j SELECT format(E\'{\\n "a" :\\r\\n %s, "b": "\\\\n %s"}\', i, repeat(\'y\', 300))::json '
        "FROM generate_series(1, 900) i"
    )
    nightly.run(chunk_bytes=CHUNK)
    nightly.require_truth()
    assert len(nightly.entry("public.j").objects) > 3
    assert [json.loads(line)["v"]["a"] for line in nightly.landed("public.j")] == list(range(1, 901))


LARGE = "repeat('x', 600000)"
ADDED = {
    "a default that rows from before share": f"ALTER TABLE t ADD large text DEFAULT {LARGE}",
    "a column that is computed when it is read": f"ALTER TABLE t ADD large text GENERATED ALWAYS AS ({LARGE}) VIRTUAL",
    "a partition's default": f"""ALTER TABLE t ADD large text DEFAULT {LARGE};
        ALTER TABLE t RENAME TO leaf; CREATE TABLE t (LIKE leaf) PARTITION BY LIST (id);
        ALTER TABLE t ATTACH PARTITION leaf DEFAULT""",
}


@pytest.mark.parametrize("added", ADDED)
def test_large_values_that_lie_in_no_block_are_read_row_by_row(nightly: Nightly, added: str) -> None:
    """Together the lines of a few blocks would be more than the 1 GiB that a value may have."""
    nightly.database.execute(f"CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1800) i; {ADDED[added]}")
    nightly.run()
    assert nightly.outcome("public.t") == ("extracted", "first_run")
    lines = [f'{{"id":{i},"large":""}}\n' for i in range(1, 1801)]
    entry = nightly.entry("public.t")
    assert (entry.rows, entry.raw_bytes) == (1800, sum(600_000 + len(line) for line in lines))


@pytest.mark.parametrize("column", ["b boolean DEFAULT false", "b int GENERATED ALWAYS AS (id) VIRTUAL"])
def test_small_values_that_lie_in_no_block_cost_nothing(pg: PgDatabase, column: str) -> None:
    pg.execute(f"CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t ADD {column}, ADD c text DEFAULT repeat('x', 250)")
    snapshot = PostgresSource(Secret(pg.url), Limits(), None).snapshot()
    ((part,),) = [info.parts for info in snapshot.tables(Selection(), "")]
    snapshot.close()
    assert part.narrow
