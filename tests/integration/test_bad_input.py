"""What a person gets wrong, or finds refused: the exit code, one sentence that helps, and nothing lost or told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fix_canaries import CANARY, PASSWORD, SQL_PASSWORD, TABLES, URL_PASSWORD, require_none
from fix_command import Floodmark, Landing, entry_of, keys, until
from fix_ports import closed_port
from fix_postgres import Cluster, PgDatabase
from fix_s3_proxy import Answer, Forward, S3Proxy, Seen, error, ignored_conditions
from fix_storage import S3Bucket, S3Server, environment

Change = Callable[[Floodmark], None]
MakeProxy = Callable[[str], S3Proxy]


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(TABLES)
    return pg


@pytest.fixture
def floodmark(service: PgDatabase, tmp_path: Path) -> Floodmark:
    places = {"FLOODMARK_SOURCE": service.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    return Floodmark(tmp_path / "job", places)


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "out")


def refused(floodmark: Floodmark, code: int, *says: str, arguments: tuple[str, ...] = ("run",)) -> str:
    """The command ends with this code, says these things in a sentence and a hint, and leaves no temporary file."""
    done = floodmark(*arguments, code=code)
    assert done.out == ""
    for text in says:
        assert text in done.err, done.err
    last = [line for line in done.err.splitlines() if not line.startswith("floodmark: retry")][-2:]
    assert last[0].startswith("floodmark: ") and last[1].startswith("  "), f"no hint: {done.err}"
    assert list(floodmark.temporary.iterdir()) == []
    return done.err


# --- the source (12) -------------------------------------------------------------------------------------------


def at(service: PgDatabase, *, who: str = "postgres", path: str = "", port: int | None = None, query: str = "") -> str:
    """A URL of the service's server with a password that must never be seen."""
    where = f"127.0.0.1:{port or service.server.port}/{path or service.name}"
    return f"postgresql://{who}:{URL_PASSWORD}@{where}?application_name=floodmark{query}"


