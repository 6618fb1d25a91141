"""`floodmark deliver`: each changed table once, whole and verified, to a place that may only be put to."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from isal import igzip
from msgspec.structs import replace

from fix_command import Done, Floodmark, Landing, content, entry_of, keys, until
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_s3_proxy import Answer, Forward, S3Proxy, Seen, error
from fix_storage import S3Bucket, S3Server, environment
from floodmark.config import DeliverySettings
from floodmark.deliver import job as delivering
from floodmark.deliver.job import Delivered, deliver, open_target
from floodmark.errors import Conflict, Stopped
from floodmark.events import ignore_event
from floodmark.layout import LAYOUTS, MOJ_LANDING, timestamp_moment
from floodmark.reader.reader import Snapshot
from floodmark.reader.reader import open as open_landed
from floodmark.stop import NEVER, Stop

_numbers = itertools.count(1)
SERVICE = """
    CREATE TABLE person (id int, name text) WITH (autovacuum_enabled = off);
    INSERT INTO person SELECT n, repeat('x', 300) FROM generate_series(1, 1500) n;
    CREATE TABLE visit (id int); INSERT INTO visit VALUES (1);
    CREATE TABLE nothing (id int);
    CREATE SCHEMA audit; CREATE TABLE audit."an entry" (id int); INSERT INTO audit."an entry" VALUES (1)"""
CHUNKS = "chunk_size: 64KiB\n"


class Zone:
    """Where deliveries go: a folder. `new` are the files that came since the last look, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._seen = folder, set[str]()

    def new(self) -> dict[str, bytes]:
        found = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        fresh = {key: path.read_bytes() for key, path in sorted(found.items()) if key not in self._seen}
        self._seen |= set(found)
        return {key: data for key, data in fresh.items() if not key.startswith(".floodmark-")}


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(SERVICE)
    return pg


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path / "zone")


