"""A real server that speaks TLS, and one that does not: who can't prove to be the server asked for gets no password."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from sqlalchemy import Engine

from fix_canaries import PASSWORD, SQL_PASSWORD, URL_PASSWORD
from fix_command import Floodmark
from fix_postgres import DEFAULT_VERSION, Cluster, PgDatabase, Servers
from floodmark.config import Secret
from floodmark.errors import FloodmarkError
from floodmark.journal.migrate import engine_of
from floodmark.source.postgres.address import address

WITH_TLS = 17  # among the servers in wheels, the one that is built with it
NAME = "db.example.internal"


@pytest.fixture
def database(make_server: Callable[..., Cluster], tmp_path: Path) -> PgDatabase:
    """On a server whose certificate is for NAME and which takes nothing but TLS from a role."""
    server = make_server(WITH_TLS)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other-ca.pem")
    proof = authority.issue_cert(NAME)
    (server.data / "server.crt").write_bytes(proof.cert_chain_pems[0].bytes())
    server.own_file("server.key", proof.private_key_pem.bytes())
    server.configure({"ssl": "on"})
    hba = server.data / "pg_hba.conf"
    hba.write_text(f"hostssl all reader 127.0.0.1/32 scram-sha-256\n{hba.read_text()}".replace("host all all", "#"))
    server.restart()
    made = server.database()
    made.execute(
        f"CREATE TABLE t (id int); CREATE ROLE reader LOGIN PASSWORD {SQL_PASSWORD}; GRANT SELECT ON t TO reader"
    )
    return made


def job(tmp_path: Path, database: PgDatabase, host: str, **environment: str) -> Floodmark:
    port = database.server.port
    url = f"postgresql://reader:{URL_PASSWORD}@{host}:{port}/{database.name}?hostaddr=127.0.0.1"
    places = {"FLOODMARK_SOURCE": url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    return Floodmark(tmp_path / "job", {**places, **environment})


def test_a_remote_server_must_prove_who_it_is(database: PgDatabase, tmp_path: Path) -> None:
    right, wrong = {"PGSSLROOTCERT": str(tmp_path / "ca.pem")}, {"PGSSLROOTCERT": str(tmp_path / "other-ca.pem")}
    assert job(tmp_path, database, NAME, **right).run().outcomes == {"public.t": ("extracted", "first_run")}
    assert "not signed by a trusted CA" in job(tmp_path, database, NAME, **wrong)("run", code=12).err
    assert "CA" in job(tmp_path, database, NAME)("run", code=12).err  # the machine's own do not know it
    other = job(tmp_path, database, "other.example.internal", **right)("run", code=12)
    assert "for another host name" in other.err and "host name in the server's certificate" in other.err
    missing = job(tmp_path, database, NAME, PGSSLROOTCERT=str(tmp_path / "gone.pem"))("run", code=12)
    assert "trusted certificates can't be read" in missing.err
    plain = job(tmp_path, database, NAME, PGSSLMODE="disable")("run", code=12)
    assert "pg_hba.conf" in plain.err
    unproven = job(tmp_path, database, "other.example.internal", PGSSLMODE="require")  # on purpose
    assert unproven.run().outcomes == {"public.t": ("unchanged", "unchanged")}


def test_a_remote_server_without_tls_is_refused(postgres: Servers, tmp_path: Path) -> None:
    database = postgres[DEFAULT_VERSION].database()
    role = database.role("reader", PASSWORD)
    try:
        assert "does not offer TLS" in job(tmp_path, database, NAME)("run", code=12).err
        assert job(tmp_path, database, NAME, PGSSLMODE="disable").run("--accept-loss").json["tables"] == []
        assert job(tmp_path, database, "127.0.0.1").run("--accept-loss").json["tables"] == []  # local: libpq's default
    finally:
        assert role.name == "reader"
        database.drop()


def test_the_doctor_says_who_need_not_prove_anything(database: PgDatabase, tmp_path: Path) -> None:
    def told(host: str, **environment: str) -> tuple[str, str]:
        checks = job(tmp_path, database, host, **environment)("doctor", "--output", "json").json["checks"]
        (found,) = [one for one in checks if one["check"] == "tls"]
        return found["result"], found["found"]

    assert told(NAME, PGSSLROOTCERT=str(tmp_path / "ca.pem"))[0] == "ok"
    result, found = told("other.example.internal", PGSSLMODE="require")
    assert result == "warning" and "TLS is in use, but the server's identity is not verified" in found
    assert told("localhost", PGSSLMODE="require")[1] == "TLS is in use; the server is on this machine"


def test_the_journal_is_installed_only_in_a_server_that_proves_who_it_is(database: PgDatabase, tmp_path: Path) -> None:
    """Its migrations run through SQLAlchemy, on the same connections as a run."""
    database.execute(f'GRANT CREATE ON DATABASE "{database.name}" TO reader')
    right, wrong = {"PGSSLROOTCERT": str(tmp_path / "ca.pem")}, {"PGSSLROOTCERT": str(tmp_path / "other-ca.pem")}
    refused = job(tmp_path, database, NAME, **wrong)("journal", "install", code=12)
    assert "not signed by a trusted CA" in refused.err
    installed = job(tmp_path, database, NAME, **right)("journal", "install")
    assert "Installed revision" in installed.out
    with pytest.raises(FloodmarkError, match="trusted CA"), _engine(database, tmp_path / "other-ca.pem").connect():
        pass


def _engine(database: PgDatabase, authorities: Path) -> Engine:
    url = f"postgresql://reader:{URL_PASSWORD}@{NAME}:{database.server.port}/{database.name}"
    return engine_of(address(Secret(f"{url}?hostaddr=127.0.0.1&sslrootcert={authorities}")))
