"""Digests of MariaDB where a server would give one that proves nothing: each such case is read instead."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import text

from fix_mariadb import MariaCluster, MyDatabase
from fix_mysql import lines_in, snapshot_of
from fix_sql import chunks_in
from floodmark.config import Selection
from floodmark.observed import Question
from floodmark.source.mysql.digest import digest_rows


def test_a_value_that_is_too_long_for_a_packet_is_not_taken_for_null(
    make_mariadb: Callable[..., MariaCluster],
) -> None:
    """CONCAT gives NULL for a text that is longer than a packet."""
    server = make_mariadb(settings={"max-allowed-packet": "1024"})
    with closing(server.database()) as database:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(2000))", "INSERT INTO t VALUES (1, NULL)")
        assert digest(database) is not None
        for letter in "xy":
            database.execute(f"UPDATE t SET v = REPEAT('{letter}', 1024)")
            assert digest(database) is None


@pytest.mark.parametrize("collation", ["latin2_czech_cs", "swe7_swedish_ci", "utf16_bin", "ucs2_bin", "sjis_bin"])
def test_a_digest_covers_a_text_of_any_collation(my: MyDatabase, collation: str) -> None:
    charset = collation.partition("_")[0]
    declared = f"varchar(20) CHARACTER SET {charset} COLLATE {collation}"
    my.execute(f"CREATE TABLE t (id int PRIMARY KEY, a {declared}, b varchar(9), c uuid, d inet6)")
    my.execute("INSERT INTO t VALUES (1, 'a', 'é', UUID(), '::1')")
    first = digest(my)
    my.execute("UPDATE t SET a = 'A'")
    assert None not in (first, digest(my)) and digest(my) != first


def test_a_chain_that_no_row_moved_is_no_digest(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    with snapshot_of(my.url) as snapshot:
        snapshot.tables(Selection(include=("t",)), "")
        (table,) = snapshot._tables.values()  # type: ignore[attr-defined]
        with snapshot._sessions.task("can't test") as connection:  # type: ignore[attr-defined]
            assert digest_rows(connection, table, _Uncounted("SELECT 2, 2")) == (2, None)  # type: ignore[arg-type]
            assert digest_rows(connection, table, _Uncounted("SELECT 0, 0"))[1] is not None  # type: ignore[arg-type]


def test_a_key_that_the_optimizer_ignores_does_not_cut_a_table(my: MyDatabase) -> None:
    """FORCE INDEX is an error with such a key."""
    my.execute("CREATE TABLE t (d double PRIMARY KEY, id int NOT NULL, UNIQUE KEY u (id) IGNORED)")
    my.execute("INSERT INTO t VALUES (1, 2), (3, 1)")
    assert digest(my) is not None
    my.execute("ALTER TABLE t ALTER INDEX u NOT IGNORED")
    with snapshot_of(my.url) as snapshot:
        assert lines_in(snapshot, "t") == ['{"d":3.0,"id":1}', '{"d":1.0,"id":2}']


class _Uncounted:
    """A statement whose added columns change nothing, as if the server computed no link."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    def add_columns(self, *_: Any) -> Any:
        return text(self._statement)


def digest(database: MyDatabase) -> str | None:
    with snapshot_of(database.url) as snapshot:
        (info,) = snapshot.tables(Selection(include=("t",)), "")
        (part,) = info.parts
        assert part.digests
        (seen,) = snapshot.observe([Question(info.table, part, chunks_in(info)[0], True, 0)])
        return seen.digest