REFUSALS: dict[str, tuple[str, Callable[[PgDatabase], str], str, str]] = {
    # name: what has to be so, the source's URL, what is said, what is hinted at
    "port closed": ("", lambda db: at(db, port=closed_port()), "connection refused", "source.wait_seconds"),
    "wrong password": ("CREATE ROLE r1 LOGIN PASSWORD 'x'", lambda db: at(db, who="r1"), "password was", "PGPASSWORD"),
    "no such role": ("", lambda db: at(db, who="no_one"), "the password was refused", "role does not exist"),
    "database or the role does not exist": (
        "",
        lambda db: at(db, path="nowhere"),
        "database or the role does not exist",
        "PGDATABASE",
    ),
    "no login": (
        f"CREATE ROLE r2 PASSWORD {SQL_PASSWORD}",
        lambda db: at(db, who="r2"),
        "may not log in",
        "LOGIN",
    ),
    "role's limit": (
        f"CREATE ROLE r3 LOGIN CONNECTION LIMIT 0 PASSWORD {SQL_PASSWORD}",
        lambda db: at(db, who="r3"),
        "connection limit of the role",
        "limits.connections",
    ),
    "no CONNECT": (
        f"CREATE ROLE r4 LOGIN PASSWORD {SQL_PASSWORD}; "
        "DO $$BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END$$",
        lambda db: at(db, who="r4"),
        "may not connect to this database",
        "GRANT CONNECT",
    ),
    "TLS demanded": ("", lambda db: at(db, query="&sslmode=require"), "does not offer TLS", "verify-full"),
    "no such host": ("", lambda db: f"postgresql://u:{URL_PASSWORD}@no.such.host.invalid/db", "resolved", "PGHOST"),
    "no such socket": ("", lambda db: f"postgresql:///db?host=/nonexistent&user={CANARY}", "socket", "runs"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_database_that_refuses(floodmark: Floodmark, service: PgDatabase, landing: Landing, case: str) -> None:
    setting, url, says, hints = REFUSALS[case]
    if setting:
        service.execute(setting)
    floodmark.environment["FLOODMARK_SOURCE"] = url(service)
    try:
        said = refused(floodmark, 12, says, hints, "can't connect to the source: postgresql://")
        assert case != "port closed" or ":" in said.partition("127.0.0.1")[2]
        assert landing.files == {}
    finally:
        for role in ("r1", "r2", "r3", "r4"):
            service.execute(f"DROP ROLE IF EXISTS {role}")


def test_a_server_that_lets_no_one_in_is_starting_or_full(
    make_server: Callable[..., Cluster], floodmark: Floodmark, landing: Landing
) -> None:
    server = make_server(settings={"max_connections": "6", "superuser_reserved_connections": "1"})
    database = server.database()
    role = database.role("reader", PASSWORD)
    floodmark.environment["FLOODMARK_SOURCE"] = role.url
    held = [role.connect() for _ in range(3)]
    refused(floodmark, 12, "the server's connection limit is reached", "max_connections")
    for connection in held:
        connection.close()

    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    for lines in (f"host all {role.name} 127.0.0.1/32 reject\n{before}", "local all all trust\n"):
        hba.write_text(lines)
        server.admin().execute("SELECT pg_reload_conf()")
        refused(floodmark, 12, "pg_hba.conf does not allow this client", "encryption")
    hba.write_text(before)

    server.stop()
    go = server.root / "go"
    (server.data / "standby.signal").touch()
    server.configure({"restore_command": f"while [ ! -e {go} ]; do sleep 0.1; done; false"})
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        until(lambda: "starting up" in refused(floodmark, 12, "can't connect", "source.wait_seconds"), patience=60)
        floodmark.configure("source: {wait_seconds: 60}\n")
        waiting = floodmark.start("run", "--output", "json", "--accept-loss")
        until(lambda: server.log.read_text().count("FATAL:  the database system is starting up") >= 2, patience=60)
    finally:
        go.touch()
        starting.join()
    assert floodmark.end(waiting).json["tables"] == []


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"FLOODMARK_SOURCE": f"postgresql://127.0.0.1/db?{CANARY}=1"}, "a parameter that libpq does not know"),
        ({"FLOODMARK_SOURCE": f"postgresql://127.0.0.1/db?sslmode={CANARY}"}, "has a value that libpq does not know"),
        ({"FLOODMARK_SOURCE": "postgresql://127.0.0.1:70000/db"}, "not a number from 1 to 65535"),
        ({"FLOODMARK_SOURCE": f"nosql://u:{CANARY}@h/db"}, "no SQLAlchemy dialect of this name"),
        ({"FLOODMARK_SOURCE": f"postgresql:/u:{CANARY}@h/db"}, "not a database URL"),
        ({"FLOODMARK_SOURCE": "", "PGSERVICE": CANARY}, "PGSERVICE names a service that does not exist"),
        (
            {"FLOODMARK_SOURCE": "", "PGHOST": "127.0.0.1", "PGPORT": CANARY, "PGPASSWORD": PASSWORD},
            "must be a number",
        ),
        ({"FLOODMARK_DESTINATION": f"s3://{CANARY}:{CANARY}@bucket/x"}, "credentials or a port in the URL"),
        ({"FLOODMARK_DESTINATION": "gs://bucket"}, "not supported"),
        ({"FLOODMARK_DESTINATION": ""}, "no destination is given"),
        ({"FLOODMARK_DESTINATION": "s3://bucket/x", "AWS_ENDPOINT_URL_S3": CANARY}, "the endpoint is not a URL"),
    ],
)
def test_a_setting_that_is_wrong(
    floodmark: Floodmark, landing: Landing, environment: dict[str, str], says: str
) -> None:
    floodmark.environment |= environment
    refused(floodmark, 10, says)
    assert landing.files == {}


def test_what_the_command_line_and_the_file_get_wrong(floodmark: Floodmark, landing: Landing) -> None:
    """One of each kind, from the shell; the many are in the unit tests of config."""
    for url in (f"postgresql://u:{CANARY}@h/db", f"postgresql://u@h/db?password={CANARY}"):
        refused(floodmark, 10, "--source: a password on the command line", arguments=("run", "--source", url))
    refused(floodmark, 2, "has no option", arguments=("run", f"--pasword={CANARY}"))
    refused(floodmark, 10, "the file does not exist", arguments=("run", "--config", "other.yaml"))
    files = {
        f"source: {{url: postgresql://u:{CANARY}@h/db, wait_second: {CANARY}}}\n": "Did you mean wait_seconds?",
        f"chunk_size: {CANARY}\n": "expected a size",
        f"source: [{CANARY}\n": "not valid YAML",
        "destination: {compression: gzip, layout: moj-landing}\n": "contradicts",
    }
    for text, says in files.items():
        floodmark.configure(text)
        refused(floodmark, 10, says)
    assert landing.files == {}


# --- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "pattern", "says"),
    [
        ("--table", "persno", "Did you mean person?"),
        ("--table", "public.sik", "Did you mean public.sick or"),
        ("--exclude", "zzzz", "floodmark plan"),
        ("--table", 'public."', "not closed"),
        ("--table", "a.b.c", "schema.table"),
    ],
)
def test_a_table_there_is_not(floodmark: Floodmark, landing: Landing, option: str, pattern: str, says: str) -> None:
    refused(floodmark, 10, option, says, arguments=("run", option, pattern))
    refused(floodmark, 10, option, says, arguments=("plan", option, pattern))
    assert landing.files == {}


