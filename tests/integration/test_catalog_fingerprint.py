"""What changes a table's fingerprint, and what must not: on real servers.

Each statement of WITHOUT_A_TRACE is undone at once, so that only a catalog row's own xmin tells of it.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from fix_catalog import MODS, read_catalog
from fix_postgres import PgDatabase
from floodmark.config import ColumnRule, Secret, Selection, TableRule

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN feeling AS mood;
CREATE TYPE inner_pair AS (a int, f feeling); CREATE TYPE pair AS (x inner_pair[], y text);
CREATE TYPE moods AS RANGE (subtype = mood); CREATE DOMAIN moods_domain AS moods;
CREATE TABLE row_type (a int, b int); CREATE TYPE lonely AS ENUM ('a');
CREATE TABLE t (id int, name text, m mood, p pair, r moods, rr row_type[]);
CREATE TABLE split (id int, name text) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF split FOR VALUES FROM (0) TO (10);
CREATE TABLE nested PARTITION OF split FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
CREATE TABLE deep PARTITION OF nested FOR VALUES IN (11);
CREATE TABLE apart (id int, name text); CREATE TABLE bystander (id int);
CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE sql AS $$SELECT '1'::json$$;
CREATE FUNCTION as_text(mood) RETURNS text LANGUAGE sql AS $$SELECT '1'$$;
INSERT INTO t (id, m) VALUES (1, 'sad'); INSERT INTO split VALUES (1, 'x'), (11, 'y');
"""

