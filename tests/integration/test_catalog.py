"""Which tables there are, what they are made of, and which can't be read: on real servers."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from fix_catalog import MODS, begin, doubt, read_catalog
from fix_postgres import Cluster, PgDatabase
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.source.postgres.catalog import read_tables
from floodmark.source.postgres.masks import mask_settings

ODD = 'Größe "1"/a.b ?*'


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def ruled(table: str, **rule: Any) -> Selection:
    return Selection(rules={table: TableRule(**rule)}, mask_key=Secret("a mask key"))


def masked(table: str, **masks: Any) -> Selection:
    return ruled(table, columns=ColumnRule(mask=masks))


# Which relations


def test_tables_of_every_kind(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE SCHEMA app; CREATE SCHEMA floodmark;
        CREATE TABLE app.ordinary (id int); CREATE UNLOGGED TABLE unlogged (id int); CREATE TABLE nothing ();
        CREATE TABLE mother (id int); CREATE TABLE child (more int) INHERITS (mother);
        CREATE TABLE split (id int) PARTITION BY RANGE (id);
        CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (10) PARTITION BY LIST (id);
        CREATE TABLE split_1_1 PARTITION OF split_1 FOR VALUES IN (1);
        CREATE TABLE floodmark.journal (id int); CREATE TABLE owned (id int);
        ALTER EXTENSION plpgsql ADD TABLE owned;
        CREATE VIEW a_view AS SELECT 1 AS id; CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id;
        CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
        CREATE FOREIGN TABLE a_foreign (id int) SERVER s"""
    )
    pg_any.connect(autocommit=True).execute("CREATE TEMP TABLE passing (id int)")
    pg_any.execute(MODS + "CREATE TABLE pg_toast.hidden (id int)")
    found = read_catalog(pg_any)
    assert {label: table.info.kind for label, table in found.items()} == {
        "app.ordinary": "table",
        "public.child": "table",
        "public.mother": "table",
        "public.nothing": "table",
        "public.split": "partitioned table",
        "public.unlogged": "table",
    }
    assert list(found) == sorted(found)
    assert found["public.nothing"].columns_sql == ()
    assert [c.name for c in found["public.child"].info.columns] == ["id", "more"]
    named = ("a_view", "a_matview", "a_foreign", "owned", "floodmark.*")
    found = read_catalog(pg_any, Selection(include=named))
    assert {label: table.info.kind for label, table in found.items()} == {
        "floodmark.journal": "table",
        "public.a_foreign": "foreign table",
        "public.a_matview": "materialized view",
        "public.a_view": "view",
        "public.owned": "table",
    }
    for label in ("public.a_view", "public.a_matview", "public.a_foreign"):
        (part,) = found[label].info.parts
        assert not part.by_block
        assert part.no_proof is not None
        assert part.id == str(found[label].info.oid)


@pytest.mark.parametrize(
    "pattern",
    ["a_vi*", "split_1", "split_1_1", "pg_catalog.*", "pg_catalog.pg_class", "information_schema.sql_features",
     "pg_toast.*", "pg_temp*.*", "passing"],
)  # fmt: skip
def test_what_no_pattern_picks(pg: PgDatabase, pattern: str) -> None:
    pg.execute(
        """CREATE VIEW a_view AS SELECT 1 AS id; CREATE TABLE split (id int, t text) PARTITION BY RANGE (id);
        CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (10) PARTITION BY LIST (id);
        CREATE TABLE split_1_1 PARTITION OF split_1 FOR VALUES IN (1)"""
    )
    pg.connect(autocommit=True).execute("CREATE TEMP TABLE passing (id int)")
    with pytest.raises(ConfigError):
        read_catalog(pg, Selection(include=(pattern,)))


def test_names_of_any_kind(pg_any: PgDatabase) -> None:
    pg_any.execute(f"CREATE SCHEMA {ident(ODD)}; CREATE TABLE {ident(ODD)}.{ident(ODD)} ({ident(ODD)} int, r int)")
    pg_any.execute(f"INSERT INTO {ident(ODD)}.{ident(ODD)} VALUES (1, 2)")
    found = read_catalog(pg_any, Selection(only=(f"{ident(ODD)}.{ident(ODD)}",)))
    (table,) = found.values()
    assert (table.info.table.schema, table.info.table.name) == (ODD, ODD)
    items = ", ".join(table.columns_sql)
    rows = pg_any.query(f"SELECT row_to_json(r.*) FROM (SELECT {items} FROM {ident(ODD)}.{ident(ODD)}) r")
    assert rows == [({ODD: 1, "r": 2},)]


