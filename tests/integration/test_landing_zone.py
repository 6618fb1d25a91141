"""A landing zone from the shell: objects put once, in the shape its receiver demands, and never looked at again.

The receiver's side is a proxy before a real S3 server: it refuses, as credentials that may only put would, whatever
is not a plain put below data/ of a bucket `moj-reg-…`, and writes down each request.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from fix_canaries import CANARY, TABLES
from fix_command import Floodmark, Landing, content, keys
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_s3_proxy import Answer, Forward, S3Proxy, Seen, error, lost_answer
from fix_storage import S3Bucket, S3Server, environment
from floodmark.config import DestinationSettings, Secret, Selection, Settings, SourceSettings
from floodmark.layout import LAYOUTS, MOJ_LANDING
from floodmark.pipeline.job import run
from floodmark.state.manifest import Manifest

_numbers = itertools.count(1)
SERVICE = f"""{TABLES}
CREATE TABLE nothing (id int);
CREATE SCHEMA audit; CREATE TABLE audit."an entry" (id int); INSERT INTO audit."an entry" VALUES (1);
"""
LABELS = {"audit.an entry", "public.nothing", "public.person", "public.sick"}


def key_of(seen: Seen) -> str:
    """The key below the destination's prefix."""
    return unquote(seen.path).partition("/landing/")[2]


class Zone:
    """A landing zone and its receiver. `took` are the keys put by the last command, with their headers."""

    def __init__(self, bucket: S3Bucket, proxy: S3Proxy) -> None:
        self.bucket, self.proxy = bucket, proxy
        proxy.always = self._only_puts

    def _only_puts(self, seen: Seen, forward: Forward) -> Answer | None:
        plain = not any(name.startswith("if-") for name in seen.headers) and "?" not in seen.path
        inside = key_of(seen).startswith("data/")
        if seen.method == "PUT" and plain and inside:
            return forward(seen)
        return error(403, "AccessDenied")(seen, forward)

    @property
    def took(self) -> dict[str, dict[str, str]]:
        return {key_of(seen): seen.headers for seen in self.proxy.seen}

    def require_only_puts(self) -> None:
        """What the receiver saw were puts alone, each as it demands."""
        for seen in self.proxy.seen:
            assert seen.method == "PUT" and "?" not in seen.path, (seen.method, seen.path)
            assert seen.headers["x-amz-acl"] == "bucket-owner-full-control"
            assert seen.headers["x-amz-server-side-encryption"] == "AES256"
            assert seen.headers["x-amz-checksum-sha256"]
            assert not {"if-match", "if-none-match", "content-encoding"} & set(seen.headers)
            key = key_of(seen)
            segment = r"[A-Za-z0-9_.%-]+"
            shape = (
                rf"data/database_name=\w+_\w+/table_name=({segment})/extraction_timestamp=\d{{14}}Z/\1-\d{{5}}\.jsonl"
            )
            assert re.fullmatch(shape, key), key
            assert seen.body.startswith(b"{") and seen.body.endswith(b"}\n") and seen.body.count(b"\n") >= 1

    def landed(self, table: str) -> list[bytes]:
        """A table's lines, of the last command."""
        found: list[bytes] = []
        for key in sorted(self.took):
            if f"/table_name={table}/" in key:
                found += content(self.bucket, f"landing/{key}").splitlines(keepends=True)
        return found


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(SERVICE)
    return pg


@pytest.fixture
def zone(s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: Callable[[str], S3Proxy]) -> Zone:
    name = f"moj-reg-{s3_bucket.name}"
    return Zone(S3Bucket(name, s3_server.make_bucket(name)), make_proxy(s3_server.endpoint))


@pytest.fixture
def floodmark(service: PgDatabase, zone: Zone, tmp_path: Path) -> Floodmark:
    """The job of a service whose destination is known as a landing zone by its bucket alone."""
    places = {"FLOODMARK_SOURCE": service.url, "S3_DESTINATION": f"{zone.bucket.url}/landing/"}
    made = Floodmark(tmp_path / "job", {**environment(zone.proxy.endpoint), **places})
    made.configure("chunk_size: 64KiB\n")
    return made


