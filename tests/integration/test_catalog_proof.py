"""When change can't be proven: each row of the table in docs/change-detection.md, on real servers."""

from __future__ import annotations

from typing import Any

import pytest

from fix_catalog import MODS, doubt, read_catalog
from fix_postgres import PgDatabase
from floodmark.config import ColumnRule, Secret, Selection, TableRule
from floodmark.source.postgres.types import STABLE

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN age AS int CHECK (VALUE > 0); CREATE DOMAIN older AS age;
CREATE TYPE pair AS (a mood, b older[]); CREATE TYPE pairs AS (p pair[]);
CREATE TYPE moods AS RANGE (subtype = mood); CREATE TYPE floats AS RANGE (subtype = float8);
CREATE DOMAIN pointer AS regclass; CREATE TYPE pointers AS (a int, p pointer); CREATE DOMAIN deep AS pointers;
CREATE TYPE pointer_range AS RANGE (subtype = regclass);
CREATE TYPE tinted AS ENUM ('red');
CREATE FUNCTION tint(tinted) RETURNS json LANGUAGE sql AS $$SELECT '"x"'::json$$;
CREATE CAST (tinted AS json) WITH FUNCTION tint(tinted); CREATE DOMAIN tinted_domain AS tinted;
CREATE TYPE tinted_pair AS (a tinted); CREATE TYPE told AS ENUM ('a');
CREATE FUNCTION tell(told) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
CREATE CAST (told AS text) WITH FUNCTION tell(told) AS IMPLICIT; CREATE DOMAIN told_domain AS told;
CREATE TYPE own; CREATE FUNCTION own_in(cstring) RETURNS own LANGUAGE internal STRICT IMMUTABLE AS 'textin';
CREATE FUNCTION own_out(own) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'textout';
CREATE TYPE own (INPUT = own_in, OUTPUT = own_out); CREATE TYPE own_pair AS (a own);
CREATE TABLE other (a int, b mood); CREATE TABLE pointing (a regrole);
"""
LIMITED = "CREATE TABLE t (a {})"


def ruled(table: str = "t", **rule: Any) -> Selection:
    return Selection(only=(table,), rules={table: TableRule(**rule)}, mask_key=Secret("k"))


def reason(database: PgDatabase, **rule: Any) -> str | None:
    return doubt(read_catalog(database, ruled(**rule))["public.t"])


def test_every_built_in_base_type_is_on_the_list_or_in_doubt(pg_any: PgDatabase) -> None:
    names = [
        name
        for (name,) in pg_any.query(
            """SELECT t.typname FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem
            WHERE t.typtype = 'b' AND t.oid < 16384 AND e.typarray IS DISTINCT FROM t.oid ORDER BY 1"""
        )
    ]
    assert set(names) >= STABLE
    new = {"oid8"} if pg_any.version >= 19 else set[str]()
    for name in names:
        pg_any.execute(f'CREATE TABLE "t_{name}" (a pg_catalog."{name}")')
    found = read_catalog(pg_any)
    stable = {name for name in names if doubt(found[f"public.t_{name}"]) is None}
    assert stable == STABLE
    in_doubt = set(names) - stable
    assert {name for name in in_doubt if not name.startswith("reg")} - new == {
        "aclitem", "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies",
        "pg_mcv_list", "pg_ndistinct", "pg_node_tree",
    }  # fmt: skip
    assert {name for name in in_doubt if name.startswith("reg")} >= {
        "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator",
        "regproc", "regprocedure", "regrole", "regtype",
    }  # fmt: skip


@pytest.mark.parametrize(
    "column",
    ["int[]", "mood", "mood[]", "age", "older", "pair", "pairs", "pairs[]", "int4range", "tstzmultirange[]", "moods",
     "floats", "other", "other[]", "name", "information_schema.cardinal_number", "told"],
)  # fmt: skip
def test_types_made_of_what_is_stable_are_provable(pg_any: PgDatabase, column: str) -> None:
    pg_any.execute(TYPES + LIMITED.format(column))
    assert reason(pg_any) is None


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("regclass", "column a: the output of regclass"),
        ("regtype[]", "the output of regtype"),
        ("aclitem[]", "the output of aclitem"),
        ("pointer", "the output of regclass"),
        ("pointers", "the output of regclass"),
        ("deep[]", "the output of regclass"),
        ("pointer_range", "the output of regclass"),
        ("pointing", "the output of regrole"),
        ("tinted", "type public.tinted has a cast to json"),
        ("tinted[]", "type public.tinted has a cast to json"),
        ("tinted_domain", "type public.tinted has a cast to json"),
        ("tinted_pair", "type public.tinted has a cast to json"),
        ("own", "type public.own is not a built-in"),
        ("own[]", "type public.own is not a built-in"),
        ("own_pair", "type public.own is not a built-in"),
    ],
)
def test_types_that_may_print_otherwise_without_a_write(pg: PgDatabase, column: str, why: str) -> None:
    pg.execute(TYPES + LIMITED.format(column) + "; ALTER TABLE t ADD b int")
    assert why in str(reason(pg))
    assert reason(pg, columns=ColumnRule(exclude=("a",))) is None
    assert reason(pg, columns=ColumnRule(mask={"a": "null"})) is None
    assert reason(pg, columns=ColumnRule(mask={"a": "redact"})) is None


def test_a_pointer_prints_a_new_name_without_a_write(pg: PgDatabase) -> None:
    """Why reg* is not on the list."""
    pg.execute("CREATE TABLE u (); CREATE TABLE t (a regclass); INSERT INTO t VALUES ('u')")
    before = pg.query("SELECT xmin::text, row_to_json(t.*)::text FROM t")
    pg.execute("ALTER TABLE u RENAME TO v")
    after = pg.query("SELECT xmin::text, row_to_json(t.*)::text FROM t")
    assert before[0][0] == after[0][0]
    assert before[0][1] != after[0][1]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("int", None),
        ("mood", None),
        ("told", "type public.told has a cast to text of its own"),
        ("told_domain", "type public.told has a cast to text of its own"),
        ("regclass", "the output of regclass"),
        ("own", "not a built-in"),
    ],
)
def test_a_hash_hangs_on_the_cast_to_text(pg: PgDatabase, column: str, why: str | None) -> None:
    pg.execute(TYPES + LIMITED.format(column))
    found = reason(pg, columns=ColumnRule(mask={"a": "hash"}))
    assert (found is None) if why is None else (why in str(found))


def test_virtual_generated_columns(pg: PgDatabase) -> None:
    pg.execute(
        "CREATE TABLE t (a int, v int GENERATED ALWAYS AS (a * 2) VIRTUAL, s int GENERATED ALWAYS AS (a) STORED)"
    )
    for rule in ({}, {"columns": ColumnRule(mask={"v": "redact"})}, {"columns": ColumnRule(mask={"v": "hash"})}):
        assert "column v: a virtual generated column" in str(reason(pg, **rule))
    without = ColumnRule(exclude=("v",))
    assert reason(pg, columns=without) is None
    assert reason(pg, columns=ColumnRule(mask={"v": "null"})) is None
    assert "uses column v" in str(reason(pg, columns=without, where="v = 2"))
    assert reason(pg, columns=without, where="s = 2") is None
    pg.execute("CREATE TABLE u (a t)")
    assert "contains a virtual generated column" in str(doubt(read_catalog(pg)["public.u"]))


def test_relations_without_a_usable_xmin(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE VIEW v AS SELECT 1 AS id; CREATE MATERIALIZED VIEW m AS SELECT 1 AS id;
        CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (id int) SERVER s;
        CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE h (a int) USING heap2"""
    )
    found = read_catalog(pg_any, Selection(include=("v", "m", "f", "h")))
    assert {label: doubt(table) for label, table in found.items()} == {
        "public.v": "a view has no xmin to prove changes with",
        "public.m": "a materialized view has no xmin to prove changes with",
        "public.f": "a foreign table has no xmin to prove changes with",
        "public.h": "its access method is not heap",
    }
    assert not any(part.by_block for table in found.values() for part in table.info.parts)