def test_columns_come_in_order_with_the_sources_own_types(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (b numeric(5,2) NOT NULL, gone int, a text, m mood[]);
        ALTER TABLE t DROP gone, ADD c int"""
    )
    info = read_catalog(pg_any)["public.t"].info
    assert [(c.name, c.type, c.nullable) for c in info.columns] == [
        ("b", "numeric(5,2)", False),
        ("a", "text", True),
        ("m", "public.mood[]", True),
        ("c", "integer", True),
    ]


# Columns and masks


def test_excluded_columns_are_gone(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t (a int, b int, c json)")
    table = read_catalog(pg, ruled("t", columns=ColumnRule(exclude=("b", "c"))))["public.t"]
    assert [c.name for c in table.info.columns] == ["a"]
    assert table.columns_sql == ('"a" AS "a"',)
    assert not table.raw_newlines


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (ColumnRule(exclude=("notse",)), r"public\.t\.columns\.exclude: the table has no column notse\n.*notes"),
        (ColumnRule(mask={"A": "hash"}), r"public\.t\.columns\.mask: the table has no column A"),
        (ColumnRule(exclude=("gone",)), "no column gone"),
        (ColumnRule(exclude=("a", "notes")), "public.t: it leaves no column"),
    ],
)
def test_a_rule_that_does_not_fit_its_table_is_an_error(pg: PgDatabase, columns: ColumnRule, why: str) -> None:
    pg.execute("CREATE TABLE t (a int, notes text, gone int); ALTER TABLE t DROP gone")
    with pytest.raises(ConfigError, match=why):
        read_catalog(pg, ruled("t", columns=columns))


def test_a_rule_for_a_missing_table_and_a_hash_without_key_are_errors(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t (a int)")
    with pytest.raises(ConfigError, match=r"tables\.rules: nope"):
        read_catalog(pg, ruled("nope"))
    with pytest.raises(ConfigError, match="needs a key"):
        read_catalog(pg, Selection(rules={"t": TableRule(columns=ColumnRule(mask={"a": "hash"}))}))


def test_masks_hide_values_and_keep_nulls(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE TYPE pair AS (x int, y text);
        CREATE TABLE t (n text, r text, h text, hb bytea, hi int, rp pair, hp pair);
        INSERT INTO t VALUES ('n', 'r', 'Grün "1"', '\\x00ff', 42, ROW(NULL, 'y'), ROW(1, NULL)),
            (NULL, NULL, NULL, NULL, NULL, NULL, NULL), ('', '', '', '', 0, ROW(NULL, NULL), ROW(NULL, NULL))"""
    )
    selection = masked("t", n="null", r="redact", h="hash", hb="hash", hi="hash", rp="redact", hp="hash")
    table = read_catalog(pg_any, selection)["public.t"]
    assert {c.type for c in table.info.columns} == {"text"}
    assert masked_rows(pg_any, table.columns_sql) == [
        (None, "REDACTED", mac('Grün "1"'), mac("\\x00ff"), mac("42"), "REDACTED", mac("(1,)")),
        (None,) * 7,
        (None, "REDACTED", mac(""), mac("\\x"), mac("0"), "REDACTED", mac("(,)")),
    ]
    assert not any("a mask key" in item or "61206d61736b" in item for item in table.columns_sql)


def mac(text: str) -> str:
    return hmac.new(b"a mask key", text.encode(), hashlib.sha256).hexdigest()


def masked_rows(database: PgDatabase, items: tuple[str, ...]) -> list[tuple[Any, ...]]:
    connection = database.connect(autocommit=True)
    begin(connection, Limits())
    for name, value in mask_settings(Secret("a mask key")).items():
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))
    return connection.execute(f"SELECT {', '.join(items)} FROM public.t").fetchall()


def test_a_masked_column_may_be_null_when_its_mask_says_so(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int)")
    columns = read_catalog(pg, masked("t", a="null", b="redact", c="hash"))["public.t"].info.columns
    assert [c.nullable for c in columns] == [True, False, True]


