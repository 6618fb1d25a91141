"""The private MariaDB server that tests and the demo run on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fix_mariadb import MariaCluster, MyDatabase, require_mariadb
from floodmark.demo import mariadb
from floodmark.demo.mariadb import MariaDBServer
from floodmark.errors import ConfigError, SourceUnavailable


def test_committed_rows_survive_a_crash(make_mariadb: Callable[..., MariaCluster]) -> None:
    server = make_mariadb()
    database = server.database()
    database.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    server.crash()
    assert not server.running
    server.start()
    assert database.query("SELECT id FROM t") == [(1,)]
    server.restart()
    assert database.value("SELECT count(*) FROM t") == 1
    database.drop()


def test_all_files_are_gone_after_the_end(make_mariadb: Callable[..., MariaCluster]) -> None:
    server = make_mariadb(log_bin=False)
    assert server.root.exists()
    server.close()
    assert not server.root.exists() and not server.running


def test_the_server_keeps_a_binary_log_only_if_asked(make_mariadb: Callable[..., MariaCluster]) -> None:
    for log_bin in (True, False):
        database = make_mariadb(log_bin=log_bin).database()
        assert database.value("SELECT @@log_bin") == log_bin
        database.drop()


def test_a_role_reads_only_what_it_was_granted(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (id int)", "INSERT INTO t VALUES (7)")
    url = my.role("reader", f"SELECT ON `{my.name}`.*")
    assert "correct%20horse" in url
    with my.connect("reader", "correct horse") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM t")
        assert cursor.fetchall() == ((7,),)
    assert my.printed("SELECT id, NULL FROM t") == b"7\tNULL\n"


def test_a_server_that_can_t_start_says_why() -> None:
    require_mariadb()
    with (
        MariaDBServer(settings={"no-such-option": "1"}) as server,
        pytest.raises(SourceUnavailable, match="no-such-option"),
    ):
        server.initialize()
        server.start()


def test_a_missing_server_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadb, "program", lambda _: None)
    with pytest.raises(ConfigError, match="mariadb-server"):
        MariaDBServer.create()
