"""PostgreSQL → S3 by the command line: days in a row, every object checked from outside, every reading command."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from isal import igzip
from moto.core import DEFAULT_ACCOUNT_ID

from fix_command import CHUNKS, Done, Floodmark, content, entry_of, keys
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_s3_proxy import S3Proxy
from fix_storage import S3Bucket, S3Server, environment
from floodmark.config import DestinationSettings as Destination
from floodmark.config import Secret, Selection, Settings, SourceSettings
from floodmark.pipeline.entries import carried_over
from floodmark.pipeline.job import run
from floodmark.state.manifest import Head, Manifest, decode
from floodmark.storage.s3 import S3Storage

SERVICE = '''
CREATE TABLE person (id int PRIMARY KEY, name text, note text);
INSERT INTO person SELECT n, 'person ' || n, repeat(md5(n::text), 5) FROM generate_series(1, 4000) n;
CREATE TABLE "odd name/ü" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "a ""b""" jsonb);
INSERT INTO "odd name/ü" ("a ""b""")
    SELECT jsonb_build_object('n', n, 't', E'tab\\there') FROM generate_series(1, 10) n;
CREATE SCHEMA audit;
CREATE TABLE audit.entry (at timestamptz, what bytea);
INSERT INTO audit.entry VALUES ('2026-01-01 00:00:00Z', '\\x00ff');
CREATE TABLE nothing (id int);
'''
LABELS = ["audit.entry", "public.nothing", "public.odd name/ü", "public.person"]
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": igzip.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(),
    "": lambda data: data,
}
MIB = 1024 * 1024
Job = Callable[..., Floodmark]


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(SERVICE)
    return pg


@pytest.fixture
def floodmark(service: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path) -> Floodmark:
    """The job of a service: its database into the prefix `lake` of its bucket."""
    return to_bucket(service, s3_server.endpoint, f"{s3_bucket.url}/lake/", tmp_path)


def to_bucket(database: PgDatabase, endpoint: str, destination: str, folder: Path) -> Floodmark:
    places = {"FLOODMARK_SOURCE": database.url, "S3_DESTINATION": destination}
    made = Floodmark(folder / "job", {**environment(endpoint), **places})
    made.configure(CHUNKS)
    return made


def head(bucket: S3Bucket, state: str = "lake/_floodmark") -> Manifest:
    """What a consumer finds: head, and the manifest that it names and vouches for."""
    found = decode(Head, content(bucket, f"{state}/head.json"), "head")
    data = content(bucket, f"{state}/{found.manifest}")
    assert hashlib.sha256(data).hexdigest() == found.manifest_sha256
    return decode(Manifest, data, found.manifest)


def require_truth(bucket: S3Bucket, database: PgDatabase, state: str = "lake/_floodmark", prefix: str = "lake") -> None:
    """Every object is what the manifest says, and all together are what the database holds."""
    manifest = head(bucket, state)
    assert [entry.table.label for entry in manifest.tables] == LABELS
    for entry in manifest.tables:
        lines: list[bytes] = []
        for stored in entry.objects:
            data = content(bucket, f"{prefix}/{stored.key}")
            assert (len(data), hashlib.sha256(data).hexdigest()) == (stored.stored_bytes, stored.sha256)
            raw = UNPACK[stored.key.rpartition(".jsonl")[2]](data)
            assert (len(raw), hashlib.sha256(raw).hexdigest()) == (stored.raw_bytes, stored.content_sha256)
            lines += raw.splitlines(keepends=True)
        name = entry.name.replace('"', '""')
        assert sorted(lines) == sorted(lines_of(database.dsn, f'{entry.schema}."{name}"', entry))


def data(bucket: S3Bucket) -> set[str]:
    return {key for key in keys(bucket) if "/data/" in key or key.startswith("data/")}


def statuses(done: Done) -> set[tuple[str, str]]:
    return set(done.outcomes.values())


def test_three_days(floodmark: Floodmark, s3_bucket: S3Bucket, service: PgDatabase) -> None:
    first = floodmark.run()
    assert statuses(first) == {("extracted", "first_run")}
    assert head(s3_bucket) == first.manifest and first.manifest.consistent
    require_truth(s3_bucket, service)
    landed = data(s3_bucket)
    assert f"lake/data/database_name={service.name}/table_name=audit.entry/extraction_timestamp=" in "".join(landed)
    assert "table_name=odd%20name%2F%C3%BC/" in "".join(landed) and "table_name=nothing" not in "".join(landed)

    second = floodmark.run()
    assert statuses(second) == {("unchanged", "unchanged")}
    assert data(s3_bucket) == landed and head(s3_bucket).parent == f"manifests/{first.manifest.run_id}.json"
    require_truth(s3_bucket, service)

    service.execute("UPDATE person SET note = 'new' WHERE id = 7")
    third = floodmark.run()
    assert third.outcomes["public.person"] == ("extracted", "rows_changed")
    assert len(statuses(third)) == 2
    written = [entry for entry in entry_of(third.manifest, "public.person").objects if entry.origin == "extracted"]
    assert {f"lake/{entry.key}" for entry in written} == data(s3_bucket) - landed
    assert 1 <= len(written) <= 2 < len(entry_of(third.manifest, "public.person").objects)
    require_truth(s3_bucket, service)
    assert "inflight.json" in "".join(keys(s3_bucket)) and b'"runs": []' in content(
        s3_bucket, "lake/_floodmark/inflight.json"
    )


def test_plan_tells_and_only_reads(
    service: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: Callable[[str], S3Proxy], tmp_path: Path
) -> None:
    proxy = make_proxy(s3_server.endpoint)
    floodmark = to_bucket(service, proxy.endpoint, f"{s3_bucket.url}/lake", tmp_path)
    floodmark("plan", "--detailed-exitcode", code=20)
    assert keys(s3_bucket) == {}
    floodmark.run()
    before = keys(s3_bucket)
    assert "all 4 tables" not in floodmark("plan").err
    floodmark("plan", "--detailed-exitcode", code=0)
    service.execute("DELETE FROM person WHERE id = 1; DROP TABLE nothing")
    proxy.seen.clear()
    done = floodmark("plan", "--detailed-exitcode", "--output", "json", code=20)
    reasons = {table["name"]: table["reason"]["code"] for table in done.json["tables"]}
    assert reasons == {
        "entry": "unchanged",
        "nothing": "dropped",
        "odd name/ü": "unchanged",
        "person": "rows_removed",
    }
    assert set(proxy.asked) <= {"GET", "HEAD"} and keys(s3_bucket) == before


def test_every_reading_command_prints_one_json_document_and_nothing_else(
    floodmark: Floodmark, service: PgDatabase
) -> None:
    for command, code in {"status": 13, "history": 13, "show": 13, "plan": 0}.items():  # before the first run
        assert isinstance(floodmark(command, "--output", "json", code=code).json, dict)
    first, second = floodmark.run(), floodmark.run()
    shown = floodmark("show", "--output", "json").manifest
    assert shown == second.manifest
    assert floodmark("show", first.manifest.run_id, "--output", "json").manifest == first.manifest
    runs = floodmark("history", "--output", "json").json["runs"]
    assert [found["run_id"] for found in runs] == [second.manifest.run_id, first.manifest.run_id]
    status = floodmark("status", "--output", "json").json
    assert [(table["schema"], table["name"]) for table in status["tables"]] == [
        (entry.schema, entry.name) for entry in shown.tables
    ]
    assert status["head"]["run_id"] == second.manifest.run_id


def test_a_person_gets_tables_on_stdout_and_talk_on_stderr(floodmark: Floodmark) -> None:
    done = floodmark("run")
    assert all(label in done.out for label in LABELS) and "first_run" in done.out
    assert "event=run_started" in done.err and "first_run" in done.err and "\x1b" not in done.said
    for command in ("plan", "status", "show"):
        read = floodmark(command, "--verbose")
        assert all(label in read.out for label in LABELS) and read.err == ""
    assert floodmark("history").out.count("\n") >= 2


def test_a_narrowed_run_leaves_the_others_as_they_were(
    floodmark: Floodmark, service: PgDatabase, s3_bucket: S3Bucket
) -> None:
    first = floodmark.run().manifest
    service.execute("UPDATE person SET note = '' WHERE id = 1; INSERT INTO nothing VALUES (1)")
    one = floodmark.run("--table", "person")
    assert one.outcomes["public.person"] == ("extracted", "rows_changed") and not one.manifest.consistent
    for label in set(LABELS) - {"public.person"}:
        assert entry_of(one.manifest, label) == carried_over(entry_of(first, label))
    both = floodmark.run("--exclude", "nothing", "--full")
    assert both.outcomes["public.person"] == ("extracted", "forced")
    assert entry_of(both.manifest, "public.nothing") == carried_over(entry_of(first, "public.nothing"))
    whole = floodmark.run()
    assert whole.outcomes["public.nothing"] == ("extracted", "rows_changed") and whole.manifest.consistent
    assert whole.outcomes["public.person"] == ("unchanged", "unchanged")
    require_truth(s3_bucket, service)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_each_compression_and_state_in_a_bucket_of_its_own(
    floodmark: Floodmark, service: PgDatabase, s3_bucket: S3Bucket, s3_server: S3Server, compression: str
) -> None:
    floodmark.configure(f"{CHUNKS}destination: {{compression: {compression}}}\n")
    state = S3Bucket(f"{s3_bucket.name}-state", s3_server.make_bucket(f"{s3_bucket.name}-state"))
    floodmark.environment["FLOODMARK_STATE"] = f"{state.url}/of-service"
    floodmark.run()
    suffix = {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", "none": ".jsonl"}[compression]
    assert set(keys(s3_bucket)) == data(s3_bucket) and all(key.endswith(suffix) for key in data(s3_bucket))
    assert {key.split("/")[1] for key in keys(state)} == {"head.json", "inflight.json", "manifests"}
    manifest = head(state, "of-service")
    floodmark.environment["FLOODMARK_STATE"] = f"{state.url}/of-service/"
    assert statuses(floodmark.run()) == {("unchanged", "unchanged")}
    person = entry_of(manifest, "public.person").objects[0]
    assert hashlib.sha256(content(s3_bucket, f"lake/{person.key}")).hexdigest() == person.sha256
    assert UNPACK[suffix.removeprefix(".jsonl")](content(s3_bucket, f"lake/{person.key}")).startswith(b'{"id":1,')


def test_acl_encryption_and_key_reach_the_server(
    service: PgDatabase,
    moto_server: str,
    moto_bucket: S3Bucket,
    make_proxy: Callable[[str], S3Proxy],
    tmp_path: Path,
) -> None:
    """The ACL is looked for on the way: it grants what the owner has anyway, so nothing shows of it afterwards."""
    proxy = make_proxy(moto_server)
    floodmark = to_bucket(service, proxy.endpoint, moto_bucket.url, tmp_path)
    key = f"arn:aws:kms:eu-west-2:{DEFAULT_ACCOUNT_ID}:key/00000000-0000-4000-8000-000000000000"
    floodmark.configure(f"destination: {{acl: bucket-owner-full-control, sse: aws:kms, kms_key_id: '{key}'}}\n")
    floodmark.run()
    for name in keys(moto_bucket):
        found = moto_bucket.client.head_object(Bucket=moto_bucket.name, Key=name)
        assert (found.get("ServerSideEncryption"), found.get("SSEKMSKeyId")) == ("aws:kms", key), name
    puts = {
        seen.path: seen.headers.get("x-amz-acl") for seen in proxy.seen if seen.method == "PUT" and "data/" in seen.path
    }
    assert len(puts) == len(data(moto_bucket)) and set(puts.values()) == {"bucket-owner-full-control"}


def test_libpq_s_own_environment_with_an_odd_password(
    service: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    role = service.role("the extractor's", "p@ss:w/rd%#?' \\")
    service.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public, audit TO "{role.name}"')
    service.execute(f'GRANT USAGE ON SCHEMA audit TO "{role.name}"')
    floodmark = to_bucket(service, s3_server.endpoint, f"{s3_bucket.url}/lake", tmp_path)
    del floodmark.environment["FLOODMARK_SOURCE"]
    floodmark.environment |= {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(service.server.port),
        "PGDATABASE": service.name,
        "PGUSER": role.name,
        "PGPASSWORD": role.password,
    }
    done = floodmark.run()
    assert statuses(done) == {("extracted", "first_run")} and role.password not in done.said
    require_truth(s3_bucket, service)
    assert statuses(floodmark.run()) == {("unchanged", "unchanged")}


def test_a_service_account_s_token_stands_for_keys(
    service: PgDatabase, moto_server: str, moto_bucket: S3Bucket, tmp_path: Path
) -> None:
    floodmark = to_bucket(service, moto_server, f"{moto_bucket.url}/lake", tmp_path)
    del floodmark.environment["AWS_ACCESS_KEY_ID"], floodmark.environment["AWS_SECRET_ACCESS_KEY"]
    refused = floodmark("run", code=13)
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in refused.err
    (tmp_path / "token").write_text("a-token-of-kubernetes")
    floodmark.environment |= {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/extractor",
        "AWS_ENDPOINT_URL_STS": moto_server,
    }
    floodmark.run()
    require_truth(moto_bucket, service)


def test_a_run_whose_objects_go_up_in_parts(
    pg: PgDatabase, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, since no setting lowers S3's limit of 5 GiB a put."""
    small = functools.partial(S3Storage, single_put_bytes=5 * MIB, part_bytes=5 * MIB)
    monkeypatch.setattr("floodmark.storage.s3.S3Storage", small)
    pg.execute("CREATE TABLE wide (t text); INSERT INTO wide SELECT repeat('x', 1024*1024) FROM generate_series(1, 12)")
    settings: dict[str, Any] = {
        "source": SourceSettings(Secret(pg.url)),
        "destination": Destination(s3_bucket.url, compression="none"),
        "state_url": f"{s3_bucket.url}/_floodmark",
        "selection": Selection(),
    }
    entry = entry_of(run(Settings(**settings)).manifest, "public.wide")
    assert [len(entry.objects), entry.rows] == [1, 12]
    landed = content(s3_bucket, entry.objects[0].key)
    assert hashlib.sha256(landed).hexdigest() == entry.objects[0].sha256
    assert s3_bucket.client.head_object(Bucket=s3_bucket.name, Key=entry.objects[0].key)["ETag"].endswith('-3"')
    assert entry_of(run(Settings(**settings)).manifest, "public.wide").status == "unchanged"
