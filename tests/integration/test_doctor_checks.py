"""`floodmark doctor` at real servers: each check seen well and ill, nothing written, and no secret said."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fix_balancer import Balancer
from fix_canaries import CANARY, PASSWORD, require_none
from fix_command import Floodmark, keys
from fix_pooler import SHADOWS
from fix_postgres import Cluster, PgDatabase, Servers
from fix_s3_proxy import Answer, Forward, S3Proxy, Seen, error, ignored_conditions
from fix_storage import S3Bucket, S3Server, environment
from floodmark.config import Flags, load
from floodmark.doctor import Finding, activity, examine, space
from floodmark.doctor.server import ServerConnection

MakeProxy = Callable[[str], S3Proxy]
DENIED = error(403, "AccessDenied")


def doctor(environ: Mapping[str, str], **flags: Any) -> dict[str, Finding]:
    """The findings by check, the last of each; no word of a secret in any."""
    found = list(examine(Flags(**flags), environ))
    require_none(msgspec.json.encode(found))
    for one in found:
        assert (one.fix is None) is (one.result == "ok") or one.result == "unknown", one
        assert (one.exit_code != 0) is (one.result == "problem"), one
    return {one.check: one for one in found}


def results(found: Mapping[str, Finding]) -> dict[str, str]:
    return {check: one.result for check, one in found.items() if one.result != "ok"}


def places(database: PgDatabase, destination: str, **more: str) -> dict[str, str]:
    return {"FLOODMARK_SOURCE": database.url, "FLOODMARK_DESTINATION": destination, **more}


@pytest.fixture
def proxied(
    s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> S3Proxy:
    """A proxy before SeaweedFS, which the environment points to."""
    proxy = make_proxy(s3_server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    return proxy


def test_where_all_is_well_it_says_so_and_leaves_nothing(
    pg: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    pg.execute("CREATE TABLE person (id int PRIMARY KEY, name text)")
    client = s3_bucket.client
    client.put_bucket_versioning(Bucket=s3_bucket.name, VersioningConfiguration={"Status": "Enabled"})
    job = Floodmark(tmp_path / "job", {**environment(s3_server.endpoint), **places(pg, f"{s3_bucket.url}/lake")})
    told = job("doctor").out
    assert "of the transactions" not in told and "Ready to run." in told
    assert "postgresql://127.0.0.1" in told and "from FLOODMARK_DESTINATION" in told
    assert not client.list_object_versions(Bucket=s3_bucket.name).get("Versions")
    assert not client.list_object_versions(Bucket=s3_bucket.name).get("DeleteMarkers")
    job("run")
    before = keys(s3_bucket)
    found = job("doctor", "--output", "json").json
    assert found["exit_code"] == 0
    told = {one["check"]: (one["result"], one["found"]) for one in found["checks"]}
    bad = {check for check, (result, _) in told.items() if result != "ok"}
    assert bad <= {"destination: lifecycle", "state: lifecycle", "transactions"}, told
    assert told["state: versions"][0] == told["state: conditional put"][0] == "ok"
    assert "belongs to this database" in told["state's database"][1] and told["last commit"][0] == "ok"
    assert keys(s3_bucket) == before


def test_what_the_role_may_not_read_is_told_with_the_grant(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute("""
        CREATE TABLE open (id int); CREATE TABLE shut (id int); CREATE TABLE hidden (id int);
        ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE TABLE kinds (k regclass)""")
    clerk = pg.role("clerk", PASSWORD)
    pg.execute("GRANT SELECT ON open, hidden, kinds TO clerk")
    environ = {"FLOODMARK_SOURCE": clerk.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    found = doctor(environ)
    rights = found["rights"]
    assert (rights.result, rights.exit_code) == ("problem", 12) and "2 of 4 tables" in rights.found
    assert rights.fix is not None and 'GRANT SELECT ON "public"."shut" TO "clerk"' in rights.fix
    assert 'row-level security on "public"."hidden"' in rights.fix and "BYPASSRLS" in rights.fix
    assert found["proof"].result == "warning" and "public.kinds: column k" in found["proof"].found
    assert found["destination"].result == "ok" and not (tmp_path / "lake").exists()
    pg.execute('GRANT SELECT ON "public"."shut" TO "clerk"; ALTER ROLE clerk BYPASSRLS')
    assert doctor(environ)["rights"].result == "ok"


def test_a_database_that_is_not_there_hides_nothing_else(tmp_path: Path, pg: PgDatabase) -> None:
    pg.role("clerk", "another password")
    wrong = pg.server.url(pg.name, "clerk", PASSWORD)
    (tmp_path / "file").write_text("")
    found = doctor({"FLOODMARK_SOURCE": wrong, "FLOODMARK_DESTINATION": str(tmp_path / "file")})
    assert (found["database"].exit_code, found["tables"].result) == (12, "unknown")
    assert "the password was refused" in found["database"].found and "PGPASSWORD" in (found["database"].fix or "")
    assert found["destination"].exit_code == 13 and "is not a folder" in found["destination"].found
    found = doctor({"FLOODMARK_SOURCE": f"postgresql://u:{CANARY}@127.0.0.1:1/d", "FLOODMARK_DESTINATION": "./x"})
    assert "no server listens there" in found["database"].found


def test_a_configuration_that_is_not_accepted_is_the_problem(tmp_path: Path) -> None:
    (tmp_path / "floodmark.yaml").write_text(f"source: {{urll: {CANARY}}}")
    job = Floodmark(tmp_path, {})
    told = job("doctor", code=10).out
    assert "problem" in told and "source.urll" in told and "Did you mean url?" in told and "floodmark init" not in told
    (tmp_path / "floodmark.yaml").rename(tmp_path / "broken.yaml")
    assert "floodmark init" not in job("doctor", "--config", "broken.yaml", code=10).out
    assert "floodmark init" in job("doctor", code=10).out
    (tmp_path / "broken.yaml").rename(tmp_path / "floodmark.yaml")
    environ = {"FLOODMARK_SOURCE": "sqlite:///a.db", "FLOODMARK_DESTINATION": "/a", "S3_DESTINATION": "/b"}
    assert results(doctor({**environ, "FLOODMARK_STAET": CANARY}))["configuration"] == "warning"
    twice = [one.found for one in examine(Flags(), environ) if one.check == "configuration"]
    assert (
        "overrides S3_DESTINATION, which names another place" in twice[1] and "from FLOODMARK_DESTINATION" in twice[0]
    )


def test_a_database_without_a_table_is_what_a_run_would_refuse(pg: PgDatabase, tmp_path: Path) -> None:
    environ = places(pg, str(tmp_path / "lake"))
    for flags in ({}, {"layout": "moj-landing"}):
        found = doctor(environ, **flags)["guards"]
        assert (found.result, found.exit_code) == ("problem", 15) and "--accept-loss" in (found.fix or "")
    assert "guards" not in doctor(environ, accept_loss=True)
    job = Floodmark(tmp_path / "job", environ)
    job("run", "--accept-loss")
    assert doctor(environ)["guards"].exit_code == 15, "it was accepted once"
    job("run", code=15)


def test_large_integers_in_json_are_looked_for_in_a_sample(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute("""
        CREATE TABLE clean (doc jsonb, raw json); INSERT INTO clean VALUES
          ('{"a": 9223372036854775807, "s": "99999999999999999999", "f": 1.5}', '[-9223372036854775808, null]');
        CREATE TABLE hidden (doc jsonb); INSERT INTO hidden VALUES ('{"a": 99999999999999999999}');
        CREATE TABLE torn (raw json); INSERT INTO torn VALUES ('"\\u0000"');
        CREATE TABLE split (id int, doc jsonb) PARTITION BY RANGE (id);
        CREATE TABLE split_1 PARTITION OF split DEFAULT; CREATE TABLE plain (n int)""")
    environ = {**places(pg, str(tmp_path / "zone")), "FLOODMARK_STATE": str(tmp_path / "state")}
    (tmp_path / "f.yaml").write_text("tables: {exclude: [hidden, torn]}\ndestination: {layout: moj-landing}\n")
    found = doctor(environ, config=tmp_path / "f.yaml")["landing: json"]
    assert found.result == "unknown" and "a sample of 3 columns of json holds no integer" in found.found
    pg.execute("""
        INSERT INTO clean VALUES (NULL, '[{"a": [-9223372036854775809]}]');
        INSERT INTO split VALUES (1, '123456789012345678901')""")
    found = doctor(environ, config=tmp_path / "f.yaml")["landing: json"]
    assert found.result == "warning" and found.found.startswith("public.clean.raw, public.split.doc: integers beyond")
    assert "quote-large" in (found.fix or "") and "123456789012345678901" not in str(found)
    (tmp_path / "f.yaml").write_text("tables: {include: [torn]}\ndestination: {layout: moj-landing}\n")
    assert "(1 table could not be sampled)" in doctor(environ, config=tmp_path / "f.yaml")["landing: json"].found
    masked = "{include: [hidden], rules: {hidden: {columns: {mask: {doc: redact}}}}}"
    (tmp_path / "f.yaml").write_text(f"tables: {masked}\ndestination: {{layout: moj-landing}}\n")
    assert "landing: json" not in doctor(environ, config=tmp_path / "f.yaml")
    (tmp_path / "f.yaml").write_text("destination: {layout: moj-landing, numbers: quote-large}\n")
    assert "landing: json" not in doctor(environ, config=tmp_path / "f.yaml")


def test_free_space_is_compared_with_what_a_run_writes(
    pg: PgDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg.execute("CREATE TABLE t AS SELECT i, repeat('x', 500) FROM generate_series(1, 2000) i")
    environ = places(pg, str(tmp_path / "lake"))
    found = doctor(environ)
    assert found["temporary files"].result == found["destination: space"].result == "ok"
    assert (
        tempfile.gettempdir() in found["temporary files"].found and "fits into memory" in found["temporary files"].found
    )
    few = SimpleNamespace(free=600_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: few)
    monkeypatch.setattr(space, "SPOOL_MEMORY", 100_000)
    found = doctor(environ, connections=3)
    assert found["temporary files"].found.endswith("3 objects at once can need 4 MB")
    assert found["temporary files"].result == found["destination: space"].result == "warning"
    assert found["destination: space"].found.startswith("only 600 kB are free for ")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nothing"])
    assert doctor(environ)["temporary files"].exit_code == 13


def test_init_suggests_masks_by_the_words_of_a_service_of_prisons(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute("""
        CREATE TABLE prisoner (id int, prisoner_number text, "pncNumber" text, name text, date_of_birth date, crn text);
        CREATE TABLE pay_band (id int, pay_band_alias text, name text); CREATE TABLE upload (file_name text)""")
    job = Floodmark(tmp_path, {"FLOODMARK_SOURCE": pg.url})
    assert "5 columns might hold personal data" in job("init", "--destination", "./lake").out
    text = (tmp_path / "floodmark.yaml").read_text()
    masks = '"prisoner_number": "hash", "pncNumber": "hash", "name": "redact", "date_of_birth": "redact", "crn": "hash"'
    assert f'#   "public.prisoner": {{columns: {{mask: {{{masks}}}}}}}' in text
    assert "pay_band" not in text and "upload" not in text


def test_old_transactions_limits_and_connections_are_seen(pg: PgDatabase, tmp_path: Path) -> None:
    clerk = pg.role("clerk")
    environ = {"FLOODMARK_SOURCE": clerk.url, "FLOODMARK_DESTINATION": str(tmp_path)}
    pg.execute("ALTER ROLE clerk CONNECTION LIMIT 4; GRANT pg_read_all_stats TO clerk; CREATE TABLE t (id int)")
    found = doctor(environ)
    assert found["connections"].result == "warning" and "4 are free (the role's limit)" in found["connections"].found
    assert "limits.connections: 3" in (found["connections"].fix or "") and found["time limits"].result == "ok"
    assert found["time limits"].found.startswith("a run sets its own")
    pg.execute("ALTER ROLE clerk SET statement_timeout = '9s'")
    assert doctor(environ)["time limits"].found.startswith("statement_timeout set here have no effect: ")
    pg.execute("ALTER ROLE clerk CONNECTION LIMIT -1; ALTER ROLE clerk SET idle_session_timeout = '5s'")
    found = doctor(environ)
    assert found["connections"].result == "ok" and "an idle connection after 5 s" in found["time limits"].found
    writer = pg.connect()
    writer.execute("INSERT INTO t VALUES (1)")
    pid = writer.info.backend_pid
    server = ServerConnection(load(Flags(), environ))
    try:
        (old,) = activity.check_transactions(server, 0)
        assert old.result == "warning" and f"pid {pid} (" in old.found and "is read again each run" in old.found
        assert f"SELECT pg_terminate_backend({pid});" in (old.fix or "")
        writer.execute("PREPARE TRANSACTION 'it''s left'")
        (left,) = activity.check_prepared(server, 0)
        assert left.result == "warning" and "ROLLBACK PREPARED 'it''s left';" in (left.fix or "")
        pg.execute("ROLLBACK PREPARED 'it''s left'")
        assert [one.result for one in activity.check_prepared(server, 0)] == ["ok"]
    finally:
        server.close()


def test_a_role_that_may_not_look_at_others_is_told_what_it_takes(pg: PgDatabase, tmp_path: Path) -> None:
    clerk = pg.role("clerk")
    pg.value("SELECT 1")
    found = doctor({"FLOODMARK_SOURCE": clerk.url, "FLOODMARK_DESTINATION": str(tmp_path)})["transactions"]
    assert found.result == "unknown" and 'GRANT pg_read_all_stats TO "clerk"' in (found.fix or "")


def test_a_balancer_between_is_seen(postgres: Servers, tmp_path: Path, balancer: Callable[..., Balancer]) -> None:
    here = postgres[18].database()
    there = postgres[17].database(here.name)
    turn = iter([postgres[18].port] * 2 + [postgres[17].port] * 20)
    url = here.url.replace(f":{postgres[18].port}/", f":{balancer(lambda: next(turn)).port}/")
    found = doctor({"FLOODMARK_SOURCE": url, "FLOODMARK_DESTINATION": str(tmp_path)})["snapshot"]
    assert found.result == "warning" and "one connection reads everything" in found.found
    assert "PGHOST" in (found.fix or "")
    for database in (here, there):
        database.drop()


def test_a_standby_is_told_as_such(
    private_server: Cluster, standby: Callable[[Cluster], Cluster], tmp_path: Path
) -> None:
    """A standby can't be written to at all: so a doctor who finds all that he looks for there writes nothing."""
    database = private_server.database()
    database.execute("CREATE UNLOGGED TABLE fleeting (id int); CREATE TABLE lasting (id int)")
    twin = standby(private_server)
    found = doctor(places(database.on(twin), str(tmp_path / "lake")))
    assert found["standby"].result == "warning" and "hot_standby_feedback = on" in (found["standby"].fix or "")
    assert "read the primary" in (found["snapshot"].fix or "").lower() and "PGHOST" not in str(found["snapshot"])
    assert found["rights"].result == "problem" and "unlogged" in (found["rights"].fix or "")
    twin.admin().execute("ALTER SYSTEM SET hot_standby_feedback = on")
    twin.admin().execute("SELECT pg_reload_conf()")
    twin._wait("SELECT current_setting('hot_standby_feedback') = 'on'")
    assert doctor(places(database.on(twin), str(tmp_path / "lake")))["standby"].result == "ok"


