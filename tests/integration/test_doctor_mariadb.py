"""`floodmark doctor` at a real MariaDB server: each check seen well and ill, and each statement it suggests typed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fix_canaries import CANARY, require_none
from fix_mariadb import MariaCluster, MyDatabase
from floodmark.config import Flags
from floodmark.doctor import Finding, examine
from floodmark.errors import ConfigError, SourceError

ALL_RIGHTS = ("PROCESS ON *.*", "BINLOG MONITOR ON *.*", "BINLOG ADMIN ON *.*")


def doctor(url: str, folder: Path, **flags: object) -> dict[str, Finding]:
    """The findings by check, the last of each; no word of a secret in any."""
    environ = {"FLOODMARK_SOURCE": url, "FLOODMARK_DESTINATION": str(folder / "lake")}
    found = list(examine(Flags(**flags), environ))  # type: ignore[arg-type]
    require_none(msgspec.json.encode(found))
    return {one.check: one for one in found}


def ill(found: dict[str, Finding]) -> dict[str, str]:
    known = {"configuration", "head", "destination", "state", "temporary files", "metrics", "notify"}
    return {
        check: one.result for check, one in found.items() if one.result != "ok" and check.split(":")[0] not in known
    }


@pytest.fixture
def person(my: MyDatabase) -> MyDatabase:
    my.execute("CREATE TABLE person (id int PRIMARY KEY, name varchar(40))", "INSERT INTO person VALUES (1, 'Ada')")
    return my


def test_where_all_is_well_it_says_so(person: MyDatabase, tmp_path: Path) -> None:
    url = person.role("reader", f"SELECT, SHOW VIEW ON `{person.name}`.*", *ALL_RIGHTS)
    found = doctor(url, tmp_path)
    assert ill(found) == {}
    assert f"@127.0.0.1:{person.server.port}/{person.name} answers: MariaDB 1" in found["database"].found
    assert "reader@127.0.0.1" in found["database"].found and "this machine" in found["tls"].found
    assert "shared by up to 4 connections" in found["snapshot"].found
    assert found["rights"].found == "1 table may be read, with all rows"
    assert "change can be proven for 1 of 1 table" in found["proof"].found


def test_the_rights_that_are_missing_are_a_statement_to_type(person: MyDatabase, tmp_path: Path) -> None:
    url = person.role("reader", f"SELECT ON `{person.name}`.*")
    found = doctor(url, tmp_path)
    assert ill(found) == {
        "global rights": "warning", "snapshot": "warning", "table ids": "warning", "metadata locks": "warning"
    }  # fmt: skip
    fix = found["global rights"].fix
    assert fix == "GRANT PROCESS, BINLOG MONITOR, BINLOG ADMIN ON *.* TO 'reader'@'127.0.0.1';"
    person.execute(fix)
    assert ill(doctor(url, tmp_path)) == {}


def test_without_a_binary_log_reload_is_named(make_mariadb: Callable[..., MariaCluster], tmp_path: Path) -> None:
    database = make_mariadb(log_bin=False).database()
    database.execute("CREATE TABLE person (id int PRIMARY KEY)")
    url = database.role("reader", f"SELECT ON `{database.name}`.*")
    found = doctor(url, tmp_path)
    assert "log_bin is off" in found["binary log"].found
    fix = found["global rights"].fix
    assert fix == "GRANT PROCESS, RELOAD ON *.* TO 'reader'@'127.0.0.1';"
    database.execute(fix)
    assert ill(doctor(url, tmp_path)) == {}
    database.close()


def test_a_table_that_may_not_be_read_is_a_problem_with_a_grant(person: MyDatabase, tmp_path: Path) -> None:
    person.execute("CREATE TABLE secret (id int PRIMARY KEY, name varchar(40))")
    url = person.role(
        "reader", f"SELECT ON `{person.name}`.person", f"SELECT (id) ON `{person.name}`.secret", *ALL_RIGHTS
    )
    found = doctor(url, tmp_path)
    assert found["rights"].result == "problem" and f"{person.name}.secret" in found["rights"].found
    assert "GRANT SELECT" in (found["rights"].fix or "")


def test_a_right_on_some_columns_that_comes_by_a_role_is_not_enough(person: MyDatabase, tmp_path: Path) -> None:
    """MariaDB lists such a right in SHOW GRANTS, and not in information_schema."""
    role, account = f"readers_{person.name}", "'reader'@'127.0.0.1'"
    url = person.role("reader", *ALL_RIGHTS)
    person.execute(f"CREATE ROLE {role}", f"GRANT SELECT (id) ON `{person.name}`.person TO {role}")
    person.execute(f"GRANT {role} TO {account}", f"SET DEFAULT ROLE {role} FOR {account}")
    try:
        found = doctor(url, tmp_path)["rights"]
    finally:
        person.execute(f"DROP ROLE {role}")
    assert found.result == "problem" and "SELECT on some columns is not enough" in (found.fix or "")


def test_a_table_without_transactions_is_named(person: MyDatabase, tmp_path: Path) -> None:
    person.execute("CREATE TABLE old (id int PRIMARY KEY) ENGINE = MyISAM")
    found = doctor(person.role("reader", f"SELECT ON `{person.name}`.*", *ALL_RIGHTS), tmp_path)
    assert ill(found) == {"engines": "warning", "proof": "warning"}
    assert f"{person.name}.old" in found["engines"].found and "ENGINE = InnoDB" in (found["engines"].fix or "")


def test_a_limit_of_connections_is_seen(person: MyDatabase, tmp_path: Path) -> None:
    url = person.role("reader", f"SELECT ON `{person.name}`.*", *ALL_RIGHTS)
    person.execute("GRANT USAGE ON *.* TO 'reader'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 3")
    found = doctor(url, tmp_path)
    assert found["connections"].result == "warning" and "max_user_connections is 3" in found["connections"].found
    assert "limits.connections to 2" in (found["connections"].fix or "")


@pytest.mark.parametrize(
    ("url", "found", "fix", "code"),
    [
        (
            "mysql://root:{canary}@127.0.0.1:{port}/nonesuch",
            "user or the password was refused",
            "MYSQL_PWD",
            SourceError,
        ),
        ("mysql://root@127.0.0.1:{port}/nonesuch", "the database does not exist", "Check its name", SourceError),
        ("mysql://root@127.0.0.1:{port}", "it names no database", "mysql://user@host:3306/database", ConfigError),
        ("mysql://root@127.0.0.1:1/x", "no server answers", "source.wait_seconds", SourceError),
        ("mysql+cymysql://root@127.0.0.1:{port}/x", "driver", "mysql", ConfigError),
        (
            "mysql://root@127.0.0.1:{port}/x?secret={canary}",
            "a parameter that Floodmark does not know",
            "ssl_ca",
            ConfigError,
        ),
    ],
)
def test_a_source_that_can_not_be_opened(
    mariadb: MariaCluster, tmp_path: Path, url: str, found: str, fix: str, code: type[SourceError | ConfigError]
) -> None:
    told = doctor(url.format(port=mariadb.port, canary=CANARY), tmp_path)
    assert told["database"].result == "problem" and told["database"].exit_code == code.exit_code
    assert found in told["database"].found and fix in (told["database"].fix or "")
    assert told["tables"].result == "unknown"


def test_the_extra_is_named_if_the_driver_is_missing(
    mariadb: MariaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pymysql"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymysql", None)
    told = doctor(mariadb.url("x"), tmp_path)
    assert told["database"].result == "problem" and "is not installed" in told["database"].found
    assert "mysql" in (told["database"].fix or "")