def require_whole(zone: Zone, service: PgDatabase, manifest: Manifest, *labels: str) -> None:
    """These tables, and no others, were sent whole by the last command."""
    assert {key.split("/")[2] for key in zone.took} == {
        f"table_name={label.removeprefix('public.').replace(' ', '%20')}" for label in labels
    }
    for entry in manifest.tables:
        if entry.table.label in labels:
            segment = entry.table.label.removeprefix("public.").replace(" ", "%20")
            wanted = lines_of(service.dsn, f'{entry.schema}."{entry.name}"', entry)
            assert sorted(zone.landed(segment)) == sorted(wanted)


def test_without_state_every_run_is_a_full_one(floodmark: Floodmark, service: PgDatabase, zone: Zone) -> None:
    first = floodmark.run()
    assert set(first.outcomes) == LABELS and set(first.outcomes.values()) == {("extracted", "first_run")}
    assert "FLOODMARK_STATE" in first.err
    zone.require_only_puts()
    require_whole(zone, service, first.manifest, *(LABELS - {"public.nothing"}))
    databases = {key.split("/")[1] for key in zone.took}
    assert databases == {f"database_name={service.name}_public", f"database_name={service.name}_audit"}
    before = set(keys(zone.bucket))
    assert len(before) == len(zone.proxy.seen)

    zone.proxy.seen.clear()
    text = floodmark("run")
    assert "no manifest: this run has no state" in text.out
    zone.require_only_puts()
    require_whole(zone, service, first.manifest, *(LABELS - {"public.nothing"}))
    assert len(keys(zone.bucket)) == 2 * len(before)
    for command in ("status", "history", "show"):
        assert "there is no state to read" in floodmark(command, code=10).err


def test_without_state_nothing_is_sent_while_a_table_can_t_be_read(
    floodmark: Floodmark, service: PgDatabase, zone: Zone
) -> None:
    role = service.role("reader", CANARY)
    service.execute("GRANT SELECT ON person TO reader")
    floodmark.environment["FLOODMARK_SOURCE"] = role.url
    done = floodmark("run", code=12)
    assert "nothing was sent" in done.err and "public.sick" in done.err and "GRANT SELECT" in done.err
    assert zone.proxy.seen == []
    service.execute(
        "GRANT USAGE ON SCHEMA audit TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA audit, public TO reader"
    )
    floodmark("run")
    assert len(zone.proxy.seen) > 3