def test_masks_call_only_the_servers_own_functions(pg: PgDatabase) -> None:
    """A function of the user's with a better fitting name must not be called, whatever the search path."""
    pg.execute(
        """CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE SCHEMA evil;
        CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT ''stolen''::bytea'"""
    )
    (item,) = read_catalog(pg, masked("t", a="hash"))["public.t"].columns_sql
    connection = pg.connect(autocommit=True)
    for name, value in (mask_settings(Secret("a mask key")) | {"search_path": "evil, pg_catalog"}).items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    assert connection.execute(f"SELECT {item} FROM public.t").fetchall() == [(mac("1"),)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("json", True), ("json[]", True), ("jsonb", False), ("text", False), ("dj", True), ("cj", True),
        ("cj[]", True), ("cast_to_json", True), ("plain", False),
    ],
)  # fmt: skip
def test_which_tables_may_hold_raw_newlines(pg: PgDatabase, column: str, expected: bool) -> None:
    pg.execute(
        """CREATE DOMAIN dj AS json; CREATE TYPE cj AS (a int, b dj); CREATE TYPE plain AS ENUM ('a');
        CREATE TYPE cast_to_json AS ENUM ('a');
        CREATE FUNCTION j(cast_to_json) RETURNS json LANGUAGE sql AS $$SELECT E'{\\n}'::json$$;
        CREATE CAST (cast_to_json AS json) WITH FUNCTION j(cast_to_json)"""
    )
    pg.execute(f"CREATE TABLE t (a int, b {column})")
    assert read_catalog(pg)["public.t"].raw_newlines is expected
    assert not read_catalog(pg, masked("t", b="redact"))["public.t"].raw_newlines


# Parts


def test_an_ordinary_table_is_one_part_with_its_sizes(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE TABLE t (a int, b text); ALTER TABLE t ALTER b SET STORAGE EXTERNAL;
        INSERT INTO t SELECT n, repeat('x', 10000) FROM generate_series(1, 500) n"""
    )
    info = read_catalog(pg_any)["public.t"].info
    (part,) = info.parts
    size = pg_any.value("SELECT pg_relation_size('t')")
    assert part.heap_blocks * 8192 == size > 0
    assert part.total_bytes > 500 * 10000
    assert part.relfilenode == pg_any.value("SELECT pg_relation_filenode('t')")
    assert (part.id, part.table, part.by_block, part.no_proof) == (str(info.oid), info.table, True, None)


def test_a_partitioned_tables_parts_are_its_leaves_in_a_steady_order(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE TABLE split (id int, t text) PARTITION BY RANGE (id);
        CREATE TABLE nested PARTITION OF split FOR VALUES FROM (20) TO (30) PARTITION BY LIST (id);
        CREATE TABLE z PARTITION OF split FOR VALUES FROM (0) TO (10);
        CREATE TABLE y (t text, gone int, id int); ALTER TABLE y DROP gone;
        CREATE TABLE x PARTITION OF nested FOR VALUES IN (21); CREATE TABLE b PARTITION OF nested DEFAULT;
        ALTER TABLE split ATTACH PARTITION y FOR VALUES FROM (10) TO (20); INSERT INTO split VALUES (11, 'y')"""
    )
    table = read_catalog(pg_any)["public.split"]
    assert [part.table.name for part in table.info.parts] == ["z", "y", "x", "b"]
    assert [part.id for part in table.info.parts] == sorted(part.id for part in table.info.parts)
    assert all(part.by_block and part.no_proof is None for part in table.info.parts)
    # A leaf's columns may stand in another order: the list names them.
    assert pg_any.query(f"SELECT {', '.join(table.columns_sql)} FROM ONLY y") == [(11, "y")]