def test_a_catalog_table_moved_to_a_users_schema(pg_any: PgDatabase) -> None:
    pg_any.execute(MODS + "ALTER TABLE information_schema.sql_parts SET SCHEMA public")
    assert doubt(read_catalog(pg_any)["public.sql_parts"]) == "it is a catalog table"


@pytest.mark.parametrize("extension", ["citus", "timescaledb"])
def test_extensions_that_keep_rows_elsewhere(pg: PgDatabase, extension: str) -> None:
    pg.execute("CREATE TABLE t (a int)")
    pg.execute(
        MODS
        + f"INSERT INTO pg_extension VALUES (99999, '{extension}', 10, 'public'::regnamespace, false, '1', NULL, NULL)"
    )
    (part,) = read_catalog(pg)["public.t"].info.parts
    assert extension in str(part.no_proof)
    assert not part.by_block


@pytest.mark.parametrize(("relation", "column"), [("t", 0), ("t", 1), ("leaf", 0), ("leaf", 1)])
def test_security_labels(pg: PgDatabase, relation: str, column: int) -> None:
    pg.execute(
        """CREATE TABLE t (a int) PARTITION BY RANGE (a); CREATE TABLE u (a int);
        CREATE TABLE leaf PARTITION OF t FOR VALUES FROM (0) TO (10)"""
    )
    assert reason(pg) is None
    before = read_catalog(pg)["public.t"].info
    pg.execute(
        MODS
        + f"INSERT INTO pg_seclabel VALUES ('{relation}'::regclass, 'pg_class'::regclass, {column}, 'anon', 'MASKED')"
    )
    found = read_catalog(pg)
    assert "security label of anon" in str(doubt(found["public.t"]))
    assert doubt(found["public.u"]) is None
    now = found["public.t"].info
    assert [part.fingerprint for part in now.parts] != [part.fingerprint for part in before.parts]
    assert (now.fingerprint.schema != before.fingerprint.schema) == (relation == "t")