@pytest.fixture
def floodmark(service: PgDatabase, tmp_path: Path) -> Floodmark:
    made = Floodmark(
        tmp_path / "job", {"FLOODMARK_SOURCE": service.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    )
    made.configure(CHUNKS)
    return made


def delivered(done: Done) -> dict[str, str]:
    (one,) = done.json["deliveries"]
    return {f"{table['schema']}.{table['name']}": table["status"] for table in one["tables"]}


def tables(files: dict[str, bytes]) -> dict[str, list[bytes]]:
    """The lines of each table that came, by its folder's name; each came under one timestamp."""
    found: dict[str, list[bytes]] = {}
    for key, data in files.items():
        assert key.endswith(".jsonl") and data, key
        found.setdefault(key.split("/")[2].removeprefix("table_name="), []).extend(data.splitlines(keepends=True))
    assert len({tuple(key.split("/")[2:4]) for key in files}) == len(found)
    return found


def test_what_changed_is_delivered_once_and_whole(floodmark: Floodmark, service: PgDatabase, zone: Zone) -> None:
    floodmark("run")
    to = ("deliver", "--to", str(zone.folder), "--layout", "moj-landing", "--output", "json")
    first = delivered(floodmark(*to))
    assert set(first.values()) == {"delivered"} and len(first) == 4
    came = zone.new()
    assert all(f"/database_name={service.name}_" in key for key in came)
    found = tables(came)
    assert set(found) == {"person", "visit", "audit.an%20entry"} and len(came) > 4
    assert set(delivered(floodmark(*to)).values()) == {"unchanged"} and zone.new() == {}

    service.execute("UPDATE person SET name = 'y' WHERE id = 3; INSERT INTO nothing VALUES (1)")
    floodmark("run")
    service.execute("DELETE FROM person WHERE id = 4; DROP TABLE visit")
    last = floodmark.run().manifest
    now = delivered(floodmark(*to))
    assert now == {
        "audit.an entry": "unchanged", "public.nothing": "delivered", "public.person": "delivered",
        "public.visit": "gone",
    }  # fmt: skip
    found = tables(zone.new())
    assert set(found) == {"person", "nothing"}
    assert sorted(found["person"]) == sorted(lines_of(service.dsn, "public.person", entry_of(last, "public.person")))
    assert "public.visit" not in delivered(floodmark(*to)) and zone.new() == {}


def test_a_run_delivers_and_what_failed_is_delivered_by_the_next(
    floodmark: Floodmark, service: PgDatabase, zone: Zone
) -> None:
    floodmark.configure(f"{CHUNKS}deliver: [{{name: moj, url: {zone.folder}, layout: moj-landing}}]\n")
    zone.folder.write_text("in the way")
    failed = floodmark.run(code=13)
    assert "a delivery failed" in failed.err and "The run is committed" in failed.err
    assert floodmark("status", "--output", "json").json["head"]["run_id"] == failed.manifest.run_id
    zone.folder.unlink()
    floodmark.run()
    assert set(tables(zone.new())) == {"person", "visit", "audit.an%20entry"}
    cursor = json.loads((floodmark.folder.parent / "lake/_floodmark/cursors/moj.json").read_text())
    assert cursor["delivery"]["sending"] == [] and len(cursor["tables"]) == 4
    floodmark("run")
    assert zone.new() == {} and delivered(floodmark("deliver", "--name", "moj", "--output", "json"))


def test_a_damaged_object_keeps_its_whole_table_back_and_no_other(
    floodmark: Floodmark, service: PgDatabase, zone: Zone
) -> None:
    manifest = floodmark.run().manifest
    last = floodmark.folder.parent / "lake" / entry_of(manifest, "public.person").objects[-1].key
    good = last.read_bytes()
    last.write_bytes(good[:-9] + bytes(9))
    to = ("deliver", "--to", str(zone.folder), "--layout", "moj-landing", "--output", "json")
    broken = floodmark(*to, code=14)
    assert set(tables(zone.new())) == {"visit", "audit.an%20entry"}
    assert delivered(broken)["public.person"] == "failed" and "SHA-256" in broken.err
    last.write_bytes(good)
    assert delivered(floodmark(*to))["public.person"] == "delivered"
    assert set(tables(zone.new())) == {"person"}


@pytest.mark.parametrize(
    ("written", "suffix"),
    [("format: csv", ".csv.gz"), ("compression: zstd", ".jsonl.zst"), ("format: csv, compression: zstd", ".csv.zst")],
)
def test_what_is_compressed_is_delivered_plain(
    floodmark: Floodmark, service: PgDatabase, tmp_path: Path, zone: Zone, written: str, suffix: str
) -> None:
    """The same bytes, object by object, as a run that lands them plain."""
    service.execute("""INSERT INTO person VALUES (2001, 'a,"b"\nc'), (2002, NULL), (2003, '')""")
    floodmark.configure(f"{CHUNKS}destination: {{{written}}}\n")
    manifest = floodmark.run().manifest
    stored = [one.key for entry in manifest.tables for one in entry.objects]
    assert len(stored) > 4 and all(key.endswith(suffix) for key in stored)
    floodmark("deliver", "--to", str(zone.folder), "--layout", "moj-landing")
    came = zone.new()
    assert {key[key.rindex(".") :] for key in came} == {"." + suffix.split(".")[1]}

    plain = written.replace("zstd", "none") if "zstd" in written else f"{written}, compression: none"
    floodmark.configure(f"{CHUNKS}destination: {{{plain}}}\n")
    floodmark("run", "--destination", str(tmp_path / "plain"))
    wanted = Landing(tmp_path / "plain").files
    assert files_of(came) == files_of({key: data for key, data in wanted.items() if key.startswith("data/")})
    assert b'"a,""b""\nc"' in b"".join(came.values()) or suffix.startswith(".jsonl")


def files_of(found: dict[str, bytes]) -> dict[str, bytes]:
    """By the objects' own names, which hold their tables'."""
    assert len({key.rpartition("/")[2] for key in found}) == len(found)
    return {key.rpartition("/")[2]: data for key, data in found.items()}


def test_what_is_left_out_is_not_delivered(floodmark: Floodmark, zone: Zone) -> None:
    floodmark("run")
    to = ("deliver", "--to", str(zone.folder), "--output", "json")
    others = {"audit.an entry": "delivered", "public.nothing": "delivered", "public.person": "delivered"}
    assert delivered(floodmark(*to, "--exclude", "v?s*")) == others
    assert delivered(floodmark(*to, "--exclude", "visit")) == dict.fromkeys(others, "unchanged")
    assert not any("visit" in key for key in zone.new())
    assert delivered(floodmark(*to)) == {**dict.fromkeys(others, "unchanged"), "public.visit": "delivered"}


def test_bad_input(floodmark: Floodmark, tmp_path: Path, zone: Zone) -> None:
    floodmark("run")
    refusals = {
        (): "no place to deliver to",
        ("--to", str(tmp_path / "lake/inside")): "and the destination overlap",
        ("--to", str(zone.folder), "--name", "a b"): "not a valid name for a delivery",
        ("--to", str(zone.folder), "--table", "public.nobody"): "a pattern matches no table",
        ("--to", str(zone.folder), "--exclude", "public.nobody"): "a pattern matches no table",
        ("--to", "ftp://x/y"): "not supported",
    }
    for given, says in refusals.items():
        assert says in floodmark("deliver", *given, code=10).err, given
    lake = Path(floodmark.environment.pop("FLOODMARK_DESTINATION"))
    for place, within in ((lake / "inside", "destination"), (lake, "state"), (lake / "_floodmark/x", "state")):
        refused = floodmark("deliver", "--state", str(lake / "_floodmark"), "--to", str(place), code=10)
        assert f"its url and the {within} overlap" in refused.err
    floodmark.environment["FLOODMARK_DESTINATION"] = str(lake)
    assert not zone.folder.exists() and not (lake / "inside").exists()
    assert "the configuration holds no delivery named fifth" in floodmark("deliver", "--name", "fifth", code=10).err
    floodmark.configure("deliver: [{name: first, url: s3://a/b}, {name: second, url: s3://b/c}]")
    missing = floodmark("deliver", "--name", "fifth", code=10).err
    assert "no delivery named fifth" in missing and "first, second" in missing
    floodmark.configure(CHUNKS)
    floodmark("deliver", "--to", str(zone.folder), "--name", "one", "--table", "vis*")
    assert "this name is taken" in floodmark("deliver", "--to", str(tmp_path / "x"), "--name", "one", code=10).err
    floodmark("deliver", "--to", str(zone.folder), "--layout", "csv", code=2)


class AfterLooks(Stop):
    """Stops a delivery once it has looked so many times whether it is to stop."""

    def __init__(self, looks: int, number: int) -> None:
        super().__init__()
        self._left = looks
        self.number = number

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


class Hand:
    """A delivery in this process, into a folder, of what a run landed."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.reader = open_landed(str(tmp_path / "lake"))
        chosen = {"name": "hand", "layout": "moj-landing", "compression": "none", **settings}
        self.target = open_target(DeliverySettings(str(tmp_path / "zone"), **chosen), ignore_event)
        self.zone = Zone(tmp_path / "zone")

    def deliver(self, stop: Stop = NEVER) -> dict[str, str]:
        told: list[Delivered] = []
        result = deliver(self.reader.latest(), self.target, self.reader.cursor("hand"), None, told.append, stop)
        return {one.table.label: one.status for one in result.tables}


@pytest.fixture
def hand(floodmark: Floodmark, tmp_path: Path) -> Hand:
    floodmark("run")
    return Hand(tmp_path)


def test_a_delivery_that_died_is_repeated_under_the_same_keys(
    hand: Hand, floodmark: Floodmark, service: PgDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after each of its puts, and after the last one of a table before the cursor moves."""
    puts: dict[str, list[bytes]] = {}
    left = 0
    inner = type(hand.target.storage).put

    def put(storage: Any, key: str, body: Any, condition: Any = None) -> str:
        nonlocal left
        if key.startswith("data/") and storage is hand.target.storage:
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            puts.setdefault(key, []).append(body.stream.read())
            body.stream.seek(0)
        return inner(storage, key, body, condition)

    monkeypatch.setattr(type(hand.target.storage), "put", put)
    for allowed in (0, 2, 3):
        left = allowed
        with pytest.raises(KeyboardInterrupt):
            hand.deliver()
    left = 1000
    assert "delivered" in hand.deliver().values()
    assert len({key.split("/")[3] for key in puts}) == 1, "one timestamp"
    assert all(len(set(bodies)) == 1 for bodies in puts.values()) and max(map(len, puts.values())) == 3
    found = tables(hand.zone.new())
    assert set(found) == {"person", "visit", "audit.an%20entry"} and len(found["person"]) == 1500


def test_a_table_that_changed_before_the_repetition_goes_under_a_later_timestamp(
    hand: Hand, floodmark: Floodmark, service: PgDatabase
) -> None:
    with pytest.raises(Stopped) as stopped:
        hand.deliver(AfterLooks(9, signal.SIGTERM))
    assert stopped.value.code == 143
    cursor = hand.reader.cursor("hand").cursor
    assert cursor is not None and len(cursor.delivery.sending) > 0  # type: ignore[union-attr]
    (old,) = {mark.timestamp for mark in cursor.delivery.sending}  # type: ignore[union-attr]
    service.execute("UPDATE person SET name = 'y' WHERE id = 3")
    floodmark("run")
    hand.deliver()
    stamps = {mark.name: mark.timestamp for mark in hand.reader.cursor("hand").taken}
    assert stamps["person"] > old and stamps["visit"] == old  # type: ignore[operator]


def test_two_deliveries_of_one_name(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = delivering._Work._sent

    def sent(work: Any, table: Any) -> Any:
        monkeypatch.setattr(delivering._Work, "_sent", inner)
        assert "delivered" in hand.deliver().values()
        return inner(work, table)

    monkeypatch.setattr(delivering._Work, "_sent", sent)
    with pytest.raises(Conflict, match="another consumer moved it"):
        hand.deliver()
    assert set(hand.deliver().values()) == {"unchanged"}
    assert len(tables(hand.zone.new())["person"]) == 1500, "both wrote the same bytes to the same keys"


def test_another_form_and_old_age_send_again(hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deliver()
    first = hand.zone.new()
    kept = Hand(tmp_path, layout="plain", compression="keep")
    assert set(kept.deliver().values()) == {"delivered"}
    again = {key: data for key, data in kept.zone.new().items() if key not in first}
    assert {key.rsplit(".", 1)[1] for key in again} == {"gz"} and len(again) == len(first)
    assert sorted(map(igzip.decompress, again.values())) == sorted(first.values())
    assert min(key.split("/")[3] for key in again) > max(key.split("/")[3] for key in first)

    due = Hand(tmp_path, layout="plain", compression="keep", resend_after_days=0)
    due.zone.new()
    newest = max(key.split("/")[3] for key in again).removeprefix("extraction_timestamp=")
    until(lambda: datetime.now(UTC) > timestamp_moment(newest))  # a claimed second may lie a little ahead
    assert set(due.deliver().values()) == {"delivered"} and len(due.zone.new()) == len(first)


def test_another_name_of_the_database_is_another_key_for_every_table(hand: Hand) -> None:
    """A source was adopted whose database bears another name, which is in the keys unless one is configured."""
    hand.deliver()
    first = hand.zone.new()
    latest = hand.reader.latest()
    source = replace(latest.manifest.source, database="renamed")
    renamed = Snapshot(replace(latest.manifest, source=source), latest.data)
    deliver(renamed, hand.target, hand.reader.cursor("hand"), None, lambda one: None)
    came = hand.zone.new()
    assert {key.split("/")[1] for key in came} == {"database_name=renamed_public", "database_name=renamed_audit"}
    assert sorted(came.values()) == sorted(first.values())


def test_an_object_too_large_for_the_receiver(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is 5 GiB."""
    monkeypatch.setitem(LAYOUTS, "moj-landing", replace(MOJ_LANDING, max_object_bytes=10_000))
    assert hand.deliver()["public.person"] == "failed"
    assert set(tables(hand.zone.new())) == {"visit", "audit.an%20entry"}


class OnlyPuts:
    """A proxy before a real S3 server that refuses, in the zone's bucket, whatever is not a plain put below data/."""

    def __init__(self, proxy: S3Proxy, zone: str) -> None:
        self.proxy, self._zone = proxy, f"/{zone}/"
        proxy.always = self._judged

    def _judged(self, seen: Seen, forward: Forward) -> Answer | None:
        plain = not any(name.startswith("if-") for name in seen.headers) and "?" not in seen.path
        refused = self._is_there(seen) and not (seen.method == "PUT" and plain and "/landing/data/" in seen.path)
        return error(403, "AccessDenied")(seen, forward) if refused else forward(seen)

    def _is_there(self, seen: Seen) -> bool:
        return seen.path.startswith(self._zone)

    @property
    def there(self) -> list[Seen]:
        """What was asked of the zone, since the last look."""
        found = [seen for seen in self.proxy.seen if self._is_there(seen)]
        self.proxy.seen.clear()
        return found


def test_a_receiver_that_refuses_one_table_gets_the_others(
    floodmark: Floodmark, s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: Callable[[str], S3Proxy]
) -> None:
    name = f"moj-reg-deliver-{next(_numbers)}"
    bucket = S3Bucket(name, s3_server.make_bucket(name))
    proxy = make_proxy(s3_server.endpoint)
    floodmark.environment.update(environment(proxy.endpoint), FLOODMARK_DESTINATION=f"{s3_bucket.url}/lake")
    floodmark("run")

    def refuse(seen: Seen, forward: Forward) -> Answer | None:
        denied = seen.path.startswith(f"/{name}/") and "/table_name=person/" in unquote(seen.path)
        return error(403, "AccessDenied")(seen, forward) if denied else forward(seen)

    proxy.always = refuse
    to = ("deliver", "--to", f"s3://{name}/landing", "--output", "json")
    done = floodmark(*to, code=13)
    others = {"audit.an entry": "delivered", "public.nothing": "delivered", "public.visit": "delivered"}
    assert delivered(done) == {**others, "public.person": "failed"}
    assert " level=error event=table_failed " in done.err and " table=public.person why=" in done.err
    assert not [key for key in keys(bucket) if "/table_name=person/" in key]
    proxy.always = None
    assert delivered(floodmark(*to)) == {**dict.fromkeys(others, "unchanged"), "public.person": "delivered"}


def test_what_was_delivered_is_told_beside_the_delivery_that_could_not_be(
    floodmark: Floodmark, zone: Zone, tmp_path: Path
) -> None:
    (tmp_path / "wall").write_text("in the way")
    two = f"{{name: two, url: {zone.folder}, layout: moj-landing}}"
    floodmark.configure(f"{CHUNKS}deliver: [{{name: one, url: {tmp_path}/wall}}, {two}]\n")
    assert "a delivery failed" in floodmark.run(code=13).err
    done = floodmark("deliver", "--output", "json", code=13)
    assert set(delivered(done).values()) == {"unchanged"} and str(tmp_path / "wall") in done.err


def test_within_s3_only_puts_reach_the_target_and_the_store_copies_where_it_can(
    floodmark: Floodmark, s3_server: S3Server, s3_bucket: S3Bucket, make_proxy: Callable[[str], S3Proxy]
) -> None:
    name = f"moj-reg-deliver-{next(_numbers)}"
    bucket = S3Bucket(name, s3_server.make_bucket(name))
    zone = OnlyPuts(make_proxy(s3_server.endpoint), name)
    floodmark.environment.update(environment(zone.proxy.endpoint), FLOODMARK_DESTINATION=f"{s3_bucket.url}/lake")
    manifest = floodmark.run().manifest
    zone.proxy.seen.clear()
    floodmark("deliver", "--to", f"s3://{name}/landing")
    puts = zone.there
    assert len(puts) == sum(len(entry.objects) for entry in manifest.tables)
    for seen in puts:
        assert (
            seen.method == "PUT" and seen.headers["x-amz-checksum-sha256"] and "x-amz-copy-source" not in seen.headers
        )
        assert seen.headers["x-amz-acl"] == "bucket-owner-full-control"
        assert seen.headers["x-amz-server-side-encryption"] == "AES256"
    person = [content(bucket, key) for key in sorted(keys(bucket)) if "/table_name=person/" in key]
    assert b"".join(person).count(b"\n") == 1500

    floodmark("deliver", "--to", f"s3://{name}/landing/data/copies", "--layout", "plain")
    copies = zone.there
    assert [seen for seen in copies if "x-amz-copy-source" in seen.headers] and {seen.method for seen in copies} == {
        "PUT"
    }
    came = {key: content(bucket, key) for key in keys(bucket) if "/copies/" in key}
    lake = {content(s3_bucket, f"lake/{one.key}") for entry in manifest.tables for one in entry.objects}
    assert set(came.values()) == lake and len(came) == len(puts)