def test_a_server_that_can_lose_rows_is_refused(make_server: Callable[..., Cluster], tmp_path: Path) -> None:
    database = make_server(16, {"old_snapshot_threshold": "60"}).database()
    found = doctor(places(database, str(tmp_path)))["old_snapshot_threshold"]
    assert (found.result, found.exit_code) == ("problem", 12) and "ALTER SYSTEM SET" in (found.fix or "")


LANDED = """
CREATE TABLE account (id bigint, "Total" numeric, total numeric(18,0), rate numeric(30,12));
CREATE TABLE fine (id int);
"""


def nothing_put(seen: Sequence[Seen]) -> bool:
    """Only a look at the bucket, and a part of an upload that does not exist."""
    return {one.method for one in seen} == {"HEAD", "PUT"} and all(
        "uploadId=floodmark-doctor" in one.path and one.body == b"" for one in seen if one.method == "PUT"
    )


def test_in_a_landing_zone_no_object_is_touched(
    pg: PgDatabase, proxied: S3Proxy, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    pg.execute(LANDED)
    proxied.always = lambda seen, forward: forward(seen) if seen.method == "PUT" else DENIED(seen, forward)
    found = doctor(places(pg, f"{s3_bucket.url}/landing"), layout="moj-landing")
    assert nothing_put(proxied.seen) and not keys(s3_bucket)
    assert (
        found["destination: write"].result == "unknown"
        and "a test object for data" in found["destination: write"].found
    )
    assert found["destination"].result == "unknown" and "state" not in found and found["head"].result == "warning"
    assert found["landing: integers"].found.startswith("public.account.Total can hold") and "rate" not in str(found)
    assert "numbers: quote-large" in (found["landing: integers"].fix or "")
    quoting = doctor(places(pg, f"{s3_bucket.url}/landing"), layout="moj-landing", numbers="quote-large")
    assert quoting["landing: integers"].result == "ok"
    csv = doctor(places(pg, f"{s3_bucket.url}/landing"), layout="moj-landing", format="csv")["landing: integers"]
    assert csv.found.startswith("public.account.Total can hold") and "jsonl" in (csv.fix or "")
    assert found["landing: names"].result == "warning" and "Total, total" in found["landing: names"].found
    assert found["landing: sizes"].result == found["landing: database name"].result == "ok"
    proxied.always = None
    pg.execute("DROP TABLE account")
    Path("floodmark.yaml").write_text(f"deliver: [{{name: moj, url: '{s3_bucket.url}/hand', layout: moj-landing}}]")
    before = len(proxied.seen)
    found = doctor(places(pg, str(tmp_path / "lake")))
    assert nothing_put(proxied.seen[before:]) and not keys(s3_bucket)
    assert found["deliver moj"].result == found["deliver moj: database name"].result == "ok"
    assert found["deliver moj: write"].result == "unknown" and "landing: integers" in found
    Path("floodmark.yaml").unlink()
    found = doctor(places(pg, f"{s3_bucket.url}/landing"), layout="moj-landing")
    assert found["landing: integers"].result == found["landing: names"].result == found["destination"].result == "ok"
    found = doctor(places(pg, "s3://moj-reg-no-such-bucket/landing"))
    assert found["destination"].exit_code == 13 and "does not exist" in found["destination"].found


def refusing(*words: str) -> Callable[[Seen, Forward], Answer | None]:
    """Refuses requests whose method and path hold one of the words."""

    def fault(seen: Seen, forward: Forward) -> Answer | None:
        said = f"{seen.method} {seen.path}"
        return DENIED(seen, forward) if any(word in said for word in words) else forward(seen)

    return fault


def test_rights_that_are_missing_in_s3_are_told_one_by_one(
    pg: PgDatabase, proxied: S3Proxy, s3_bucket: S3Bucket
) -> None:
    environ = places(pg, f"{s3_bucket.url}/lake")
    proxied.always = refusing("DELETE", "list-type", "versioning", "lifecycle", "uploadId")
    found = doctor(environ)
    assert "PUT" not in proxied.asked and found["destination: write"].result == "unknown"
    assert found["state: delete"].exit_code == 13 and found["destination: delete"].result == "warning"
    assert found["destination: list"].result == "warning" and "s3:ListBucket" in found["destination: list"].found
    assert found["destination: abort uploads"].result == "warning"
    assert found["state: versions"].result == found["destination: lifecycle"].result == "unknown"
    proxied.always = refusing("PUT")
    write = doctor(environ)["state: write"]
    assert write.exit_code == 13 and "s3:PutObject" in (write.fix or "")
    proxied.always = refusing("GET /")
    assert doctor(environ)["destination: read"].exit_code == 13
    proxied.always = lambda seen, forward: (
        error(400, "AccessControlListNotSupported")(seen, forward) if seen.method == "PUT" else forward(seen)
    )
    Path("floodmark.yaml").write_text("destination: {acl: private, sse: AES256}")
    write = doctor(environ)["destination: write"]
    assert "AccessControlListNotSupported" in write.found and "destination.acl" in (write.fix or "")
    assert not keys(s3_bucket)


def test_a_store_that_ignores_conditions_is_found_out(
    pg: PgDatabase, moto_server: str, moto_bucket: S3Bucket, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto, since it takes requests whose signed headers were taken away."""
    proxy = make_proxy(moto_server)
    proxy.always = ignored_conditions
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    environ = places(pg, f"{moto_bucket.url}/lake")
    found = doctor(environ)["state: conditional put"]
    assert found.exit_code == 13 and "--allow-unconditional-writes" in (found.fix or "")
    assert doctor(environ, allow_unconditional_writes=True)["state: conditional put"].result == "warning"
    assert not keys(moto_bucket)


def test_a_store_that_does_not_do_as_it_must_is_found_out(
    pg: PgDatabase, proxied: S3Proxy, s3_bucket: S3Bucket
) -> None:
    environ = places(pg, f"{s3_bucket.url}/lake")

    def credulous_and_late(seen: Seen, forward: Forward) -> Answer:
        answer, date = forward(seen), "Tue, 24 Nov 2020 00:00:00 GMT"
        if seen.method == "PUT" and answer.status >= 400 and not {"if-match", "if-none-match"} & set(seen.headers):
            return Answer(200, {"date": date, "content-length": "0"}, b"")
        return Answer(answer.status, {**answer.headers, "date": date}, answer.body)

    proxied.always = credulous_and_late
    found = doctor(environ)
    assert found["destination: checksum"].result == "warning"
    assert found["destination: clock"].exit_code == 13 and "ahead of the store's" in found["destination: clock"].found
    proxied.always = error(403, "SignatureDoesNotMatch")
    found = doctor(environ)
    for check in ("destination", "state", "head"):
        assert found[check].exit_code == 13 and "AWS_SECRET_ACCESS_KEY" in (found[check].fix or "")
    proxied.always = refusing("GET /")
    assert doctor(environ)["head"].result == "unknown"  # denied, as S3 says of a missing one, too
    assert not keys(s3_bucket)


def test_a_state_of_another_database_and_metrics_that_go_nowhere(pg: PgDatabase, tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    job = Floodmark(tmp_path / "job", places(pg, lake))
    pg.execute("CREATE TABLE t (id int)")
    job("run")
    other = pg.server.database()
    environ = places(other, lake, FLOODMARK_PUSHGATEWAY=f"http://u:{CANARY}@127.0.0.1:1/")
    found = doctor(environ, metrics_textfile="/nowhere/a.prom", metrics_port=pg.server.port)
    other.drop()
    owner = found["state's database"]
    assert owner.exit_code == 10 and "--adopt-source" in (owner.fix or "")
    told = {check: one.found for check, one in found.items() if check.startswith("metrics")}
    assert "http://127.0.0.1:1/: Connection refused" in told["metrics: pushgateway"]
    assert "/nowhere is not a writable folder" in told["metrics: textfile"]
    assert {found[check].result for check in told} <= {"warning", "ok"}
    (tmp_path / "lake/_floodmark/head.json").write_text("{}")
    assert doctor(places(pg, lake))["head"].exit_code == 13


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No floodmark.yaml but the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_sessions_temporary_tables_hide_no_catalog(pg: PgDatabase, tmp_path: Path) -> None:
    environ = places(pg, str(tmp_path / "lake"))
    before = results(doctor(environ))
    pg.execute(SHADOWS)
    assert results(doctor(environ)) == before
