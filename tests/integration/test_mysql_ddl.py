"""Definitions that change under a snapshot of MariaDB: rows of another table, or other values, never land."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

import pytest

from fix_mariadb import MariaCluster, MyDatabase
from fix_mysql import ALL_RIGHTS, Session, age, lines_in, reader, snapshot_of, source_of
from fix_sql import chunks_in, text_of
from floodmark.config import Selection
from floodmark.errors import SnapshotLost, TableLocked
from floodmark.observed import TableInfo
from floodmark.source.base import SourceSnapshot

SETUP = (
    "CREATE TABLE t (id int PRIMARY KEY, a varchar(20)) CHARACTER SET utf8mb4",
    "CREATE TABLE u LIKE t",
    "CREATE TABLE v (id int PRIMARY KEY, a varchar(20), g varchar(30) AS (concat(a, '!')) VIRTUAL)",
    "CREATE TABLE e (id int PRIMARY KEY, a enum('x', 'y'))",
    "CREATE TABLE p (id int PRIMARY KEY, a varchar(20)) CHARACTER SET utf8mb4 PARTITION BY RANGE (id) "
    "(PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (200))",
    "INSERT INTO t VALUES (1, 't1'), (2, 'té')",
    "INSERT INTO u VALUES (1, 'u1'), (2, 'u2'), (3, 'u3')",
    "INSERT INTO v (id, a) VALUES (1, 'v1')",
    "INSERT INTO e VALUES (1, 'x'), (2, 'y')",
    "INSERT INTO p VALUES (1, 'p1'), (150, 'p2')",
    "CREATE VIEW w AS SELECT * FROM t",
)
# What is done, and the table that is read after it.
CHANGES: dict[str, tuple[str, Sequence[str]]] = {
    "rename swap": ("t", ["RENAME TABLE t TO x, u TO t, x TO u"]),
    "alter rename": ("t", ["ALTER TABLE t RENAME TO x", "ALTER TABLE u RENAME TO t"]),
    "drop and rename": ("t", ["DROP TABLE t", "RENAME TABLE u TO t"]),
    "drop and create": ("t", ["DROP TABLE t", "CREATE TABLE t LIKE u", "INSERT INTO t VALUES (9, 'new')"]),
    "create or replace": ("t", ["CREATE OR REPLACE TABLE t (id int PRIMARY KEY, a text) AS SELECT 9 id, 'new' a"]),
    "truncate": ("t", ["TRUNCATE TABLE t", "INSERT INTO t VALUES (9, 'new')"]),
    "exchange partition, the table": ("t", ["ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t"]),
    "exchange partition, the partitions": ("p", ["ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t"]),
    "drop partition": ("p", ["ALTER TABLE p DROP PARTITION p0"]),
    "truncate partition": ("p", ["ALTER TABLE p TRUNCATE PARTITION p0"]),
    "reorganize partition": (
        "p",
        [
            "ALTER TABLE p REORGANIZE PARTITION p0 INTO "
            "(PARTITION a VALUES LESS THAN (9), PARTITION b VALUES LESS THAN (100))"
        ],
    ),
    "add column": ("t", ["ALTER TABLE t ADD COLUMN b int DEFAULT 5, ALGORITHM=INSTANT"]),
    "add column first": ("t", ["ALTER TABLE t ADD COLUMN b int DEFAULT 5 FIRST, ALGORITHM=INSTANT"]),
    "drop column": ("t", ["ALTER TABLE t DROP COLUMN a, ALGORITHM=INSTANT"]),
    "drop and add column": (
        "t",
        [
            "ALTER TABLE t DROP COLUMN a, ALGORITHM=INSTANT",
            "ALTER TABLE t ADD COLUMN a varchar(20) DEFAULT 'new', ALGORITHM=INSTANT",
        ],
    ),
    "drop and add column of the same default": (
        "t",
        ["ALTER TABLE t DROP COLUMN a, ALGORITHM=INSTANT", "ALTER TABLE t ADD COLUMN a varchar(20), ALGORITHM=INSTANT"],
    ),
    "another virtual column": (
        "v",
        ["ALTER TABLE v DROP COLUMN g", "ALTER TABLE v ADD COLUMN g varchar(30) AS (concat(a, '?')) VIRTUAL"],
    ),
    "convert to character set": ("t", ["ALTER TABLE t CONVERT TO CHARACTER SET latin1"]),
    "another length": ("t", ["ALTER TABLE t MODIFY a varchar(40)"]),
    "another order of an enum": ("e", ["ALTER TABLE e MODIFY a enum('y', 'x')"]),
    "a longer enum": ("e", ["ALTER TABLE e MODIFY a enum('x', 'y', 'z')"]),
    "rebuild": ("t", ["ALTER TABLE t FORCE"]),
    "optimize": ("t", ["OPTIMIZE TABLE t"]),
    "analyze": ("t", ["ANALYZE TABLE t"]),
    "a new index": ("t", ["CREATE INDEX i ON t (a)"]),
    "another key": ("t", ["ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (a)"]),
    "another engine": ("t", ["ALTER TABLE t ENGINE = Aria", "INSERT INTO t VALUES (9, 'new')"]),
    "versioning": ("t", ["ALTER TABLE t ADD SYSTEM VERSIONING"]),
    "a view replaced": ("w", ["CREATE OR REPLACE VIEW w AS SELECT * FROM u"]),
    "a view altered": ("w", ["ALTER VIEW w AS SELECT * FROM u"]),
    "a view dropped and created": ("w", ["DROP VIEW w", "CREATE VIEW w AS SELECT * FROM u"]),
    "a view's table renamed": ("w", ["RENAME TABLE t TO x, u TO t, x TO u"]),
    "a table becomes a view": ("t", ["RENAME TABLE t TO x", "CREATE VIEW t AS SELECT * FROM u"]),
    "by a procedure": ("t", ["CREATE PROCEDURE r() RENAME TABLE t TO x, u TO t, x TO u", "CALL r()"]),
    "by a prepared statement": ("t", ["EXECUTE IMMEDIATE 'RENAME TABLE t TO x, u TO t, x TO u'"]),
}  # fmt: skip
INCLUDE = ("t", "u", "v", "e", "p", "w")
ROLES = {"all rights": ALL_RIGHTS, "no rights": ()}


# The rights of the role, and whether the snapshot has read the table before its definition changes.
SITUATIONS = [
    pytest.param("all rights", False, id="all rights, new to the snapshot"),
    pytest.param("no rights", True, id="no rights, read before"),
    pytest.param("all rights", True, id="all rights, read before", marks=pytest.mark.soak),
    pytest.param("no rights", False, id="no rights, new to the snapshot", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("role", "read_before"), SITUATIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_under_a_snapshot_lands_nothing_wrong(
    my: MyDatabase, change: str, role: str, read_before: bool
) -> None:
    """The tables are made in the very second of the snapshot: the hardest case."""
    my.execute(*SETUP)
    table, statements = CHANGES[change]
    with snapshot_of(reader(my, *ROLES[role]), 2) as snapshot:
        infos = {info.table.name: info for info in snapshot.tables(Selection(include=INCLUDE), "")}
        before = expected(my, table)
        if read_before:
            assert lines(snapshot, infos[table]) == before
        migration = Session(my)
        migration.start(*statements)
        migration.join(10)
        require_right_or_lost(snapshot, infos[table], before)


@pytest.mark.parametrize("role", ROLES)
def test_a_rename_that_waited_through_the_snapshot_lands_nothing_wrong(my: MyDatabase, role: str) -> None:
    """It was counted before the snapshot, so only the time of the definition tells."""
    my.execute(*SETUP, "CREATE TABLE a LIKE t", "INSERT INTO a VALUES (5, 'of a')")
    age()
    url = reader(my, *ROLES[role])
    blocker, migration = Session(my), Session(my)
    blocker.execute("BEGIN", "SELECT * FROM a")
    migration.start("RENAME TABLE t TO x, a TO t")  # it waits for a, before it asks for t
    assert migration.waits
    source = source_of(url)
    with closing(source.snapshot()) as snapshot:
        infos = {info.table.name: info for info in snapshot.tables(Selection(include=("t", "e")), "")}
        before = expected(my, "t")
        blocker.execute("ROLLBACK")
        migration.join()
        require_right_or_lost(snapshot, infos["t"], before)


def test_an_exchange_that_waited_through_the_snapshot_is_seen_at_the_end(my: MyDatabase) -> None:
    my.execute(*SETUP)
    age()
    blocker, migration = Session(my), Session(my)
    blocker.execute("BEGIN", "SELECT * FROM p")
    migration.start("ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t")
    assert migration.waits
    with snapshot_of(reader(my, *ALL_RIGHTS)) as snapshot:
        (info,) = snapshot.tables(Selection(include=("t",)), "")
        if info.denied is not None:  # it waits for this one
            assert "another session" in info.denied
            blocker.execute("ROLLBACK")
            return
        blocker.execute("ROLLBACK")
        migration.join()
        with suppress(SnapshotLost, TableLocked):
            found = lines(snapshot, info)
            assert found == ['{"id":1,"a":"t1"}', '{"id":2,"a":"té"}'] or snapshot.redefined_tables(
                [info], Selection(include=("t",)), ""
            ) == [info.table]


def test_a_json_column_stays_one_while_another_table_is_locked(my: MyDatabase) -> None:
    my.execute(*SETUP, "CREATE TABLE j (id int PRIMARY KEY, `a``b` json)", "INSERT INTO j VALUES (1, '[1, 2]')")
    age()
    blocker, migration = Session(my), Session(my)
    blocker.execute("BEGIN", "SELECT * FROM p")
    migration.start("ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t")
    assert migration.waits
    with snapshot_of(reader(my, *ALL_RIGHTS)) as snapshot:
        (info,) = snapshot.tables(Selection(include=("j",)), "")
        assert migration.waits and [column.type for column in info.columns] == ["int(11)", "json"]
        assert lines(snapshot, info) == ['{"id":1,"a`b":[1, 2]}']
    blocker.execute("ROLLBACK")
    migration.join()


@pytest.mark.parametrize("role", ROLES)
def test_an_imported_tablespace_lands_nothing_wrong(make_mariadb: Callable[..., MariaCluster], role: str) -> None:
    server = make_mariadb()
    with closing(server.database()) as my:
        my.execute(*SETUP)
        folder = server.data / my.name
        with snapshot_of(reader(my, *ROLES[role])) as snapshot:
            (info,) = snapshot.tables(Selection(include=("t",)), "")
            session = Session(my)
            session.execute("FLUSH TABLES u FOR EXPORT")
            for end in ("ibd", "cfg"):
                shutil.copy(folder / f"u.{end}", folder / f"saved.{end}")
            session.execute("UNLOCK TABLES", "ALTER TABLE t DISCARD TABLESPACE")
            for end in ("ibd", "cfg"):
                shutil.move(folder / f"saved.{end}", folder / f"t.{end}")
                shutil.chown(folder / f"t.{end}", folder.owner(), folder.group())
            session.execute("ALTER TABLE t IMPORT TABLESPACE")
            require_right_or_lost(snapshot, info, ['{"id":1,"a":"t1"}', '{"id":2,"a":"té"}'])


def test_an_unrelated_migration_costs_no_snapshot_if_the_role_sees_it(my: MyDatabase) -> None:
    my.execute(*SETUP)
    age()
    with snapshot_of(reader(my, *ALL_RIGHTS)) as snapshot:
        infos = {info.table.name: info for info in snapshot.tables(Selection(include=("t", "u")), "")}
        my.execute("ALTER TABLE u ADD COLUMN b int", "CREATE TABLE z (id int)", "CREATE OR REPLACE VIEW w AS SELECT 1")
        assert lines(snapshot, infos["t"]) == ['{"id":1,"a":"t1"}', '{"id":2,"a":"té"}']
        with pytest.raises(SnapshotLost):
            lines(snapshot, infos["u"])


def test_a_new_table_is_left_to_the_next_snapshot(my: MyDatabase) -> None:
    my.execute(*SETUP)
    with snapshot_of(reader(my, *ALL_RIGHTS)) as snapshot:
        my.execute("CREATE TABLE z (id int PRIMARY KEY)", "INSERT INTO z VALUES (1)")
        assert "z" not in {info.table.name for info in snapshot.tables(Selection(), "")}


# Helpers


def expected(my: MyDatabase, table: str) -> list[str]:
    with snapshot_of(my.url, 1) as snapshot:
        return lines_in(snapshot, table)


def lines(snapshot: SourceSnapshot, info: TableInfo) -> list[str]:
    return [line for chunk in chunks_in(info) for line in text_of(snapshot, info, chunk).splitlines()]


def require_right_or_lost(snapshot: SourceSnapshot, info: TableInfo, before: list[str]) -> None:
    """A table is read as it was, or not at all: then only another snapshot helps."""
    try:
        found = lines(snapshot, info)
    except (SnapshotLost, TableLocked):
        return
    assert found == before