RIGHTS = """
CREATE SCHEMA hidden; CREATE TABLE hidden.thing (id int); INSERT INTO hidden.thing VALUES (1);
CREATE TABLE some_columns (id int, name text); INSERT INTO some_columns VALUES (1, 'x');
CREATE TABLE by_row (id int, owner text); INSERT INTO by_row VALUES (1, 'someone else');
ALTER TABLE by_row ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON by_row USING (owner = current_user);
CREATE TABLE mine (id int); INSERT INTO mine VALUES (1), (2);
"""


def test_tables_without_rights_fail_and_the_others_land(
    floodmark: Floodmark, service: PgDatabase, landing: Landing
) -> None:
    service.execute(RIGHTS)
    first = floodmark.run().manifest
    role = service.role("the reader", PASSWORD)
    quoted = f'"{role.name}"'
    service.execute(
        f"GRANT SELECT ON mine, sick, by_row, hidden.thing TO {quoted}; GRANT SELECT (id) ON some_columns TO {quoted}"
    )
    floodmark.environment["FLOODMARK_SOURCE"] = role.url
    service.execute("INSERT INTO mine VALUES (3); INSERT INTO person VALUES (0, 'new')")
    done = floodmark.run(code=3)
    assert done.outcomes == {
        "hidden.thing": ("failed", "denied"),
        "public.by_row": ("failed", "denied"),
        "public.mine": ("extracted", "rows_changed"),
        "public.person": ("failed", "denied"),
        "public.sick": ("unchanged", "unchanged"),
        "public.some_columns": ("failed", "denied"),
    }
    reasons = {entry.name: entry.reason.detail for entry in done.manifest.tables}
    assert f'GRANT USAGE ON SCHEMA "hidden" TO {quoted}' in reasons["thing"]
    assert f'GRANT SELECT ON "public"."person" TO {quoted}' in reasons["person"]
    assert "SELECT on some columns is not enough" in reasons["some_columns"]
    assert "row-level security" in reasons["by_row"] and "BYPASSRLS" in reasons["by_row"]
    for label in ("hidden.thing", "public.by_row", "public.person", "public.some_columns"):
        kept = entry_of(done.manifest, label)
        assert (kept.objects, kept.checksum) == (entry_of(first, label).objects, entry_of(first, label).checksum)
    assert len(landing.lines("public.mine")) == 3 and len(landing.lines("public.person")) == 2000
    text = floodmark("run", code=3)
    assert text.out.count(" failed ") == 4 and 'GRANT SELECT ON "public"."person"' in text.out
    assert floodmark("plan").out.count("denied") == 4
    assert "denied: " in floodmark("status").out
    alone = floodmark("run", "--table", "by_row", code=3)
    assert "public.by_row  failed" in alone.out
    service.execute(f"ALTER ROLE {quoted} BYPASSRLS; GRANT SELECT ON person TO {quoted}")
    again = floodmark.run(code=3).outcomes
    assert again["public.by_row"] == ("unchanged", "unchanged") and again["public.person"][0] == "extracted"
    require_none(*(landing.folder / "_floodmark").rglob("*.json"))


# --- the state's owner (10) ------------------------------------------------------------------------------------


def test_a_state_of_another_database(
    floodmark: Floodmark, service: PgDatabase, landing: Landing, postgres: Any
) -> None:
    first = floodmark.run().manifest
    before = landing.committed
    other = service.server.database()
    other.execute("CREATE TABLE person (id int, name text); INSERT INTO person VALUES (1, 'x')")
    floodmark.environment["FLOODMARK_SOURCE"] = other.url
    for command in ("run", "plan"):
        refused(
            floodmark,
            10,
            "this state belongs to another database",
            "--adopt-source",
            service.name,
            other.name,
            arguments=(command,),
        )
    assert landing.committed == before
    assert floodmark("plan", "--adopt-source", "--output", "json").json["tables"][0]["reason"]["code"] == "first_run"
    adopted = floodmark.run("--adopt-source")
    assert adopted.outcomes == {"public.person": ("extracted", "first_run")}
    assert adopted.manifest.parent == f"manifests/{first.run_id}.json"
    assert landing.lines("public.person") == [b'{"id":1,"name":"x"}\n']
    assert floodmark.run().outcomes == {"public.person": ("unchanged", "unchanged")}
    floodmark.environment["FLOODMARK_SOURCE"] = service.url
    refused(floodmark, 10, "--adopt-source")
    other.drop()


# --- a state that can't be read (13) ---------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "a later version": lambda data: data.replace(b'"version": 1', b'"version": 99', 1),
    "a wrong type": lambda data: data.replace(b'"run_id": "', b'"run_id": ["c4n4ry"], "x": "', 1).replace(
        b'"runs": []', b'"runs": ["c4n4ry"]'
    ),
}