CHANGES = [
    ("t", "ALTER TABLE t RENAME name TO name2"),
    ("t", "ALTER TABLE t ADD extra int"),
    ("t", "ALTER TABLE t ADD extra int DEFAULT 7"),
    ("t", "ALTER TABLE t DROP name"),
    ("t", "ALTER TABLE t ALTER name TYPE varchar"),
    ("t", "ALTER TABLE t ALTER id SET NOT NULL"),
    ("t", "ALTER TABLE t SET UNLOGGED"),
    ("t", "ALTER TABLE t SET ACCESS METHOD heap2"),
    ("t", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"),
    ("t", "ALTER TYPE mood ADD VALUE 'mad'"),
    ("t", "ALTER TYPE pair RENAME ATTRIBUTE y TO z"),
    ("t", "ALTER TYPE inner_pair RENAME ATTRIBUTE a TO b"),
    ("t", "ALTER TABLE row_type RENAME a TO c"),
    ("t", "ALTER DOMAIN feeling SET DEFAULT 'sad'"),
    ("t", "CREATE CAST (mood AS json) WITH FUNCTION as_json(mood)"),
    ("t", "CREATE CAST (mood AS text) WITH FUNCTION as_text(mood)"),
    ("t", "DROP EXTENSION plpgsql"),
    ("t", MODS + "UPDATE pg_extension SET extversion = '99'"),
    ("t", "DROP TABLE t; CREATE TABLE t (id int)"),
    ("split", "ALTER TABLE split ATTACH PARTITION apart FOR VALUES FROM (20) TO (30)"),
    ("split", "ALTER TABLE split DETACH PARTITION leaf"),
    ("split", "ALTER TABLE nested DETACH PARTITION deep"),
    ("split", "ALTER TABLE split DETACH PARTITION leaf; ALTER TABLE split ATTACH PARTITION leaf DEFAULT"),
    ("split", MODS + "UPDATE pg_class SET relpartbound = (SELECT relpartbound FROM pg_class WHERE relname = 'deep') "
     "WHERE relname = 'leaf'"),
    ("split", "ALTER TABLE leaf ALTER name SET NOT NULL"),
    ("split", "ALTER TABLE deep ALTER name SET NOT NULL"),
    ("split", "ALTER TABLE deep SET UNLOGGED"),
    ("split", "ALTER TABLE split RENAME name TO name2"),
    ("split", "ALTER TABLE split ADD extra int DEFAULT 7"),
]  # fmt: skip
WITHOUT_A_TRACE = [
    ("t", "ALTER TABLE t RENAME name TO x; ALTER TABLE t RENAME x TO name"),
    ("t", "ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'x' TO 'sad'"),
    ("t", "ALTER TYPE pair RENAME ATTRIBUTE y TO x1; ALTER TYPE pair RENAME ATTRIBUTE x1 TO y"),
    ("t", "ALTER TYPE inner_pair RENAME ATTRIBUTE a TO b; ALTER TYPE inner_pair RENAME ATTRIBUTE b TO a"),
    ("t", "ALTER TABLE row_type RENAME a TO c; ALTER TABLE row_type RENAME c TO a"),
    ("t", "ALTER TYPE moods RENAME TO x; ALTER TYPE x RENAME TO moods"),
    ("t", "ALTER DOMAIN feeling SET DEFAULT 'sad'; ALTER DOMAIN feeling DROP DEFAULT"),
    ("t", MODS + "UPDATE pg_range SET rngsubdiff = rngsubdiff"),
    ("t", MODS + "UPDATE pg_extension SET extname = extname"),
    ("split", "ALTER TABLE split RENAME name TO x; ALTER TABLE split RENAME x TO name"),
    ("split", "ALTER TABLE deep ALTER name SET NOT NULL; ALTER TABLE deep ALTER name DROP NOT NULL"),
]  # fmt: skip
HARMLESS = [
    "INSERT INTO t (id) VALUES (2); DELETE FROM split; UPDATE leaf SET id = 2",
    "ANALYZE t; ANALYZE split",
    "TRUNCATE t, split",
    "CREATE INDEX ON t (id); CREATE INDEX ON split (id)",
    "COMMENT ON COLUMN t.name IS 'x'; COMMENT ON TABLE leaf IS 'x'",
    "ALTER TABLE bystander ADD b int; ALTER TYPE lonely ADD VALUE 'b'; CREATE TABLE newcomer (id int)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE t SET (autovacuum_enabled = off); GRANT SELECT ON t, split TO public",
    "CREATE DOMAIN d AS int; CREATE VIEW v AS SELECT * FROM t",
]


def prepare(database: PgDatabase) -> None:
    database.execute(SCHEMA)
    database.execute("CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler")


def schema_digests(database: PgDatabase) -> dict[str, str]:
    found = read_catalog(database)
    return {name: found[f"public.{name}"].info.fingerprint.schema for name in ("t", "split")}


@pytest.mark.parametrize(("table", "change"), CHANGES)
def test_a_change_of_schema_shows(pg: PgDatabase, table: str, change: str) -> None:
    prepare(pg)
    before = schema_digests(pg)
    pg.execute(change)
    assert schema_digests(pg)[table] != before[table]


@pytest.mark.parametrize(("table", "change"), WITHOUT_A_TRACE)
def test_a_change_there_and_back_shows(pg_any: PgDatabase, table: str, change: str) -> None:
    prepare(pg_any)
    before = schema_digests(pg_any)
    pg_any.execute(change)
    assert schema_digests(pg_any)[table] != before[table]


def test_what_shapes_no_line_does_not_show(pg_any: PgDatabase) -> None:
    prepare(pg_any)
    before = schema_digests(pg_any)
    for change in HARMLESS:
        pg_any.execute(change)
        assert schema_digests(pg_any) == before, change
    for statement in ("VACUUM FULL t", "VACUUM FREEZE split", "VACUUM FULL pg_attribute", "VACUUM FREEZE pg_enum"):
        pg_any.execute(statement)
        assert schema_digests(pg_any) == before, statement


def test_all_that_is_chosen_shows(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t (a int, b int)")

    def digests(
        rule: TableRule | None = None, encoding: str = "x", key: str = "k", **selection: Any
    ) -> tuple[str, str]:
        rules = {} if rule is None else {"t": rule}
        choice = Selection(rules=rules, mask_key=Secret(key), **selection)
        fingerprint = read_catalog(pg, choice, digest=encoding)["public.t"].info.fingerprint
        return fingerprint.config, fingerprint.schema

    hashed = TableRule(columns=ColumnRule(mask={"a": "hash"}))
    found = [
        digests(),
        digests(encoding="y"),
        digests(detect="always"),
        digests(TableRule(detect="column", column="a")),
        digests(TableRule(detect="column", column="b")),
        digests(TableRule(where="a = 1")),
        digests(TableRule(where="a = 2")),
        digests(TableRule(columns=ColumnRule(exclude=("a",)))),
        digests(TableRule(columns=ColumnRule(exclude=("b",)))),
        digests(TableRule(columns=ColumnRule(mask={"a": "null"}))),
        digests(TableRule(columns=ColumnRule(mask={"a": "redact"}))),
        digests(TableRule(columns=ColumnRule(mask={"b": "redact"}))),
        digests(hashed),
        digests(hashed, key="another"),
    ]
    assert len({config for config, _ in found}) == len(found)
    assert len({schema for _, schema in found}) == 1
    assert digests() == digests(TableRule()) == digests(key="another")
    assert digests(detect="always") == digests(TableRule(detect="always"))
    assert digests(include=("t",)) == digests()


def test_a_thousand_tables_take_a_few_queries(pg: PgDatabase) -> None:
    pg.execute(
        """DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format(
        'CREATE TABLE t%s (id bigint, name text, made timestamptz, amount numeric(10,2), flag bool, data jsonb)', n);
        END LOOP; END $$"""
    )
    begun = time.monotonic()
    found = read_catalog(pg)
    assert len(found) == 1000
    assert len({table.info.fingerprint.schema for table in found.values()}) == 1000
    assert time.monotonic() - begun < 3  # 0.2 s on two idle cores; queries per table would take 20 s
