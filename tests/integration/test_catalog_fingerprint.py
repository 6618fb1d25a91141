"""Changes that show in a table's fingerprint, those that show in the stamp alone, and those that must not show.

Each statement of WITHOUT_A_TRACE is undone at once, so that only a catalog row's own xmin tells of it.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pytest

from fix_catalog import MODS, read_catalog
from fix_postgres import PgDatabase, Role
from floodmark.config import ColumnRule, Secret, Selection, TableRule

OWN_CAST = "CREATE CAST (mood AS text) WITH FUNCTION as_text(mood); ALTER EXTENSION plpgsql ADD CAST (mood AS text);"
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
    ("t", "CREATE CAST (mood AS json) WITH FUNCTION as_json(mood)"),
    ("t", "CREATE CAST (mood AS text) WITH FUNCTION as_text(mood)"),
    ("t", "ALTER EXTENSION plpgsql ADD TYPE inner_pair"),
    ("t", OWN_CAST + MODS + "UPDATE pg_extension SET extversion = '99'"),
    ("t", "DROP TABLE t; CREATE TABLE t (id int)"),
    ("split", "ALTER TABLE split RENAME name TO name2"),
    ("split", "ALTER TABLE split ADD extra int DEFAULT 7"),
]  # fmt: skip
# A leaf's own facts show in its own fingerprint, and in no other leaf's.
CHANGES_OF_A_LEAF = [
    ("leaf", "ALTER TABLE leaf ALTER name SET NOT NULL"),
    ("deep", "ALTER TABLE deep ALTER name SET NOT NULL"),
    ("deep", "ALTER TABLE deep SET UNLOGGED"),
    ("leaf", "ALTER TABLE leaf SET ACCESS METHOD heap2"),
    ("leaf", "DROP TABLE leaf; CREATE TABLE leaf PARTITION OF split FOR VALUES FROM (0) TO (10)"),
]
# Read through the parent, all members and their places count.
CHANGES_OF_THE_TREE = [
    "ALTER TABLE split ATTACH PARTITION apart FOR VALUES FROM (20) TO (30)",
    "ALTER TABLE split DETACH PARTITION leaf",
    "ALTER TABLE nested DETACH PARTITION deep",
    "ALTER TABLE split DETACH PARTITION leaf; ALTER TABLE split ATTACH PARTITION leaf DEFAULT",
    MODS + "UPDATE pg_class SET relpartbound = (SELECT relpartbound FROM pg_class WHERE relname = 'deep') "
    "WHERE relname = 'leaf'",
    *(change for _, change in CHANGES_OF_A_LEAF),
]
WITHOUT_A_TRACE = [
    ("t", "ALTER TABLE t RENAME name TO x; ALTER TABLE t RENAME x TO name"),
    ("t", "ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'x' TO 'sad'"),
    ("t", "ALTER TYPE pair RENAME ATTRIBUTE y TO x1; ALTER TYPE pair RENAME ATTRIBUTE x1 TO y"),
    ("t", "ALTER TYPE inner_pair RENAME ATTRIBUTE a TO b; ALTER TYPE inner_pair RENAME ATTRIBUTE b TO a"),
    ("t", "ALTER TABLE row_type RENAME a TO c; ALTER TABLE row_type RENAME c TO a"),
    ("t", "ALTER TYPE moods RENAME TO x; ALTER TYPE x RENAME TO moods"),
    ("t", "ALTER DOMAIN feeling SET DEFAULT 'sad'; ALTER DOMAIN feeling DROP DEFAULT"),
    ("t", MODS + "UPDATE pg_range SET rngsubdiff = rngsubdiff"),
    ("t", OWN_CAST + MODS + "UPDATE pg_extension SET extname = extname"),
    ("split", "ALTER TABLE split RENAME name TO x; ALTER TABLE split RENAME x TO name"),
]  # fmt: skip
# The locks of a statement show which relation it read, unless a function can lock any other.
NAMES_WITHOUT_A_TRACE = [
    ("t", "ALTER TABLE t RENAME TO x; ALTER TABLE x RENAME TO t"),
    ("t", "CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s; ALTER TABLE s.t SET SCHEMA public"),
    ("t", "ALTER SCHEMA public RENAME TO x; ALTER SCHEMA x RENAME TO public"),
    ("t", "BEGIN; ALTER TABLE t RENAME TO x; CREATE VIEW t AS SELECT 1 AS id; COMMIT; "
     "DROP VIEW t; ALTER TABLE x RENAME TO t"),
    ("t", "GRANT USAGE ON SCHEMA public TO public"),
    ("leaf", "ALTER TABLE leaf RENAME TO x; ALTER TABLE x RENAME TO leaf"),
    ("deep", "ALTER TABLE deep RENAME TO x; ALTER TABLE x RENAME TO deep"),
]  # fmt: skip
LEAF_WITHOUT_A_TRACE = [
    "ALTER TABLE deep ALTER name SET NOT NULL; ALTER TABLE deep ALTER name DROP NOT NULL",
]
# These write a row that the stamp is made of: within a run they cost one retry, from run to run nothing.
SEEN_WITHIN_A_RUN = [
    ("t", "GRANT SELECT (id) ON t TO public"),
    ("leaf", "GRANT SELECT (id) ON leaf TO public"),
    ("t", "ALTER TABLE t ALTER id SET STATISTICS 7"),
    ("leaf", "ALTER TABLE leaf ALTER id SET STATISTICS 7"),
    ("t", "ALTER TABLE t ALTER name SET STORAGE EXTERNAL"),
    ("t", "ALTER DOMAIN feeling SET DEFAULT 'sad'"),
]
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
    "ALTER TABLE t OWNER TO CURRENT_USER; REVOKE SELECT ON t, split FROM public; GRANT SELECT ON leaf TO public",
    MODS + "UPDATE pg_extension SET extversion = '99'",
    "DROP EXTENSION plpgsql; CREATE EXTENSION plpgsql",
    "ALTER EXTENSION plpgsql ADD TYPE lonely; ALTER EXTENSION plpgsql ADD DOMAIN d",
    "ALTER EXTENSION plpgsql ADD TABLE t",
]
# Neither the table nor any other leaf is touched by these.
HARMLESS_TO_THE_OTHER_LEAVES = [
    "ALTER TABLE split ATTACH PARTITION apart FOR VALUES FROM (20) TO (30)",
    "CREATE TABLE later PARTITION OF split FOR VALUES FROM (30) TO (40)",
    "ALTER TABLE split DETACH PARTITION apart",
    "ALTER TABLE apart ADD more int; DROP TABLE later",
    "ALTER TABLE deep ALTER name SET STATISTICS 7",
    "ALTER TABLE nested DETACH PARTITION deep",
    "DROP TABLE nested",
]


def prepare(database: PgDatabase) -> None:
    database.execute(SCHEMA)
    database.execute("CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler")


class Prints(NamedTuple):
    """Of t and split: the tables' fingerprints, their parts', and the parts' stamps."""

    schema: dict[str, str]
    parts: dict[str, str]
    stamps: dict[str, str]


