"""TLS to MariaDB: a remote server must prove its identity, unless the URL says otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from sqlalchemy.engine import URL, make_url

from fix_mariadb import MariaCluster, MyDatabase, require_mariadb
from fix_mysql import reader, snapshot_of
from fix_postgres import BASE
from floodmark.errors import ConfigError, SourceError
from floodmark.source.mysql import connect

NAME = "db.example.org"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls_server(authority: trustme.CA) -> Iterator[MariaCluster]:
    """A server with a certificate for another name than 127.0.0.1, and for 127.0.0.2."""
    require_mariadb()
    server = MariaCluster(base=BASE, log_bin=True)
    try:
        server.initialize()
        certificate = authority.issue_cert(NAME, "127.0.0.2")
        for name, blob in (("key", certificate.private_key_pem), ("cert", certificate.cert_chain_pems[0])):
            path = server.root / f"{name}.pem"
            blob.write_to_path(str(path))
            path.chmod(0o600)
            shutil.chown(path, server.data.owner(), server.data.group())
            server.settings[f"ssl-{name}"] = str(path)
        server.settings["bind-address"] = "0.0.0.0"
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def remote(tls_server: MariaCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[MyDatabase]:
    """A database on a server that counts as remote, although it is on this machine."""
    monkeypatch.setattr(connect, "is_local", lambda *_: False)
    database = tls_server.database()
    database.execute("CREATE TABLE t (a int PRIMARY KEY)")
    yield database
    database.drop()


def url_at(database: MyDatabase, host: str, **query: str) -> str:
    """The reader's URL at another address of this machine."""
    database.execute("CREATE OR REPLACE USER reader@'127.0.0.%' IDENTIFIED BY 'correct horse'")
    database.execute(f"GRANT SELECT ON `{database.name}`.* TO reader@'127.0.0.%'")
    url = make_url(database.server.url(database.name, "reader", "correct horse"))
    return url.set(host=host, query=query).render_as_string(hide_password=False)


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def cipher(url: str) -> str:
    with snapshot_of(url) as snapshot:
        connection = snapshot._opened.connections[0]  # type: ignore[attr-defined]
        return str(connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").all()[0][1])


def test_a_remote_server_needs_a_certificate_of_a_trusted_authority(remote: MyDatabase, ca_file: str) -> None:
    with pytest.raises(SourceError, match="certificate was not accepted"):
        cipher(url_at(remote, "127.0.0.2"))
    assert cipher(url_at(remote, "127.0.0.2", ssl_ca=ca_file))


def test_the_certificate_must_be_for_the_host(remote: MyDatabase, ca_file: str) -> None:
    with pytest.raises(SourceError, match="certificate was not accepted"):
        cipher(url_at(remote, "127.0.0.3", ssl_ca=ca_file))
    assert cipher(url_at(remote, "127.0.0.3", ssl_ca=ca_file, ssl_verify_identity="false"))


def test_the_url_can_give_up_verification_or_encryption(remote: MyDatabase) -> None:
    assert cipher(url_at(remote, "127.0.0.3", ssl_verify_cert="false"))
    assert not cipher(url_at(remote, "127.0.0.3", ssl_disabled="true"))


def test_a_remote_server_without_tls_is_refused(my: MyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    url = reader(my)
    monkeypatch.setattr(connect, "is_local", lambda *_: False)
    with pytest.raises(SourceError, match="does not offer TLS"):
        cipher(url)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost.example.org", False),
        ("127.example.org", False),
    ],
)
def test_only_this_machine_is_local(host: str, local: bool) -> None:
    assert connect.is_local(URL.create("mysql", host=host), {}) == local


def test_a_file_that_can_t_be_read_is_a_config_error(my: MyDatabase, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in (tmp_path / "missing.pem", tmp_path / "empty.pem", Path(os.devnull)):
        with pytest.raises(ConfigError, match="TLS parameters"):
            cipher(f"{my.url}?ssl_ca={name}")
