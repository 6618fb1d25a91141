"""One moment on several connections of MariaDB, and the locks that it holds meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from threading import Barrier, Lock

import pytest
from sqlalchemy import Connection

from fix_mariadb import MariaCluster, MyDatabase
from fix_mysql import ALL_RIGHTS, Session, Writer, age, lines_in, reader, snapshot_of
from fix_sql import chunks_in, text_of
from floodmark.config import Selection
from floodmark.errors import SnapshotLost
from floodmark.source.mysql import transactions
from floodmark.source.sql.snapshot import SqlSnapshot


def counts(snapshot: SqlSnapshot) -> list[int]:
    """The number of rows that each connection of a snapshot shows."""
    connections = snapshot._opened.connections
    return [int(one.exec_driver_sql("SELECT COUNT(*) FROM t").all()[0][0]) for one in connections]


def test_connections_share_a_moment_although_others_commit_between_their_starts(
    my: MyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first three tries, a row is committed after each start. Then all the positions differ."""
    my.execute("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY)")
    started: list[str] = []
    turn = Lock()

    def start(connection: Connection, barrier: Barrier) -> None:
        with turn:
            plain(connection, Barrier(1))
            started.append(transactions._position(connection))
            if len(started) <= 12:
                with my.server.connect(my.name) as other, other.cursor() as cursor:
                    cursor.execute("INSERT INTO t VALUES ()")

    plain = transactions._start_at_once
    monkeypatch.setattr(transactions, "_start_at_once", start)
    with snapshot_of(reader(my, *ALL_RIGHTS), 4) as snapshot:
        my.execute("INSERT INTO t VALUES ()")
        assert snapshot.parallelism == 4
        assert len(started) > 12 and len(set(started[:4])) > 1
        assert counts(snapshot) == [12] * 4
        assert "one position of the binary log" in str(snapshot.point.consistency)


@pytest.mark.parametrize("way", ["binary log", "lock"])
def test_no_commit_is_seen_by_one_and_not_by_another(make_mariadb: Callable[..., MariaCluster], way: str) -> None:
    server = make_mariadb(log_bin=way == "binary log")
    with closing(server.database()) as my:
        my.execute("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY)")
        rights = ALL_RIGHTS if way == "binary log" else ("RELOAD ON *.*", "PROCESS ON *.*")
        url, other = reader(my, *rights), my.connect()
        with Writer(lambda _: other.query("INSERT INTO t VALUES ()")) as writer:
            for _ in range(5):
                with snapshot_of(url, 4) as snapshot:
                    seen = counts(snapshot)
                    assert len(set(seen)) == 1 and (len(seen) == 4 or way == "binary log")
                    assert way in str(snapshot.point.consistency) or len(seen) == 1
            before = writer.count
            time.sleep(0.2)
            assert writer.count > before, "the lock is gone"


@pytest.mark.parametrize("rights", [(), ("PROCESS ON *.*",)], ids=["none", "PROCESS"])
def test_one_connection_reads_everything_if_nothing_can_be_shown(my: MyDatabase, rights: tuple[str, ...]) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    with snapshot_of(reader(my, *rights), 4) as snapshot:
        assert snapshot.parallelism == 1
        hints = " ".join(map(str, snapshot.drawbacks))
        assert "BINLOG MONITOR" in hints and "RELOAD" in hints
        assert ("GRANT PROCESS" in hints) == (not rights)
        assert lines_in(snapshot, "t") == ['{"id":1}', '{"id":2}']


def test_a_filter_of_the_binary_log_shows_nothing(make_mariadb: Callable[..., MariaCluster]) -> None:
    server = make_mariadb(settings={"binlog-ignore-db": "other"})
    with closing(server.database()) as my:
        my.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with snapshot_of(reader(my, *ALL_RIGHTS), 4) as snapshot:
            assert snapshot.parallelism == 1
        my.execute("GRANT RELOAD ON *.* TO reader@'127.0.0.1'")
        with snapshot_of(server.url(my.name, "reader", "correct horse"), 4) as snapshot:
            assert snapshot.parallelism == 4
            assert "lock" in str(snapshot.point.consistency)


def test_a_lock_that_is_not_free_is_not_waited_for(make_mariadb: Callable[..., MariaCluster]) -> None:
    """A long transaction that has written does not hold BACKUP STAGE up, but another backup does."""
    with closing(make_mariadb(log_bin=False).database()) as my:
        my.execute("CREATE TABLE t (id int PRIMARY KEY)")
        url, other = reader(my, "RELOAD ON *.*"), Session(my)
        other.execute("BACKUP STAGE START")
        begun = time.monotonic()
        with snapshot_of(url, 4) as snapshot:
            assert snapshot.parallelism == 1
        assert time.monotonic() - begun < 10
        other.execute("BACKUP STAGE END")
        my.execute("INSERT INTO t VALUES (1)")


def test_fewer_connections_are_enough_if_the_server_accepts_no_more(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY)")
    url = reader(my, *ALL_RIGHTS)
    my.execute("ALTER USER reader@'127.0.0.1' WITH MAX_USER_CONNECTIONS 3")
    with snapshot_of(url, 4) as snapshot:
        assert snapshot.parallelism == 2
        assert lines_in(snapshot, "t") == []


# Metadata locks


def test_a_migration_waits_for_one_chunk_at_most(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t SELECT seq, seq FROM seq_1_to_20000")
    with snapshot_of(reader(my, *ALL_RIGHTS), 2, chunk_bytes=50_000) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        chunks = chunks_in(info)
        assert len(chunks) > 4
        migration = Session(my)
        text_of(snapshot, info, chunks[0])
        begun = time.monotonic()
        migration.execute("ALTER TABLE t ADD COLUMN w int")
        assert time.monotonic() - begun < 2
        with pytest.raises(SnapshotLost):
            text_of(snapshot, info, chunks[1])


def test_a_role_whose_locks_stay_gives_its_connections_up_for_a_migration(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    age()
    with snapshot_of(reader(my, "BINLOG MONITOR ON *.*", "PROCESS ON *.*"), 2) as snapshot:
        assert any("BINLOG ADMIN" in str(one) for one in snapshot.drawbacks)
        assert snapshot.parallelism == 2
        migration = Session(my)
        assert lines_in(snapshot, "t") == []
        migration.start("ALTER TABLE t ADD COLUMN w int")
        migration.join(5)
        assert snapshot.is_alive()
        assert lines_in(snapshot, "u") == ['{"id":1}'], "the other connection goes on"
        assert snapshot.parallelism == 1
        migration.start("ALTER TABLE u ADD COLUMN w int")
        migration.join(5)
        assert not snapshot.is_alive()
        with pytest.raises(SnapshotLost):
            lines_in(snapshot, "u")


def test_a_migration_that_waits_for_a_long_chunk_gets_its_turn_after_it(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT seq FROM seq_1_to_50000")
    age()
    with snapshot_of(reader(my, "BINLOG MONITOR ON *.*", "PROCESS ON *.*"), 2) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        (part,) = info.parts
        migration = Session(my)
        seen = []

        def write(block: bytes) -> None:
            if not seen:
                migration.start("ALTER TABLE t ADD COLUMN w int")
                assert migration.waits
            seen.append(block)

        extracted = snapshot.extract(info, part, chunks_in(info)[0], True, write)
        assert extracted.lines == 50000
        migration.join(5)
