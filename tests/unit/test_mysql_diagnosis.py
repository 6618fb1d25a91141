"""Judgements about a MariaDB or MySQL server that no server of the tests can be brought to provoke."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from sqlalchemy.engine import make_url

from floodmark.source.mysql.diagnosis import (
    ServerFacts,
    global_rights,
    judged_binary_log,
    judged_rights,
    judged_room,
    judged_tls,
    judged_version,
    judged_zone,
)

MARIADB = ServerFacts("10.11.14-MariaDB-log", "Debian", "o'reilly@10.%", 100, 0, 1, "SYSTEM", "BST")
MYSQL = replace(MARIADB, version="8.4.3", comment="MySQL Community Server")


def test_a_server_that_no_test_ran_on_is_told() -> None:
    assert judged_version(MARIADB).hint is None
    assert judged_version(replace(MARIADB, version="10.6.1-MariaDB")).hint is None
    assert "newer than MariaDB 10.11" in judged_version(replace(MARIADB, version="11.4.2-MariaDB")).found
    assert "verify --against-source" in (judged_version(replace(MARIADB, version="12.1.0-MariaDB")).hint or "")
    assert "MySQL" in judged_version(MYSQL).found and judged_version(MYSQL).hint is not None


@pytest.mark.parametrize(
    ("url", "in_use", "well"),
    [
        ("mysql://u@db.internal/x", True, True),
        ("mysql://u@db.internal/x", False, False),
        ("mysql://u@db.internal/x?ssl_disabled=true", False, False),
        ("mysql://u@db.internal/x?ssl_verify_identity=false", True, False),
        ("mysql://u@localhost/x", False, True),
        ("mysql://u@/x?unix_socket=/run/mysqld.sock", False, True),
    ],
)
def test_a_remote_server_must_prove_its_identity(url: str, in_use: bool, well: bool) -> None:
    assert (judged_tls(in_use, make_url(url)).hint is None) is well


def test_rights_come_from_all_grants_and_go_to_the_account() -> None:
    grants = [
        "GRANT `readers` TO `u`@`%`", "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*2470'",
        "GRANT PROCESS, BINLOG MONITOR ON *.* TO `readers`", "GRANT SELECT, RELOAD ON `x`.* TO `u`@`%`",
    ]  # fmt: skip
    assert {"PROCESS", "BINLOG MONITOR"} <= global_rights(grants) and "RELOAD" not in global_rights(grants)
    assert global_rights(["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"]) >= {"PROCESS", "RELOAD"}
    told = judged_rights(global_rights(grants), MARIADB)
    assert told.hint == "GRANT BINLOG ADMIN ON *.* TO 'o''reilly'@'10.%';"
    assert judged_rights(frozenset({"PROCESS", "RELOAD"}), MYSQL).hint is None
    assert "RELOAD" in judged_binary_log(MYSQL).found


def test_a_run_needs_one_connection_more_than_it_reads_with() -> None:
    assert judged_room(MARIADB, 96, 4).hint is None
    assert judged_room(MARIADB, 97, 4).hint == "Set limits.connections to 3, or raise the limit."
    assert "max_user_connections is 2" in judged_room(replace(MARIADB, most_of_user=2), 1, 4).found


def test_the_time_zone_is_told() -> None:
    assert "BST" in judged_zone(MARIADB).found and "+01:00" in judged_zone(replace(MARIADB, time_zone="+01:00")).found