def prints(database: PgDatabase, selection: Selection | None = None) -> Prints:
    found = read_catalog(database, selection)
    infos = {name: found[f"public.{name}"].info for name in ("t", "split") if f"public.{name}" in found}
    parts = [part for info in infos.values() for part in info.parts]
    return Prints(
        {name: info.fingerprint.schema for name, info in infos.items()},
        {part.table.name: part.fingerprint for part in parts},
        {part.table.name: part.stamp for part in parts},
    )


def reader(database: PgDatabase) -> Role:
    """A role that may read split, and no partition of it."""
    role = database.role(f"reader_{database.name}")
    database.execute(f"GRANT SELECT ON split TO {role.name}")
    return role


def through_parent(database: PgDatabase, role: Role) -> Prints:
    info = read_catalog(database, Selection(only=("split",)), dsn=role.dsn)["public.split"].info
    (part,) = info.parts
    assert "through the parent" in str(part.no_proof)
    return Prints({"split": info.fingerprint.schema}, {"split": part.fingerprint}, {"split": part.stamp})


@pytest.mark.parametrize(("table", "change"), NAMES_WITHOUT_A_TRACE)
def test_a_name_there_and_back_shows_if_locks_can_not_show_it(pg_any: PgDatabase, table: str, change: str) -> None:
    prepare(pg_any)
    unprovable = TableRule(where="length(name) > 0")
    selections = (Selection(), Selection(rules={"t": unprovable, "split": unprovable}))
    before = [prints(pg_any, selection) for selection in selections]
    pg_any.execute(change)
    exact, inexact = (prints(pg_any, selection) for selection in selections)
    assert exact == before[0]
    others = {part for part in before[1].stamps if part != table and "SCHEMA" not in change}
    assert inexact.stamps[table] != before[1].stamps[table]
    assert all(inexact.stamps[part] == before[1].stamps[part] for part in others)
    assert (inexact.schema, inexact.parts) == (before[1].schema, before[1].parts)


@pytest.mark.parametrize(("table", "change"), CHANGES)
def test_a_change_of_schema_shows(pg: PgDatabase, table: str, change: str) -> None:
    prepare(pg)
    before = prints(pg)
    pg.execute(change)
    now = prints(pg)
    assert now.schema[table] != before.schema[table]
    assert table == "t" or all(now.parts[leaf] != before.parts[leaf] for leaf in ("leaf", "deep"))


