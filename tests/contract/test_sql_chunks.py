"""Tables that SQLAlchemy reads, cut by their key: no row is lost, and a change rewrites one chunk only."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, bindparam
from sqlalchemy.engine import make_url
from sqlalchemy.types import NullType

from fix_ports import closed_port
from fix_postgres import PgDatabase
from fix_sql import SqlDatabase, chunks_in, options, reflected_database, sqlite_database, text_of
from floodmark.config import ColumnRule, Selection, TableRule
from floodmark.errors import SnapshotLost, SourceUnavailable, TableError
from floodmark.observed import Question
from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import KeyColumn, SqlRelation, TableFacts
from floodmark.source.sql.snapshot import SqlSource
from floodmark.source.sql.sqlite import SQLite

ROWS = 3000
CANARY = "canary-8812"
NOTE = "a note of some length "


def make(database: SqlDatabase, columns: str, keys: Sequence[tuple[Any, ...]], without_rowid: bool = True) -> None:
    """A table `t` with the keys, in an order of chance, and a note with each."""
    rowid = " WITHOUT ROWID" if database.name == "sqlite" and without_rowid else ""
    database.run(f"CREATE TABLE t ({columns}){rowid}")
    rows = [(*key, f"{NOTE}{number}") for number, key in enumerate(keys)]
    random.Random(7).shuffle(rows)
    database.run(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)


def notes_of(chunks: Sequence[str]) -> list[str]:
    return sorted(json.loads(line)["note"] for chunk in chunks for line in chunk.splitlines())


def expected(count: int) -> list[str]:
    return sorted(f"{NOTE}{number}" for number in range(count))


def numbers() -> list[tuple[Any, ...]]:
    return [(number - 1000,) for number in range(ROWS)]


def sparse() -> list[tuple[Any, ...]]:
    return [(number * number * 1009 - 5_000_000,) for number in range(ROWS)]


def pairs() -> list[tuple[Any, ...]]:
    return [(f"group {number % 7}", number // 7) for number in range(ROWS)]


def texts() -> list[tuple[Any, ...]]:
    return [(f"{'kK'[number % 2]}é%':{number}",) for number in range(ROWS)]


def days() -> list[tuple[Any, ...]]:
    return [(date(1990, 1, 1) + timedelta(days=3 * number),) for number in range(ROWS)]


def uuids() -> list[tuple[Any, ...]]:
    chance = random.Random(3)
    return [(UUID(int=chance.getrandbits(128), version=4),) for _ in range(ROWS)]


KEYS = {
    "integer": ("id bigint NOT NULL, note text, PRIMARY KEY (id)", numbers),
    "sparse integer": ("id bigint NOT NULL, note text, PRIMARY KEY (id)", sparse),
    "composite": ("a varchar(20) NOT NULL, b int NOT NULL, note text, PRIMARY KEY (a, b)", pairs),
    "text": ("k varchar(40) NOT NULL, note text, PRIMARY KEY (k)", texts),
    "date": ("d date NOT NULL, note text, PRIMARY KEY (d)", days),
    "uuid": ("u uuid NOT NULL, note text, PRIMARY KEY (u)", uuids),
}


def made_keys(database: SqlDatabase, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if database.name != "sqlite":
        return list(keys)
    return [tuple(str(value) if isinstance(value, date | UUID) else value for value in key) for key in keys]


@pytest.mark.parametrize("kind", KEYS)
def test_every_row_is_in_one_chunk_and_an_insert_rewrites_one(sql_database: SqlDatabase, kind: str) -> None:
    columns, make_keys = KEYS[kind]
    keys = made_keys(sql_database, make_keys())
    middle = keys.pop(ROWS // 2)
    make(sql_database, columns, keys)
    before = sql_database.chunks("t")
    assert len(before) > 8
    assert all(before), "no chunk is empty"
    assert notes_of(before) == expected(ROWS - 1)
    assert sql_database.chunks("t") == before
    sql_database.run(f"INSERT INTO t VALUES ({', '.join('?' * (len(middle) + 1))})", (*middle, "inserted"))
    after = sql_database.chunks("t")
    assert notes_of(after) == sorted([*expected(ROWS - 1), "inserted"])
    assert 1 <= len(set(after) - set(before)) <= 2, "a row that starts a chunk divides one"
    sql_database.run("DELETE FROM t WHERE note = 'inserted'")
    assert sql_database.chunks("t") == before


@pytest.mark.parametrize("kind", ["integer", "composite"])
def test_rules_apply_to_each_chunk(sql_database: SqlDatabase, kind: str) -> None:
    columns, make_keys = KEYS[kind]
    make(sql_database, columns, make_keys())
    rule = TableRule(columns=ColumnRule(mask={"note": "redact"}), where="note LIKE '%9' -- a comment: with :a colon")
    chunks = sql_database.chunks("t", rules={"t": rule})
    assert len(chunks) > 8
    assert sum(chunk.count('"note":"REDACTED"') for chunk in chunks) == ROWS // 10


def test_a_small_table_and_one_without_a_key_are_one_chunk(sql_database: SqlDatabase) -> None:
    make(sql_database, KEYS["composite"][0], pairs()[:20])
    assert len(sql_database.chunks("t")) == 1
    assert len(sql_database.chunks("t", chunk_bytes=64)) > 1
    sql_database.run("CREATE VIEW v AS SELECT * FROM t")
    assert len(sql_database.chunks("v", chunk_bytes=64)) == 1
    sql_database.run("CREATE TABLE empty (id int NOT NULL PRIMARY KEY)")
    assert sql_database.chunks("empty", chunk_bytes=64) == [""]


def test_chunks_hold_no_key_in_what_is_remembered(sql_database: SqlDatabase) -> None:
    make(sql_database, KEYS["text"][0], texts())
    with closing(sql_database.snapshot(8192)) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        (part,) = info.parts
        assert part.ranges > 8 and part.total_bytes > 8192
        assert [(chunk.start, chunk.stop) for chunk in chunks_in(info)[:3]] == [(0, 1), (1, 2), (2, 3)]
        assert snapshot.point.consistency


@pytest.mark.parametrize("without_rowid", [True, False])
@pytest.mark.parametrize("collation", ["NOCASE", "RTRIM", "BINARY"])
def test_a_key_with_a_collation_of_its_own(tmp_path: Path, collation: str, without_rowid: bool) -> None:
    database = sqlite_database(tmp_path / "a.db")
    columns = f"a text COLLATE {collation} NOT NULL, b int NOT NULL, note text, PRIMARY KEY (a COLLATE NOCASE DESC, b)"
    make(database, columns, [(f"{'kK'[n % 2]}{n // 5}", n % 5) for n in range(ROWS)], without_rowid)
    before = database.chunks("t")
    assert len(before) > 8
    assert notes_of(before) == expected(ROWS)
    database.run("UPDATE t SET note = 'changed' WHERE a = 'K100' COLLATE NOCASE AND b = 2")
    assert len(set(database.chunks("t")) - set(before)) == 1


def test_a_key_that_tells_apart_what_its_column_does_not(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path / "a.db")
    columns = "a text COLLATE NOCASE NOT NULL, note text, PRIMARY KEY (a COLLATE BINARY)"
    make(database, columns, [(f"{'kK'[n % 2]}{n // 2}",) for n in range(ROWS)])
    before = database.chunks("t", chunk_bytes=256)
    assert len(before) > 100 and notes_of(before) == expected(ROWS)


def test_sqlite_keys_that_are_null_or_of_any_storage_class_lose_no_row(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path / "a.db")
    values = [None, None, 1, -2.5, "x", "X", b"\x00", b"\xff", 2**62, "é"]
    database.run("CREATE TABLE t (a, b, note, PRIMARY KEY (a, b))")
    keys = [(values[number % 10], None if number % 3 else number) for number in range(ROWS)]
    rows = [(*key, f"{NOTE}{number}") for number, key in enumerate(keys)]
    database.run("INSERT OR IGNORE INTO t VALUES (?, ?, ?)", rows)
    database.run("CREATE TABLE w (a, note, PRIMARY KEY (a)) WITHOUT ROWID")
    mixed = [number if number % 4 else number + 0.5 for number in range(1000)]
    mixed += [f"t{number}" for number in range(1000)] + [b"%d" % number for number in range(1000)]
    database.run("INSERT INTO w VALUES (?, ?)", [(key, f"{NOTE}{number}") for number, key in enumerate(mixed)])
    assert len(database.chunks("t")) > 8 and len(database.chunks("w")) > 8
    assert notes_of(database.chunks("t")) == expected(ROWS)
    assert notes_of(database.chunks("w")) == expected(ROWS)


def test_writers_change_no_range_that_is_read_later(sql_database: SqlDatabase) -> None:
    if sql_database.name == "duckdb":
        pytest.skip("no one can write to a DuckDB file while a snapshot is open")
    make(sql_database, KEYS["composite"][0], pairs())
    with closing(sql_database.snapshot(8192)) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        read = []
        for number, chunk in enumerate(chunks_in(info)):
            read.append(text_of(snapshot, info, chunk))
            sql_database.run("UPDATE t SET note = 'later' WHERE b > ?", (number,))
            sql_database.run("DELETE FROM t WHERE b < ?", (number,))
            sql_database.run("INSERT INTO t VALUES (?, ?, 'later')", (f"later {number}", number))
        assert notes_of(read) == expected(ROWS)
        assert snapshot.redefined_tables([info], Selection(), "") == []


def test_a_server_that_refuses_or_is_absent_is_named_without_the_password(pg: PgDatabase) -> None:
    role = pg.role("reader", "right")
    wrong = role.url.replace(":right@", f":{CANARY}@").replace("postgresql://", "postgresql+psycopg://")
    absent = f"postgresql+psycopg://u:{CANARY}@127.0.0.1:{closed_port()}/db?password={CANARY}"
    for url in (wrong, absent):
        with pytest.raises(SourceUnavailable, match="the password, and that the server answers") as caught:
            SqlSource(Dialect(make_url(url), options(url, 8192))).snapshot()
        assert CANARY not in str(caught.value) and "***" not in str(caught.value)


def test_each_range_is_counted_alone(sql_database: SqlDatabase) -> None:
    make(sql_database, KEYS["composite"][0], pairs())
    with closing(sql_database.snapshot(8192)) as snapshot:
        (info,) = snapshot.tables(Selection(rules={"t": TableRule(where="b < 50")}), "")
        (part,) = info.parts
        asked = [Question(info.table, part, chunk, False, 0) for chunk in chunks_in(info)]
        counts = [seen.rows for seen in snapshot.observe(asked)]
        if part.digests:  # a digest is of the rows that land
            assert len(counts) > 8 and sum(counts) == 7 * 50
        else:
            assert len(counts) > 8 and 0 < min(counts) < ROWS / 4 and sum(counts) == ROWS


def test_a_chunk_of_many_can_be_read_again_and_alone(sql_database: SqlDatabase) -> None:
    make(sql_database, KEYS["composite"][0], pairs())
    with closing(sql_database.snapshot(8192)) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        third = chunks_in(info)[2]
        assert text_of(snapshot, info, third) == text_of(snapshot, info, third) != ""


def test_rows_that_a_collation_hides_from_all_ranges_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison that orders keys otherwise than ORDER BY does must not lose a row unnoticed."""
    database = sqlite_database(tmp_path / "a.db")
    make(database, KEYS["text"][0], texts())

    def upper(self: SQLite, key: KeyColumn, value: str) -> object:
        return bindparam(None, value.upper(), type_=NullType())

    monkeypatch.setattr(SQLite, "bound", upper)
    with pytest.raises(TableError, match=r"gave [\d,]+ lines?, but [\d,]+ rows? were counted"):
        database.chunks("t")