def test_detect_modes(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE t (a int); CREATE TABLE u (a int)")
    found = read_catalog(pg, Selection(detect="always", rules={"t": TableRule(detect="exact")}))
    assert (doubt(found["public.t"]), doubt(found["public.u"])) == (None, "detect: always")
    found = read_catalog(pg, Selection(rules={"t": TableRule(detect="column", column="a")}))
    assert (doubt(found["public.t"]), doubt(found["public.u"])) == (None, None)
    assert (found["public.t"].info.watched, found["public.u"].info.watched) == ("a", None)
    assert found["public.t"].info.parts[0].by_block


# Filters


FILTERED = """CREATE TABLE t (i int, n numeric, b bool, t text, c text COLLATE "C", p text COLLATE "POSIX", m mood,
    d date, z timestamptz, u uuid, r regclass, iv interval, a int[], dom age, told told,
    "user" text)"""


@pytest.mark.parametrize(
    "where",
    [
        "i = 1 and n <> 2.5 and not b",
        "t = 'x' or t in ('a', 'b''c') or t like 'a%' or t is distinct from 'x'",
        "c < 'm' or p between 'a' and 'b'",
        "m = 'sad' or m > 'sad'",
        "d = '2024-01-31' and z < '2024-01-31T12:00:00Z' and z > d",
        "u = '00000000-0000-0000-0000-000000000000'",
        "\"user\" = 'x'",
        "(i = 1) is not true and b is false and t is null",
    ],
)
def test_provable_filters_mean_something_to_the_server(pg_any: PgDatabase, where: str) -> None:
    pg_any.execute(TYPES + FILTERED)
    columns = ColumnRule(exclude=("r",))
    assert reason(pg_any, where=where, columns=columns) is None
    assert pg_any.query(f"SELECT FROM t WHERE ({where})") == []
    assert read_catalog(pg_any, ruled(where=where))["public.t"].where == where


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("r = 1259", "uses column r"),
        ("iv = '1 day'", "uses column iv"),
        ("a is null", "uses column a"),
        ("dom = 1", "uses column dom"),
        ("told = 'a'", "uses column told"),
        ("t < 'x'", "collation"),
        ("user = 'x'", "keyword user"),
        ("i = length(t)", "at length"),
        ("z < now()", "now"),
        ("z < 'yesterday'", "present time"),
        ("exists (select from other)", "exists"),
        ("tableoid = 1", "tableoid"),
        ("t = 'x\\'", "backslash"),
    ],
)
def test_filters_beyond_the_list(pg: PgDatabase, where: str, why: str) -> None:
    pg.execute(TYPES + FILTERED)
    columns = ColumnRule(exclude=("r",))
    assert why in str(reason(pg, where=where, columns=columns))
    pg.query(f"SELECT FROM t WHERE ({where})")  # valid, only not provable


def test_a_users_cast_between_built_ins_takes_the_proof_from_filters(pg_any: PgDatabase) -> None:
    pg_any.execute(
        """CREATE TABLE t (a text); CREATE FUNCTION c(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE CAST (text AS int) WITH FUNCTION c(text) AS IMPLICIT"""
    )
    assert "cast between built-in types" in str(reason(pg_any, where="a = 1"))
    assert reason(pg_any) is None


def test_equality_under_a_nondeterministic_collation_is_beyond_the_list(pg_any: PgDatabase) -> None:
    """The wheels' servers have no ICU, which alone makes such collations: the catalog is told it is one."""
    pg_any.execute("CREATE COLLATION loose (provider = libc, locale = 'C'); CREATE TABLE t (a text COLLATE loose)")
    assert reason(pg_any, where="a = 'x'") is None
    pg_any.execute(MODS + "UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'")
    assert "uses column a" in str(reason(pg_any, where="a = 'x'"))
