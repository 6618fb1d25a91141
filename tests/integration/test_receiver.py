"""A landing zone for real: credentials that may only put, below one prefix, and a receiver that moves each object away
the moment it appears and judges it (see `fix_receiver`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fix_command import Done, Floodmark, content, keys
from fix_postgres import PgDatabase
from fix_receiver import LandingZone, aged, extractions, refused, truth
from fix_storage import SERVICE, S3Server, client, environment, use
from floodmark.layout import MOJ_LANDING
from floodmark.storage.base import StorageOptions
from floodmark.storage.probe import body_of
from floodmark.storage.s3 import SINGLE_PUT_BYTES, S3Storage

DAY_1 = """
    CREATE TABLE person (id int, name text) WITH (autovacuum_enabled = off);
    INSERT INTO person SELECT n, repeat('x', 300) FROM generate_series(1, 1500) n;
    CREATE TABLE visit (id int, note text); INSERT INTO visit VALUES (1, 'a,"b"
c'), (2, NULL), (3, '');
    CREATE TABLE nothing (id int);
    CREATE SCHEMA audit; CREATE TABLE audit."an entry" (id int); INSERT INTO audit."an entry" VALUES (1)"""
DAY_2 = "UPDATE person SET name = 'new' WHERE id = 700; INSERT INTO nothing VALUES (1)"
CHUNKS = "chunk_size: 64KiB\n"
ALL = {"audit.an%20entry": 1, "person": 1, "visit": 1}


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(DAY_1)
    return pg


@pytest.fixture
def floodmark(service: PgDatabase, landing: LandingZone, tmp_path: Path) -> Floodmark:
    """The service's job, with the service's credentials; where to is up to each test."""
    made = Floodmark(tmp_path / "job", {**landing.environment, "FLOODMARK_SOURCE": service.url})
    made.configure(CHUNKS)
    return made


def times(landing: LandingZone) -> dict[str, int]:
    """How often each table came, whole or not."""
    return {table: len(found) for table, found in extractions(landing.receiver.held).items()}


def databases(landing: LandingZone) -> set[str]:
    return {one.database for one in landing.receiver.held}


def require_truth(landing: LandingZone, service: PgDatabase, done: Done) -> None:
    """The latest extraction of each table is the table, whole."""
    latest = {table: found[-1] for table, found in extractions(landing.receiver.held).items()}
    assert latest == truth(service, done.manifest)


def test_the_ground_these_tests_stand_on(landing: LandingZone, s3_server: S3Server) -> None:
    """What the service may not do is really refused, by the server itself."""
    landing.receiver.close()
    mine, zone, own = client(s3_server.endpoint, *SERVICE), landing.zone.name, landing.own.name
    put: dict[str, Any] = {"Body": b"x", "ACL": "bucket-owner-full-control", "ServerSideEncryption": "AES256"}
    place: dict[str, Any] = {"Bucket": zone, "Key": "landing/data/x"}
    mine.put_object(**place, **put)
    parts = mine.create_multipart_upload(**place)["UploadId"]
    asks: list[Callable[[], Any]] = [
        lambda: mine.get_object(**place),
        lambda: mine.head_object(**place),
        lambda: mine.head_bucket(Bucket=zone),
        lambda: mine.list_objects_v2(Bucket=zone, Prefix="landing/"),
        lambda: mine.delete_object(**place),
        lambda: mine.put_object(Bucket=zone, Key="elsewhere/x", **put),
        lambda: mine.put_object(Bucket=zone, Key="landing2/x", **put),
        lambda: mine.copy_object(Bucket=zone, Key="landing/y", CopySource={"Bucket": zone, "Key": "landing/data/x"}),
        lambda: mine.list_multipart_uploads(Bucket=zone),
        lambda: mine.list_parts(**place, UploadId=parts),
        lambda: mine.abort_multipart_upload(**place, UploadId=parts),
        lambda: mine.create_bucket(Bucket=f"{zone}-too"),
        lambda: mine.list_objects_v2(Bucket=own),
    ]
    assert [refused(ask) for ask in asks] == [True] * len(asks)
    several = mine.delete_objects(Bucket=zone, Delete={"Objects": [{"Key": "landing/data/x"}]})
    assert several["Errors"][0]["Code"] == "AccessDenied"
    assert content(landing.zone, "landing/data/x") == b"x"
    mine.put_object(Bucket=own, Key="x", Body=b"y")
    assert mine.get_object(Bucket=own, Key="x")["Body"].read() == b"y"


def test_a_receiver_that_has_something_to_complain_about(landing: LandingZone) -> None:
    """It sees each of the things it is there to see."""
    head = "landing/data/database_name=a_b/table_name=t/extraction_timestamp=20261124010203Z/t-00000"
    wrong = {
        "landing/head.json": b"{}\n",
        "landing/data/database_name=ab/table_name=t/extraction_timestamp=20261124010203Z/t-00000.jsonl": b"{}\n",
        f"{head}.jsonl.gz": b"{}\n",
        f"{head}.jsonl": b"",
        f"{head.replace('t-', 't-0')}.jsonl": b"\x1f\x8b\n",
        f"{head.replace('20261124', '20261125')}.jsonl": b'{"id":1}\n{"id"',
        f"{head.replace('20261124', '20261126')}.jsonl": b'{"id":1}\n{"id"\n',
        f"{head.replace('20261124', '20261127')}.csv": b"id,name\n1\n",
    }
    for key, body in wrong.items():
        landing.zone.client.put_object(Bucket=landing.zone.name, Key=key, Body=body, ServerSideEncryption="AES256")
    plain = f"{head.replace('20261124', '20261128')}.jsonl"
    landing.zone.client.put_object(Bucket=landing.zone.name, Key=plain, Body=b"{}\n")
    with pytest.raises(AssertionError):
        _ = landing.receiver.held
    assert {line.rpartition(": ")[0].partition(": ")[0] for line in landing.receiver.complaints} >= {*wrong, plain}


def test_days_of_runs_straight_into_the_zone(floodmark: Floodmark, service: PgDatabase, landing: LandingZone) -> None:
    floodmark.environment |= {"S3_DESTINATION": landing.url, "FLOODMARK_STATE": f"{landing.own.url}/state"}
    first = floodmark.run()
    require_truth(landing, service, first)
    assert times(landing) == ALL and len(landing.requests) == len(landing.receiver.arrivals) > 5
    assert {status for status, _ in floodmark.run().outcomes.values()} == {"unchanged"} and landing.requests == []

    service.execute(DAY_2)
    require_truth(landing, service, floodmark.run())
    assert times(landing) == {**ALL, "person": 2, "nothing": 1}
    service.execute("DROP TABLE visit; DELETE FROM person WHERE id > 200")
    service.execute("VACUUM person")
    third = floodmark.run()
    assert third.outcomes["public.visit"][0] == "dropped" and times(landing) == {**ALL, "person": 3, "nothing": 1}
    assert extractions(landing.receiver.held)["person"][-1] == truth(service, third.manifest)["person"]

    aged(landing.own, "state", timedelta(days=8))
    landing.proxy.seen.clear()
    assert floodmark.run().outcomes["public.person"] == ("extracted", "resend")
    assert landing.requests and times(landing) == {"audit.an%20entry": 2, "person": 4, "visit": 1, "nothing": 2}
    assert len(set(landing.receiver.arrivals)) == len(landing.receiver.arrivals), "no key comes twice"


def test_runs_without_state(floodmark: Floodmark, service: PgDatabase, landing: LandingZone) -> None:
    floodmark.environment["S3_DESTINATION"] = landing.url
    for day in (1, 2):
        require_truth(landing, service, floodmark.run())
        assert times(landing) == dict.fromkeys(ALL, day) and landing.requests
    assert keys(landing.own) == {} and databases(landing) == {f"{service.name}_public", f"{service.name}_audit"}


def test_csv(floodmark: Floodmark, landing: LandingZone) -> None:
    floodmark.configure(f"{CHUNKS}destination: {{format: csv}}\n")
    floodmark.environment["S3_DESTINATION"] = landing.url
    floodmark("run")
    assert times(landing) == ALL and landing.requests
    (visit,) = [files for one, files in landing.receiver.held.items() if one.table == "visit"]
    assert list(visit.values()) == [b'id,note\n1,"a,""b""\nc"\n2,\n3,""\n']


def test_deliveries_from_a_lake_of_one_s_own(floodmark: Floodmark, service: PgDatabase, landing: LandingZone) -> None:
    """One set of credentials, of mixed rights: to read and write what is its own, and to put into the zone."""
    floodmark.environment["FLOODMARK_DESTINATION"] = f"{landing.own.url}/lake"
    first = floodmark.run()
    assert {key.rsplit(".", 1)[1] for key in keys(landing.own) if "/data/" in key} == {"gz"}
    deliver = ("deliver", "--to", landing.url.rstrip("/"))
    floodmark(*deliver)
    require_truth(landing, service, first)
    assert times(landing) == ALL and landing.requests
    floodmark("run")
    floodmark(*deliver)
    assert times(landing) == ALL and landing.requests == []

    service.execute(DAY_2)
    second = floodmark.run()
    floodmark(*deliver)
    require_truth(landing, service, second)
    assert times(landing) == {**ALL, "person": 2, "nothing": 1} and landing.requests
    assert len(set(landing.receiver.arrivals)) == len(landing.receiver.arrivals)
    assert databases(landing) == {f"{service.name}_public", f"{service.name}_audit"}


def test_deliveries_that_follow_a_run(floodmark: Floodmark, service: PgDatabase, landing: LandingZone) -> None:
    floodmark.environment["FLOODMARK_DESTINATION"] = f"{landing.own.url}/lake"
    floodmark.configure(f"{CHUNKS}deliver: [{{name: moj, url: '{landing.url}'}}]\n")
    require_truth(landing, service, floodmark.run())
    service.execute(DAY_2)
    require_truth(landing, service, floodmark.run())
    floodmark("run")
    assert times(landing) == {**ALL, "person": 2, "nothing": 1} and landing.requests
    cursor = json.loads(content(landing.own, "lake/_floodmark/cursors/moj.json"))
    assert cursor["delivery"]["sending"] == []


def test_an_upload_in_parts_needs_the_right_to_put_alone(
    landing: LandingZone, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout's objects never are large enough for one; a delivery of another layout's may be."""
    assert MOJ_LANDING.max_object_bytes is not None and MOJ_LANDING.max_object_bytes < SINGLE_PUT_BYTES
    use(monkeypatch, s3_server.endpoint)
    for name, value in environment(s3_server.endpoint, *SERVICE).items():
        monkeypatch.setenv(name, value)
    options = StorageOptions(acl="bucket-owner-full-control", sse="AES256", conditional=False)
    storage = S3Storage(landing.zone.name, "landing", options, single_put_bytes=2**20, part_bytes=5 * 2**20)
    line = b'{"id":"' + b"x" * 1012 + b'"}\n'
    key = "data/database_name=a_b/table_name=t/extraction_timestamp=20261124010203Z/t-00000.jsonl"
    storage.put(key, body_of(line * 12_000))
    assert list(landing.receiver.held.values()) == [{f"landing/{key}": line * 12_000}]