def test_a_partitioned_table_without_partitions_has_no_part(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE split (id int) PARTITION BY RANGE (id)")
    assert read_catalog(pg)["public.split"].info.parts == ()


def test_a_foreign_partition_is_a_part_that_is_read_whole(pg: PgDatabase) -> None:
    pg.execute(
        """CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
        CREATE TABLE split (id int) PARTITION BY RANGE (id);
        CREATE TABLE near PARTITION OF split FOR VALUES FROM (0) TO (9);
        CREATE FOREIGN TABLE far PARTITION OF split FOR VALUES FROM (10) TO (20) SERVER s"""
    )
    near, far = read_catalog(pg)["public.split"].info.parts
    assert (near.by_block, near.no_proof) == (True, None)
    assert (far.by_block, far.no_proof) == (False, "a foreign table has no xmin to prove changes with")


@pytest.mark.parametrize("leaf", ["an ordinary table", "partitioned itself"])
def test_a_pending_detach_takes_the_leaf_out_and_the_proof_away(pg_any: PgDatabase, leaf: str) -> None:
    deeper = "PARTITION BY LIST (id); CREATE TABLE leaves_too PARTITION OF leaves DEFAULT"
    pg_any.execute(
        f"""CREATE TABLE split (id int) PARTITION BY RANGE (id);
        CREATE TABLE stays PARTITION OF split FOR VALUES FROM (0) TO (10);
        CREATE TABLE leaves PARTITION OF split FOR VALUES FROM (10) TO (20)
        {deeper if leaf == "partitioned itself" else ""}"""
    )
    before = read_catalog(pg_any)["public.split"]
    assert doubt(before) is None
    interrupt_detach(pg_any)
    found = read_catalog(pg_any)
    assert list(found) == ["public.split"]
    assert [part.table.name for part in found["public.split"].info.parts] == ["stays"]
    assert "DETACH CONCURRENTLY" in str(doubt(found["public.split"]))
    ((stays, then),) = [
        (part, old) for part in found["public.split"].info.parts for old in before.info.parts if part.id == old.id
    ]
    assert (stays.fingerprint, stays.stamp) == (then.fingerprint, then.stamp), "the others are what they were"


def interrupt_detach(database: PgDatabase) -> None:
    reader = database.connect()
    reader.execute("SELECT * FROM split")
    detaching = database.connect(autocommit=True)
    detaching.execute("SET statement_timeout = '300ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        detaching.execute("ALTER TABLE split DETACH PARTITION leaves CONCURRENTLY")
    reader.rollback()
    assert database.value("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'leaves'::regclass")


def test_virtual_columns_make_a_partitioned_table_one_part(pg: PgDatabase) -> None:
    pg.execute(
        """CREATE TABLE split (id int, v int GENERATED ALWAYS AS (id * 2) VIRTUAL) PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF split (v GENERATED ALWAYS AS (id * 3)) FOR VALUES FROM (0) TO (10);
        INSERT INTO split VALUES (1)"""
    )
    (part,) = read_catalog(pg)["public.split"].info.parts
    assert (part.table.name, part.by_block) == ("split", False)
    assert "virtual" in str(part.no_proof)
    assert part.heap_blocks == 1
    without = ColumnRule(exclude=("v",))
    assert [p.table.name for p in parts(pg, columns=without)] == ["leaf"]
    assert [p.table.name for p in parts(pg, columns=without, where="v = 2")] == ["split"]


def parts(database: PgDatabase, **rule: Any) -> Any:
    return read_catalog(database, ruled("split", **rule))["public.split"].info.parts


@pytest.mark.parametrize("leaf", ["public", "hidden"])
def test_a_leaf_that_only_the_parent_may_read_is_read_through_it(pg_any: PgDatabase, leaf: str) -> None:
    role = pg_any.role("reader_of_split")
    pg_any.execute(
        f"""CREATE SCHEMA hidden; CREATE TABLE split (id int) PARTITION BY RANGE (id);
        CREATE TABLE {leaf}.leaf PARTITION OF split FOR VALUES FROM (0) TO (10);
        GRANT SELECT ON split TO {role.name}"""
    )
    if leaf == "hidden":
        pg_any.execute(f"GRANT SELECT ON hidden.leaf TO {role.name}")
    info = read_catalog(pg_any, dsn=role.dsn)["public.split"].info
    assert info.denied is None
    (part,) = info.parts
    assert (part.table.name, part.by_block) == ("split", False)
    assert "read through the parent" in str(part.no_proof)
    pg_any.execute(f"GRANT SELECT ON {leaf}.leaf TO {role.name}; GRANT USAGE ON SCHEMA hidden TO {role.name}")
    (part,) = read_catalog(pg_any, dsn=role.dsn)["public.split"].info.parts
    assert (part.table.name, part.by_block, part.no_proof) == ("leaf", True, None)


def test_a_table_held_by_a_migration_does_not_hold_up_the_others(pg_any: PgDatabase) -> None:
    pg_any.execute("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t")
    pg_any.execute("CREATE TABLE u (a int)")
    migration = pg_any.connect()
    migration.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    begun = time.monotonic()
    (part,) = read_catalog(pg_any, limits=Limits(lock_timeout=20))["public.t"].info.parts
    assert time.monotonic() - begun < 10
    assert part.heap_blocks == pg_any.value("SELECT relpages FROM pg_class WHERE relname = 't'") > 0


# Denied


def test_missing_rights_deny_their_table_alone(pg_any: PgDatabase) -> None:
    role = pg_any.role("reader_of_some")
    pg_any.execute(
        f"""CREATE SCHEMA app; CREATE TABLE app.hidden (a int); CREATE TABLE nothing (a int);
        CREATE TABLE partly (a int, b int); CREATE TABLE fine (a int);
        GRANT SELECT ON app.hidden, fine TO {role.name}; GRANT SELECT (a) ON partly TO {role.name}"""
    )
    denied = {label: table.info.denied for label, table in read_catalog(pg_any, dsn=role.dsn).items()}
    assert denied == {
        "app.hidden": 'no USAGE on its schema: GRANT USAGE ON SCHEMA "app" TO "reader_of_some"',
        "public.nothing": 'no SELECT: GRANT SELECT ON "public"."nothing" TO "reader_of_some"',
        "public.partly": 'SELECT on some columns is not enough: GRANT SELECT ON "public"."partly" TO "reader_of_some"',
        "public.fine": None,
    }
    assert {table.info.denied for table in read_catalog(pg_any).values()} == {None}


def test_row_level_security_denies_a_role_it_applies_to(pg_any: PgDatabase) -> None:
    role = pg_any.role("reader_of_rows")
    pg_any.execute(
        f"""CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE TABLE mine (a int); ALTER TABLE mine OWNER TO {role.name}; ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
        CREATE TABLE forced (a int); ALTER TABLE forced OWNER TO {role.name};
        ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE TABLE split (id int) PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF split FOR VALUES FROM (0) TO (10); ALTER TABLE leaf ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}"""
    )
    denied = {label: table.info.denied for label, table in read_catalog(pg_any, dsn=role.dsn).items()}
    assert {label for label, why in denied.items() if why} == {"public.t", "public.forced", "public.split"}
    assert 'row-level security on "public"."leaf"' in str(denied["public.split"])
    pg_any.execute(f"ALTER ROLE {role.name} BYPASSRLS")
    assert {table.info.denied for table in read_catalog(pg_any, dsn=role.dsn).values()} == {None}


def test_unlogged_tables_are_denied_on_a_standby(
    private_server: Cluster, standby: Callable[[Cluster], Cluster]
) -> None:
    database = private_server.database()
    database.execute(
        """CREATE UNLOGGED TABLE u (a int); CREATE TABLE t (a int); CREATE TABLE split (id int) PARTITION BY RANGE (id);
        CREATE UNLOGGED TABLE leaf PARTITION OF split FOR VALUES FROM (0) TO (10)"""
    )
    assert {table.info.denied for table in read_catalog(database).values()} == {None}
    twin = database.on(standby(private_server))
    denied = {label: table.info.denied for label, table in read_catalog(twin).items()}
    assert denied["public.t"] is None
    assert '"public"."u" is unlogged' in str(denied["public.u"])
    assert '"public"."leaf" is unlogged' in str(denied["public.split"])


def test_a_table_dropped_after_the_snapshot_is_not_called_denied(pg_any: PgDatabase) -> None:
    pg_any.execute("CREATE TABLE t (a int)")
    with psycopg.connect(pg_any.dsn, autocommit=True) as connection:
        begin(connection, Limits())
        connection.execute("SELECT 1")
        pg_any.execute("DROP TABLE t")
        _, (table,) = read_tables(connection, Selection(), "d")
    assert table.info.denied is None
    assert table.info.parts[0].heap_blocks == 0