@pytest.mark.parametrize("what", ["head.json", "inflight.json", "manifest"])
def test_a_state_that_holds_something_unreadable(
    floodmark: Floodmark, service: PgDatabase, landing: Landing, what: str
) -> None:
    """Of each document one damage of each sort; the many are in the tests of the formats and the ledger."""
    floodmark.run()
    state = landing.folder / "_floodmark"
    path = next(state.glob("manifests/*")) if what == "manifest" else state / what
    good = path.read_bytes()
    service.execute("INSERT INTO person VALUES (0, 'new')")
    for damage, change in DAMAGES.items():
        path.write_bytes(change(good))
        assert path.read_bytes() != good, damage
        before = landing.files
        refused(floodmark, 13, str(path), "Nothing was written over it")
        assert landing.files == before, damage
    if what != "inflight.json":
        for command in ("plan", "status", "history", "show"):
            refused(floodmark, 13, str(path), arguments=(command,))
    if what == "manifest":
        path.unlink()
        refused(floodmark, 13, str(path), "it is not there")
    path.write_bytes(good)
    assert floodmark.run().outcomes["public.person"] == ("extracted", "rows_changed")


# --- storage (13) ----------------------------------------------------------------------------------------------


def to_s3(floodmark: Floodmark, endpoint: str, url: str, **more: str) -> None:
    floodmark.environment |= {**environment(endpoint), "FLOODMARK_DESTINATION": url, **more}


def test_a_bucket_that_refuses(
    floodmark: Floodmark, s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: MakeProxy
) -> None:
    url = f"{s3_bucket.url}/lake"
    to_s3(floodmark, s3_server.endpoint, "s3://no-such-bucket/lake")
    refused(floodmark, 13, "NoSuchBucket", "There is no such bucket")
    to_s3(floodmark, s3_server.endpoint, url, AWS_ACCESS_KEY_ID=CANARY)
    refused(floodmark, 13, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID")
    to_s3(floodmark, s3_server.endpoint, url, AWS_SECRET_ACCESS_KEY=CANARY)
    refused(floodmark, 13, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY")
    to_s3(floodmark, s3_server.endpoint, url, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    refused(floodmark, 13, "find credentials", "AWS_WEB_IDENTITY_TOKEN_FILE")
    proxy = make_proxy(s3_server.endpoint)
    to_s3(floodmark, proxy.endpoint, url)
    for status, code, hint in (
        (403, "AccessDenied", "s3:PutObject"),
        (403, "ExpiredToken", "get a new one"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "AWS_DEFAULT_REGION"),
        (301, "PermanentRedirect", "AWS_DEFAULT_REGION"),
    ):
        proxy.always = error(status, code)
        refused(floodmark, 13, "redirected" if status == 301 else code, hint)
    assert keys(s3_bucket) == {}


def test_an_endpoint_no_one_answers_at(floodmark: Floodmark, service: PgDatabase) -> None:
    to_s3(floodmark, f"http://user:{CANARY}@127.0.0.1:{closed_port()}", "s3://lake/x")
    floodmark.hurried = True  # it would take half a minute
    said = refused(floodmark, 13, "EndpointConnectionError", "AWS_ENDPOINT_URL_S3")
    assert said.count("retry") == 6


def test_a_store_without_conditional_writes(
    floodmark: Floodmark, service: PgDatabase, moto_server: str, moto_bucket: S3Bucket, make_proxy: MakeProxy
) -> None:
    """One that ignores conditions, and one that refuses them; with the flag both serve, day after day. Before moto,
    since SeaweedFS sees by the signature that headers were taken away."""
    proxy = make_proxy(moto_server)

    def refusing(seen: Seen, forward: Forward) -> Answer | None:
        conditional = any(name.startswith("if-") for name in seen.headers)
        return (error(501, "NotImplemented") if conditional else lambda s, f: f(s))(seen, forward)

    for number, fault in enumerate((ignored_conditions, refusing)):
        proxy.always = fault
        to_s3(floodmark, proxy.endpoint, f"{moto_bucket.url}/{number}")
        refused(floodmark, 13, "does not honour conditional writes", "--allow-unconditional-writes")
        assert not [key for key in keys(moto_bucket) if key.startswith(f"{number}/")]
        flag = "--allow-unconditional-writes"
        assert set(floodmark.run(flag).outcomes.values()) == {("extracted", "first_run")}
        service.execute("INSERT INTO person VALUES (%s, 'new')", [-number])
        assert floodmark.run(flag).outcomes["public.person"] == ("extracted", "rows_changed")
        assert set(floodmark.run(flag).outcomes.values()) == {("unchanged", "unchanged")}