def test_with_state_unchanged_tables_are_skipped_and_changed_ones_sent_whole(
    floodmark: Floodmark, service: PgDatabase, zone: Zone, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    floodmark.environment["FLOODMARK_STATE"] = str(state)
    first = floodmark.run()
    zone.require_only_puts()
    require_whole(zone, service, first.manifest, *(LABELS - {"public.nothing"}))
    zone.proxy.seen.clear()
    assert set(floodmark.run().outcomes.values()) == {("unchanged", "unchanged")}
    assert zone.proxy.seen == []

    service.execute("UPDATE person SET name = 'new' WHERE id = 7")
    third = floodmark.run()
    assert third.outcomes["public.person"] == ("extracted", "rows_changed")
    zone.require_only_puts()
    require_whole(zone, service, third.manifest, "public.person")
    assert len(zone.took) > 1 and {part.origin for part in _entry(third.manifest, "person").objects} == {"extracted"}

    zone.proxy.seen.clear()
    _age(state, timedelta(days=8))
    again = floodmark.run()
    assert again.outcomes["public.sick"] == ("extracted", "resend")
    require_whole(zone, service, again.manifest, *(LABELS - {"public.nothing"}))
    zone.proxy.seen.clear()
    floodmark.configure("chunk_size: 64KiB\ndestination: {resend_after_days: 30}\n")
    _age(state, timedelta(days=8))
    assert {status for status, _ in floodmark.run().outcomes.values()} == {"unchanged"} and zone.proxy.seen == []
    assert floodmark("status").out and floodmark("history").out.count("\n") == 6
    assert CANARY not in "".join(path.read_text() for path in state.rglob("*.json"))


def test_a_table_that_lost_a_partition_is_sent_again_although_the_others_are_proven(
    pg: PgDatabase, tmp_path: Path
) -> None:
    zone = tmp_path / "zone"
    floodmark = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_STATE": str(tmp_path / "state")})
    floodmark.configure(f"destination: {{url: {zone}, layout: moj-landing}}\n")
    pg.execute("""
        CREATE TABLE split (id int) PARTITION BY LIST (id);
        CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1);
        CREATE TABLE split_2 PARTITION OF split FOR VALUES IN (2);
        INSERT INTO split VALUES (1), (2)""")
    floodmark.run()
    first = set(zone.rglob("*.jsonl"))
    pg.execute("DROP TABLE split_2")
    assert floodmark.run().outcomes == {"public.split": ("extracted", "rows_removed")}
    (sent,) = set(zone.rglob("*.jsonl")) - first
    assert sent.read_bytes() == b'{"id":1}\n'
    assert floodmark.run().outcomes == {"public.split": ("unchanged", "unchanged")}
    assert set(zone.rglob("*.jsonl")) == {*first, sent}


def _entry(manifest: Manifest, name: str) -> Any:
    (found,) = [entry for entry in manifest.tables if entry.name == name]
    return found


def _age(state: Path, by: timedelta) -> None:
    """Rewrite what is committed as if all of it had been sent so much earlier."""
    head = json.loads((state / "head.json").read_text())
    path = state / head["manifest"]

    def earlier(match: re.Match[str]) -> str:
        moment = datetime.strptime(match[1], "%Y%m%d%H%M%SZ") - by
        return f"extraction_timestamp={moment.strftime('%Y%m%d%H%M%SZ')}"

    text = re.sub(r"extraction_timestamp=(\d{14}Z)", earlier, path.read_text())
    path.write_text(text)
    head["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (state / "head.json").write_text(json.dumps(head))


def test_a_landing_zone_that_fails_is_tried_again(floodmark: Floodmark, service: PgDatabase, zone: Zone) -> None:
    """A lost answer to an unconditional put is simply put again, to the same key."""
    zone.proxy.faults.extend([lost_answer, error(503, "SlowDown"), lost_answer])
    done = floodmark.run()
    assert done.err.count("retry") == 3
    zone.require_only_puts()
    require_whole(zone, service, done.manifest, *(LABELS - {"public.nothing"}))
    assert len(keys(zone.bucket)) == len(zone.took)


@pytest.mark.parametrize(
    ("state", "says"),
    [("landing", "the receiver moves"), ("s3://moj-reg-other/x", "receiver moves every object away")],
)
def test_state_can_not_lie_in_a_landing_zone(floodmark: Floodmark, zone: Zone, state: str, says: str) -> None:
    if state == "landing":
        state, says = f"{zone.bucket.url}/elsewhere", "receiver moves every object away"
    refused = floodmark("run", "--state", state, code=10)
    assert says in refused.err and zone.proxy.seen == []


def test_a_chunk_too_large_for_the_receiver_fails_its_table(
    service: PgDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, since the limit is 5 GiB."""
    monkeypatch.setitem(LAYOUTS, "moj-landing", replace(MOJ_LANDING, max_object_bytes=10_000))
    out = tmp_path / "out"
    settings = Settings(
        source=SourceSettings(Secret(service.url)),
        destination=DestinationSettings(str(out), layout="moj-landing", compression="none"),
        state_url=str(tmp_path / "state"),
        selection=Selection(),
    )
    manifest = run(settings).manifest
    assert _entry(manifest, "person").status == "failed" and "chunk_size" in _entry(manifest, "person").reason.detail
    assert _entry(manifest, "sick").status == "extracted"
    assert not [key for key in Landing(out).files if "person" in key]