@pytest.mark.parametrize(("leaf", "change"), CHANGES_OF_A_LEAF)
def test_a_change_of_a_leaf_shows_in_that_leaf_alone(pg: PgDatabase, leaf: str, change: str) -> None:
    prepare(pg)
    before = prints(pg)
    pg.execute(change)
    now = prints(pg)
    (other,) = {"leaf", "deep"} - {leaf}
    assert now.parts[leaf] != before.parts[leaf]
    assert (now.parts[other], now.stamps[other]) == (before.parts[other], before.stamps[other])
    assert now.schema == before.schema


@pytest.mark.parametrize("change", CHANGES_OF_THE_TREE)
def test_read_through_the_parent_all_members_count(pg: PgDatabase, change: str) -> None:
    prepare(pg)
    role = reader(pg)
    before = through_parent(pg, role)
    pg.execute(change)
    assert through_parent(pg, role).parts != before.parts


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE split DETACH PARTITION leaf; ALTER TABLE split ATTACH PARTITION leaf FOR VALUES FROM (0) TO (10)",
        *LEAF_WITHOUT_A_TRACE,
    ],
)
def test_read_through_the_parent_all_members_are_stamped(pg: PgDatabase, change: str) -> None:
    prepare(pg)
    role = reader(pg)
    before = through_parent(pg, role)
    pg.execute(change)
    now = through_parent(pg, role)
    assert now.parts == before.parts and now.stamps != before.stamps


@pytest.mark.parametrize(("table", "change"), WITHOUT_A_TRACE)
def test_a_change_there_and_back_shows_in_the_stamp(pg_any: PgDatabase, table: str, change: str) -> None:
    prepare(pg_any)
    if change.startswith(OWN_CAST):
        pg_any.execute(OWN_CAST)
        change = change.removeprefix(OWN_CAST)
    before = prints(pg_any)
    for statement in [change] if change.startswith(MODS) else change.split("; "):
        pg_any.execute(statement)
    now = prints(pg_any)
    parts = ("leaf", "deep") if table == "split" else ("t",)
    assert all(now.stamps[part] != before.stamps[part] for part in parts)
    assert (now.schema, now.parts) == (before.schema, before.parts), "from run to run the content counts"


@pytest.mark.parametrize("change", LEAF_WITHOUT_A_TRACE)
def test_a_leafs_change_there_and_back_shows_in_its_stamp(pg_any: PgDatabase, change: str) -> None:
    prepare(pg_any)
    before = prints(pg_any)
    for statement in change.split("; "):
        pg_any.execute(statement)
    now = prints(pg_any)
    assert now.stamps["deep"] != before.stamps["deep"]
    assert now.stamps["leaf"] == before.stamps["leaf"]
    assert (now.schema, now.parts) == (before.schema, before.parts)


def test_what_shapes_no_line_does_not_show(pg_any: PgDatabase) -> None:
    prepare(pg_any)
    before = prints(pg_any)
    for change in HARMLESS:
        pg_any.execute(change)
        assert prints(pg_any, Selection(include=("t", "split"))) == before, change
    for statement in (
        "VACUUM FULL t", "VACUUM FREEZE split", "VACUUM FULL pg_attribute", "VACUUM FREEZE pg_enum",
        "VACUUM FULL pg_type", "VACUUM FREEZE pg_class", "VACUUM FULL pg_class", "VACUUM FULL pg_namespace",
        "VACUUM FULL pg_inherits", "REINDEX TABLE t",
    ):  # fmt: skip
        pg_any.execute(statement)
        assert prints(pg_any, Selection(include=("t", "split"))) == before, statement


@pytest.mark.parametrize(("part", "change"), SEEN_WITHIN_A_RUN)
def test_what_shapes_no_line_costs_nothing_from_run_to_run(pg_any: PgDatabase, part: str, change: str) -> None:
    prepare(pg_any)
    before = prints(pg_any)
    pg_any.execute(change)
    now = prints(pg_any)
    assert (now.schema, now.parts) == (before.schema, before.parts)
    assert now.stamps[part] != before.stamps[part]


def test_other_leaves_come_and_go(pg_any: PgDatabase) -> None:
    prepare(pg_any)
    before = prints(pg_any)
    for change in HARMLESS_TO_THE_OTHER_LEAVES:
        pg_any.execute(change)
        now = prints(pg_any)
        assert now.schema == before.schema, change
        for leaf in ("t", "leaf"):
            assert (now.parts[leaf], now.stamps[leaf]) == (before.parts[leaf], before.stamps[leaf]), change


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