def test_a_snapshot_that_lost_its_connection_says_so(pg: PgDatabase) -> None:
    database = reflected_database(pg)
    make(database, KEYS["integer"][0], numbers())
    with closing(database.snapshot(8192)) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        pg.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(2):
            with pytest.raises(SnapshotLost, match="no connection of the snapshot is left"):
                text_of(snapshot, info, chunks_in(info)[0])
        assert not snapshot.is_alive()


class OneUnreadable(Dialect):
    """A dialect that can't read the definition of `bad`, because the database refuses a statement."""

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        if relation.table.name == "bad":
            connection.exec_driver_sql("SELECT 1 / 0")
        return super().facts(connection, relation)


def test_a_definition_that_can_not_be_read_takes_no_other_table_with_it(pg: PgDatabase) -> None:
    pg.execute("CREATE TABLE bad (id int PRIMARY KEY); CREATE TABLE good (id int PRIMARY KEY)")
    url = make_url(pg.url).set(drivername="postgresql+psycopg")
    source = SqlSource(OneUnreadable(url, options(url.render_as_string(hide_password=False), 8192)))
    with closing(source.snapshot()) as snapshot:
        found = {one.table.name: one.denied for one in snapshot.tables(Selection(), "")}
    assert found["bad"] and "22012" in found["bad"] and found["good"] is None
