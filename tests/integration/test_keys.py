"""Keys and comments: a manifest has those that hold in the lines, and a change of them is no change of the data."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec import UNSET

from fix_catalog import read_catalog
from fix_mariadb import MyDatabase
from fix_mysql import ALL_RIGHTS, reader
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.config.settings import Mask
from floodmark.observed import TableInfo
from floodmark.source.base import Source
from floodmark.source.keys import DeclaredKey, landed_keys
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source

STRANGE = 'It\'s "odd":\n\t\\ 你好 \u2028 -- ; %s {} 𝄞'
Keys = tuple[tuple[str, ...] | None, tuple[tuple[str, ...], ...]]


def keys_of(tables: dict[str, TableInfo]) -> dict[str, Keys]:
    return {name: (info.primary_key, info.unique_keys) for name, info in tables.items()}


def masking(**masks: Mask) -> TableRule:
    return TableRule(ColumnRule(mask=masks))


def test_a_key_without_all_of_its_columns_is_none() -> None:
    declared = [DeclaredKey(("a", "b"), primary=True), DeclaredKey(("b",)), DeclaredKey(("c",)), DeclaredKey(("b",))]
    assert landed_keys(declared, {"b"}).primary is None
    assert landed_keys(declared, {"b"}).unique == (("b",),)
    assert landed_keys([*declared, DeclaredKey(("a", "b"))], {"a", "b", "c"}).unique == (("b",), ("c",))
    assert landed_keys(declared, {"a", "b", "c"}).primary == ("a", "b")


TABLES = """
CREATE TABLE plain (b int, a int, c text UNIQUE, d text, PRIMARY KEY (a, b), UNIQUE (d, c));
CREATE UNIQUE INDEX ON plain (d) INCLUDE (a); CREATE UNIQUE INDEX ON plain (a) WHERE b > 0;
CREATE UNIQUE INDEX ON plain (lower(d)); CREATE UNIQUE INDEX ON plain (b) NULLS NOT DISTINCT; CREATE INDEX ON plain (a);
CREATE TABLE late (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, b text UNIQUE DEFERRABLE);
CREATE TABLE lists (a int[] PRIMARY KEY, b jsonb UNIQUE, c interval UNIQUE);
CREATE TABLE apart (a int, b int, EXCLUDE USING btree (a WITH =), UNIQUE (b));
CREATE TABLE split (a int, b int, PRIMARY KEY (a, b)) PARTITION BY RANGE (a);
CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (9); CREATE UNIQUE INDEX ON split_1 (b);
CREATE TABLE half (a int NOT NULL, b int) PARTITION BY RANGE (a);
CREATE TABLE half_1 PARTITION OF half FOR VALUES FROM (0) TO (9);
ALTER TABLE ONLY half ADD PRIMARY KEY (a);
CREATE TABLE mother (a int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (a)) INHERITS (mother);
CREATE VIEW seen AS SELECT a FROM plain; CREATE MATERIALIZED VIEW kept AS SELECT a, b FROM split;
CREATE UNIQUE INDEX ON kept (b);
CREATE TABLE hidden (a int PRIMARY KEY, b int UNIQUE, c int UNIQUE, d text UNIQUE);
CREATE TABLE watched (a int PRIMARY KEY, at timestamptz);
CREATE DOMAIN list AS int[]; CREATE TYPE colour AS ENUM ('red');
CREATE TABLE typed (a list UNIQUE, b colour UNIQUE, c uuid UNIQUE);
CREATE TABLE broken (a int); INSERT INTO broken VALUES (1), (1)"""


def test_postgres_gives_the_keys_that_hold(pg: PgDatabase) -> None:
    pg.execute(TABLES)
    connection = pg.connect(autocommit=True)
    with pytest.raises(Exception, match="could not create unique index"):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY ON broken (a)")  # it stays, and is not valid
    overlaps = connection.info.server_version >= 180000
    if overlaps:
        pg.execute("CREATE TABLE stays (a int4range, b int4range, PRIMARY KEY (a, b WITHOUT OVERLAPS))")
    rules = {
        "public.hidden": masking(a="null", b="redact", d="hash"),
        "public.lists": masking(a="hash"),
        "public.watched": TableRule(detect="column", column="at"),
        "public.seen": TableRule(),
    }
    wanted = ("*", "seen", "kept")
    found = read_catalog(pg, Selection(include=wanted, rules=rules, mask_key=Secret("a key")))
    keys = keys_of({name.removeprefix("public."): table.info for name, table in found.items()})
    expected: dict[str, Keys] = {
        "plain": (("a", "b"), (("b",), ("c",), ("d",), ("d", "c"))),
        "late": (("a",), (("b",),)),
        "lists": (("a",), (("b",), ("c",))),  # by the hash of its text, which has an array's bounds
        "apart": (None, (("b",),)),
        "split": (("a", "b"), ()),
        "half": (None, ()),
        "mother": (("a",), ()),
        "child": (("a",), ()),
        "seen": (None, ()),
        "kept": (None, (("b",),)),
        "hidden": (None, (("c",), ("d",))),
        "watched": (None, ()),
        "typed": (None, (("b",), ("c",))),
        "broken": (None, ()),
    }
    assert keys == expected | ({"stays": (None, ())} if overlaps else {})


def test_a_changed_key_or_comment_is_no_change(nightly: Nightly) -> None:
    pg = nightly.database
    pg.execute("CREATE TABLE t (a int PRIMARY KEY, b text, c text); INSERT INTO t VALUES (1, 'x', 'y')")
    pg.execute("COMMENT ON COLUMN t.b IS 'the old one'")
    nightly.run()
    before = nightly.entry("public.t")
    assert (before.primary_key, before.unique_keys, before.comment) == (("a",), UNSET, UNSET)
    text = STRANGE.replace("'", "''")
    pg.execute(f"COMMENT ON TABLE t IS '{text}'; COMMENT ON COLUMN t.b IS 'new'; COMMENT ON COLUMN t.c IS '{text}'")
    pg.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; CREATE UNIQUE INDEX ON t (b)")
    masks = Selection(rules={"public.t": masking(c="redact")}, mask_key=None)
    nightly.run()
    entry = nightly.entry("public.t")
    assert (entry.status, entry.reason.code) == ("unchanged", "unchanged")
    assert entry.primary_key is UNSET and entry.unique_keys == (("b",),)
    assert entry.comment == STRANGE and [one.comment for one in entry.columns] == [UNSET, "new", STRANGE]
    assert (entry.fingerprint, entry.changed_at) == (before.fingerprint, before.changed_at)
    assert "你好" not in str([event for event in nightly.events if type(event).__name__ != "TableFinished"])
    nightly.run(rules=masks.rules)
    masked = nightly.entry("public.t").columns[2]
    assert (masked.type, masked.comment) == ("text", STRANGE)


def tables_of(source: Source, **selection: Any) -> dict[str, TableInfo]:
    snapshot = source.snapshot()
    try:
        found = snapshot.tables(Selection(**selection, mask_key=Secret("a key")), "jsonl/gzip")
        return {info.table.name: info for info in found}
    finally:
        snapshot.close()


def comments_of(info: TableInfo) -> list[object]:
    return [info.comment, *(one.comment for one in info.columns)]


def test_mariadb_gives_keys_and_comments(my: MyDatabase) -> None:
    text = STRANGE.replace("\\", "\\\\").replace("'", "''")
    my.execute(
        f"CREATE TABLE t (b int, a int COMMENT 'a number', c varchar(50), d varchar(900), PRIMARY KEY (a, b), "
        f"UNIQUE (c(9)), UNIQUE (b), UNIQUE (d) USING HASH, f double UNIQUE) CHARACTER SET utf8mb4 COMMENT '{text}'",
        "CREATE TABLE v (a int PRIMARY KEY, b int UNIQUE) WITH SYSTEM VERSIONING",
        "CREATE TABLE m (a int PRIMARY KEY) ENGINE = MyISAM",
        "CREATE TABLE g (a int, UNIQUE (a)) ENGINE = MERGE UNION = ()",
        "CREATE VIEW w AS SELECT a FROM t",
    )
    source = open_sql_source(SqlOptions(Secret(reader(my, *ALL_RIGHTS)), Limits()))
    found = tables_of(source, include=("*", f"{my.name}.w"))
    assert keys_of(found) == {
        "t": (("a", "b"), (("b",), ("c",), ("d",))),
        "v": (("a",), (("b",),)),
        "m": (("a",), ()),
        "g": (None, ()),
        "w": (None, ()),
    }
    held = STRANGE.replace("𝄞", "?")  # MariaDB itself keeps no more of it
    assert comments_of(found["t"])[:3] == [held, UNSET, "a number"]
    assert comments_of(found["w"])[0] is None, "MariaDB says VIEW there"


def test_sqlite_gives_keys_without_null(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db")
    database.executescript(
        """CREATE TABLE row (id INTEGER PRIMARY KEY, b text UNIQUE, c, d blob UNIQUE);
        CREATE UNIQUE INDEX i ON row (b) WHERE b > 'a'; CREATE UNIQUE INDEX j ON row (lower(b));
        CREATE UNIQUE INDEX k ON row (b, id);
        CREATE TABLE nulls (id text PRIMARY KEY); INSERT INTO nulls VALUES (NULL), (NULL);
        CREATE TABLE full (id text NOT NULL PRIMARY KEY); CREATE TABLE untyped (a NOT NULL PRIMARY KEY);
        CREATE TABLE flat (a int, b text, PRIMARY KEY (b, a)) WITHOUT ROWID; CREATE VIEW v AS SELECT id FROM row"""
    )
    database.close()
    source = open_sql_source(SqlOptions(Secret(f"sqlite:///{tmp_path}/a.db")))
    assert keys_of(tables_of(source, include=("*", "v"))) == {
        "row": (("id",), (("b",), ("b", "id"))),
        "nulls": (None, (("id",),)),
        "full": (("id",), ()),
        "untyped": (None, ()),
        "flat": (("b", "a"), ()),
        "v": (None, ()),
    }


def test_duckdb_gives_keys_and_comments(tmp_path: Path) -> None:
    database = duckdb.connect(str(tmp_path / "a.duckdb"))
    database.execute(
        "CREATE TABLE t (a int, b text, c date UNIQUE, PRIMARY KEY (b, a)); CREATE VIEW v AS SELECT a FROM t"
    )
    database.close()
    source = open_sql_source(SqlOptions(Secret(f"duckdb:///{tmp_path}/a.duckdb")))
    before = tables_of(source, include=("*", "v"))
    assert keys_of(before) == {"t": (("b", "a"), (("c",),)), "v": (None, ())}
    with duckdb.connect(str(tmp_path / "a.duckdb")) as database:
        text = STRANGE.replace("'", "''")
        database.execute(f"COMMENT ON TABLE t IS '{text}'; COMMENT ON COLUMN t.b IS 'b it is'")
    found = tables_of(source, include=("*", "v"))
    assert comments_of(found["t"]) == [STRANGE, UNSET, "b it is", UNSET]
    assert found["t"].fingerprint == before["t"].fingerprint
