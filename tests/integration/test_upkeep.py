"""verify and prune by the command line: a real PostgreSQL, a real S3, days of runs, and every kind of damage."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from isal import igzip
from msgspec.structs import replace

from fix_command import CHUNKS, Done, Floodmark, Landing, content, entry_of, held, keys, until
from fix_postgres import PgDatabase
from fix_s3_proxy import S3Proxy, error
from fix_storage import S3Bucket, S3Server, environment
from floodmark.cli.main import main
from floodmark.layout import timestamp_moment
from floodmark.prune.job import KeepLast
from floodmark.prune.job import prune_stores as prune_stores
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Head, Manifest, checksum, decode, encode
from floodmark.storage import StorageOptions, open_storage

SERVICE = """
CREATE TABLE person (id int PRIMARY KEY, name text, note text);
INSERT INTO person SELECT n, 'person ' || n, repeat(md5(n::text), 5) FROM generate_series(1, 3000) n;
CREATE TABLE "odd one" (id int, t text);
INSERT INTO "odd one" VALUES (1, 'x');
CREATE VIEW seen AS SELECT count(*) AS people FROM person;
CREATE TABLE nothing (id int);
"""
TABLES = CHUNKS + 'tables: {include: ["public.*", "public.seen"]}\n'


class Here(Floodmark):
    """The same command line without a process of its own for each command: most of the time would go into those."""

    def __init__(self, folder: Path, environment: dict[str, str], patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, environment)
        self._patch = patch

    def __call__(self, *arguments: str, code: int = 0, **named: Any) -> Done:
        for name, value in {**self.environment, **named.get("environment", {})}.items():
            self._patch.setenv(name, value)
        self._patch.chdir(self.folder)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            done = Done(main(arguments), *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]
        assert done.code == code, f"{arguments} ended with {done.code}, not {code}: {done.said}"
        assert "internal error" not in done.said
        return done


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute(SERVICE)
    return pg


@pytest.fixture
def local(service: PgDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Floodmark:
    places = {"FLOODMARK_SOURCE": service.url, "FLOODMARK_DESTINATION": "./landing"}
    made = Here(tmp_path / "job", places, monkeypatch)
    made.configure(TABLES)
    return made


@pytest.fixture
def remote(
    service: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Floodmark:
    places = {"FLOODMARK_SOURCE": service.url, "S3_DESTINATION": f"{s3_bucket.url}/lake/"}
    made = Here(tmp_path / "job", {**environment(s3_server.endpoint), **places}, monkeypatch)
    made.configure(TABLES)
    return made


def landing(floodmark: Floodmark) -> Landing:
    return Landing(floodmark.folder / "landing")


def verified(floodmark: Floodmark, *arguments: str, code: int = 0) -> Any:
    return floodmark("verify", "--output", "json", *arguments, code=code).json


def codes(report: Any) -> dict[str, list[str]]:
    """What is wrong with each table that is not as it should be."""
    return {
        one["name"]: [problem["code"] for problem in one["problems"]] for one in report["tables"] if one["problems"]
    }


def mend(floodmark: Floodmark, report: Any) -> None:
    """Type exactly what the report says."""
    for command in report["mend"]:
        words = shlex.split(command)
        assert words[0] == "floodmark"
        floodmark(*words[1:])


# Verify


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def other_lines(data: bytes) -> bytes:
    return igzip.compress(igzip.decompress(data).replace(b"person", b"pirate"))


DAMAGES: list[tuple[str, Callable[[bytes], bytes | None], str | None, str]] = [
    ("gone", lambda data: None, "missing", "missing"),
    ("cut off", lambda data: data[:-9], "wrong_size", "wrong_size"),
    ("longer", lambda data: data + b"\0", "wrong_size", "wrong_size"),
    ("a bit flipped", flipped, None, "wrong_checksum"),
]


def test_every_kind_of_damage_is_found_and_a_full_run_mends_it(local: Floodmark) -> None:
    local.run()
    for level in ([], ["--deep"], ["--deep", "--against-source"]):
        report = verified(local, *level)
        assert report["ok"] and not codes(report) and len(report["tables"]) == 4
    for number, (what, damage, shallow, deep) in enumerate(DAMAGES):
        objects = entry_of(landing(local).manifest, "public.person").objects
        path = landing(local).folder / objects[number % len(objects)].key
        data = damage(path.read_bytes())
        path.unlink() if data is None else path.write_bytes(data)
        found = verified(local, code=0 if shallow is None else 14)
        assert codes(found) == ({} if shallow is None else {"person": [shallow]}), what
        found = verified(local, "--deep", code=14)
        assert codes(found) == {"person": [deep]}, what
        told = local("verify", "--deep", code=14)
        assert "public.person" in told.err and "floodmark run --table public.person --full" in told.err
        assert objects[number % len(objects)].key in told.out
        mend(local, found)
        assert verified(local, "--deep")["ok"]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_every_encoding_is_read_through(
    local: Floodmark, service: PgDatabase, file_format: str, compression: str
) -> None:
    """In CSV a line is not always a record: there is a header, and values hold line breaks and quotes."""
    service.execute("""UPDATE person SET note = E'a "quoted"\\nline, and\\r\\n another' WHERE id % 7 = 0""")
    local.configure(TABLES + f"destination: {{format: {file_format}, compression: {compression}}}\n")
    local.run()
    report = verified(local, "--deep", "--against-source")
    assert report["ok"] and all(one["source"]["same"] >= 1 for one in report["tables"])
    first = entry_of(landing(local).manifest, "public.person").objects[0]
    path = landing(local).folder / first.key
    path.write_bytes(flipped(path.read_bytes()))
    assert codes(verified(local, "--deep", code=14)) == {"person": ["wrong_checksum"]}


def rewritten(place: Landing, change: Callable[[Any], Any]) -> None:
    """A manifest that a defect wrote: whole, and named by head, but not true."""
    state = place.folder / "_floodmark"
    head = decode(Head, (state / "head.json").read_bytes(), "head")
    manifest = decode(Manifest, (state / head.manifest).read_bytes(), "manifest")
    tables = tuple(change(one) if one.name == "person" else one for one in manifest.tables)
    data = encode(replace(manifest, tables=tables))
    (state / head.manifest).write_bytes(data)
    (state / "head.json").write_bytes(encode(replace(head, manifest_sha256=hashlib.sha256(data).hexdigest())))


def test_content_that_is_not_what_the_database_gave_is_found(local: Floodmark) -> None:
    """Lines that were wrong when they were written: every checksum agrees, and only the database knows better."""
    local.run()

    def wrong(entry: Any) -> Any:
        first, *rest = entry.objects
        path = landing(local).folder / first.key
        stored = other_lines(path.read_bytes())
        path.write_bytes(stored)
        raw = igzip.decompress(stored)
        first = replace(
            first,
            stored_bytes=len(stored),
            sha256=hashlib.sha256(stored).hexdigest(),
            content_sha256=hashlib.sha256(raw).hexdigest(),
        )
        objects = (first, *rest)
        total = sum(one.stored_bytes for one in objects)
        return replace(entry, objects=objects, checksum=checksum(objects), stored_bytes=total)

    rewritten(landing(local), wrong)
    assert verified(local, "--deep")["ok"]
    found = verified(local, "--against-source", code=14)
    assert codes(found) == {"person": ["differs_from_source"]}
    mend(local, found)
    assert verified(local, "--deep", "--against-source")["ok"]


def test_a_database_that_moved_on_is_no_fault(local: Floodmark, service: PgDatabase) -> None:
    local.run()
    chunks = len(entry_of(landing(local).manifest, "public.person").objects)
    service.execute("UPDATE person SET note = 'new' WHERE id = 1500")
    service.execute('INSERT INTO nothing VALUES (1); DROP TABLE "odd one"')
    report = verified(local, "--against-source")
    assert report["ok"]
    of = {one["name"]: one["source"] for one in report["tables"]}
    assert of["person"]["same"] >= chunks - 2 and 1 <= of["person"]["changed"] <= 2 and not of["person"]["wrong"]
    assert (
        of["nothing"]["changed"] == 1 and of["odd one"]["unread"] == 1 and "not in the source" in of["odd one"]["why"]
    )
    assert of["seen"] == {"same": 1, "changed": 0, "wrong": 0, "unread": 0, "why": None}
    service.execute("DELETE FROM person WHERE id = 1")
    assert {one["name"]: one["source"] for one in verified(local, "--against-source")["tables"]}["seen"]["changed"] == 1


def test_a_manifest_that_contradicts_itself_is_found(local: Floodmark) -> None:
    local.run()
    rewritten(landing(local), lambda entry: replace(entry, rows=entry.rows + 1, objects=entry.objects[:-1]))
    found = verified(local, "--table", "public.person", code=14)
    assert set(codes(found)["person"]) == {"inconsistent"} and len(codes(found)["person"]) >= 4
    assert verified(local, "--table", "public.seen")["ok"]
    assert "matches no table" in local("verify", "--table", "public.persons", code=10).err


def test_a_state_that_is_damaged_is_not_called_wrong_but_damaged(local: Floodmark) -> None:
    first, second = local.run().manifest, local.run().manifest
    state = landing(local).folder / "_floodmark"
    older, current = (state / f"manifests/{one.run_id}.json" for one in (first, second))
    assert verified(local, first.run_id)["run_id"] == first.run_id
    for path in (older, current, state / "head.json"):
        data = path.read_bytes()
        path.write_bytes(data[:-20])
        assert path.name in local("verify", code=13).err
        if path != state / "head.json":
            path.unlink()
            assert path.name in local("verify", code=13).err
        path.write_bytes(data)
    assert verified(local)["manifests"] == 2
    for command in ("verify", "show"):
        for wanted in ("20200101T000000Z-abcdef", "no id"):
            assert "floodmark history" in local(command, wanted, code=2).err
        assert "several runs begin so" in local(command, "2", code=2).err
    assert verified(local, first.run_id[:-1])["run_id"] == first.run_id
    assert local("show", first.run_id[:-1], "--output", "json").manifest == first


def test_what_a_receiver_moved_away_can_only_be_compared_with_the_database(
    service: PgDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"FLOODMARK_SOURCE": service.url, "FLOODMARK_DESTINATION": "./landing", "FLOODMARK_STATE": "./state"}
    zone = Here(tmp_path / "job", places, monkeypatch)
    zone.configure(CHUNKS + "destination: {layout: moj-landing}\n")
    zone.run()
    for path in (zone.folder / "landing" / "data").rglob("*.jsonl"):
        path.unlink()
    refused = zone("verify", code=10)
    assert "moj-landing" in refused.err and "moves each object away" in refused.err
    report = verified(zone, "--against-source")
    assert report["ok"] and report["level"] == "manifest"
    assert all(one["source"]["same"] >= 1 for one in report["tables"])
    zone.run("--full")
    done = zone("prune", "--keep-last", "1", "--grace", "0", "--output", "json").json
    assert (
        len(done["cut"]) == 1 and done["data_left_to_receiver"] and verified(zone, "--against-source")["manifests"] == 1
    )


# Prune


def data(bucket: S3Bucket) -> set[str]:
    return {key.removeprefix("lake/") for key in keys(bucket) if key.startswith("lake/data/")}


def named(bucket: S3Bucket) -> set[str]:
    """What the current manifest names."""
    head = decode(Head, content(bucket, "lake/_floodmark/head.json"), "head")
    manifest = decode(Manifest, content(bucket, f"lake/_floodmark/{head.manifest}"), "manifest")
    return {one.key for entry in manifest.tables for one in entry.objects}


def pruned(floodmark: Floodmark, *arguments: str, code: int = 0) -> Any:
    return floodmark("prune", "--output", "json", *arguments, code=code).json


def test_days_of_runs_and_then_a_prune(remote: Floodmark, s3_bucket: S3Bucket, service: PgDatabase) -> None:
    assert "no head.json is there" in remote("prune", "--keep-last", "1", code=13).err
    runs = []
    for day in range(4):
        service.execute("UPDATE person SET note = %s WHERE id = %s", [f"day {day}", 1 + 900 * day])
        runs.append(remote.run().manifest.run_id)
    assert verified(remote, "--deep")["manifests"] == 4
    before, first = keys(s3_bucket), data(s3_bucket)

    time.sleep(1)  # grace counts whole seconds: the last commit must be in the past
    told = pruned(remote, "--keep-last", "2", "--grace", "0", "--dry-run")
    assert keys(s3_bucket) == before and told["cut"] == runs[1::-1] and told["kept"] == runs[:1:-1]
    assert pruned(remote, "--keep-last", "2")["cut"] == []  # all of them were current a moment ago
    assert keys(s3_bucket) == before
    done = pruned(remote, "--keep-last", "2", "--grace", "0")
    assert {**done, "dry_run": True, "grace_until": ""} == {**told, "grace_until": ""}
    assert first - data(s3_bucket) == set(done["objects"]) and done["objects"]
    history = remote("history", "--output", "json").json["runs"]
    assert [one["run_id"] for one in history] == done["kept"]
    assert verified(remote, "--deep")["manifests"] == 2
    for command in ("verify", "show"):
        assert "history holds no such run" in remote(command, runs[0], code=2).err

    assert set(remote.run().outcomes.values()) <= {("unchanged", "unchanged"), ("unchanged", "identical")}
    pruned(remote, "--keep-days", "1", "--grace", "0")
    text = remote("prune", "--keep-last", "1", "--grace", "0").out
    assert "out of reach, 1 kept; deleted" in text
    assert data(s3_bucket) == named(s3_bucket) and verified(remote, "--deep")["ok"]


def test_what_a_killed_run_put_goes_when_it_is_old(
    remote: Floodmark, s3_bucket: S3Bucket, service: PgDatabase, tmp_path: Path
) -> None:
    """A run is killed while a table is locked; the others were put by then, and nothing names them but its progress."""
    remote.run()
    before = data(s3_bucket)
    with psycopg.connect(service.dsn) as other:
        held(other, "nothing")
        process = remote.start("run", "--full")
        until(lambda: len(data(s3_bucket)) > len(before), patience=120)
        process.kill()
        process.communicate()
    left = data(s3_bucket) - before
    before_year, _, rest = next(iter(left)).partition("extraction_timestamp=")
    foreign = f"{before_year}extraction_timestamp={int(rest[:4]) - 1}{rest[4:]}"
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=f"lake/{foreign}", Body=b"another state's")
    assert not pruned(remote, "--keep-last", "1", "--grace", "0")["objects"], "the next run continues from them"
    state, lake = (open_storage(f"{s3_bucket.url}/lake{place}", StorageOptions()) for place in ("/_floodmark", ""))
    done = prune_stores(Ledger(state), lake, KeepLast(1), datetime.now(UTC) + timedelta(days=8), timedelta(days=7))
    assert done is not None and set(done.objects) == left and len(done.progress) == 1
    assert done.unknown == (foreign,) and data(s3_bucket) == before | {foreign}
    assert verified(remote, "--deep")["ok"]
    assert set(remote.run().outcomes.values()) <= {("unchanged", "unchanged"), ("unchanged", "identical")}


def test_a_date_before_which_no_data_is_left(remote: Floodmark, s3_bucket: S3Bucket, service: PgDatabase) -> None:
    remote.run()
    service.execute("DELETE FROM person WHERE id = 7")
    second = remote.run().manifest
    old = data(s3_bucket)
    date = (timestamp_moment(second.timestamp) + timedelta(seconds=1)).isoformat()
    until(lambda: datetime.now(UTC) > datetime.fromisoformat(date))  # a claimed second may lie ahead
    told = remote("prune", "--erase-before", date, "--grace", "0")
    assert "public.odd one: 1 object from before the date" in told.out
    assert """floodmark run --table 'public."odd one"' --full""" in told.out and "versioning" in told.out
    assert data(s3_bucket) == named(s3_bucket) < old
    for one in pruned(remote, "--erase-before", date, "--grace", "0", "--dry-run")["remains"]:
        remote(*shlex.split(one["command"])[1:])
    waiting = pruned(remote, "--erase-before", date)
    assert waiting["in_reach_still"] and not waiting["objects"]
    done = remote("prune", "--erase-before", date, "--grace", "0")
    assert "no data extracted before" in done.out
    assert not data(s3_bucket) & old and data(s3_bucket) == named(s3_bucket)
    assert verified(remote, "--deep")["ok"]
    assert "future" in remote("prune", "--erase-before", "2999-01-01", code=2).err


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_right_that_prune_lacks_is_named_and_nothing_is_lost(
    remote: Floodmark, s3_bucket: S3Bucket, s3_server: S3Server, make_proxy: Callable[[str], S3Proxy], method: str
) -> None:
    remote.run()
    remote.run("--full")
    before = data(s3_bucket)
    proxy = make_proxy(s3_server.endpoint)

    def refuse(seen: Any, forward: Any) -> Any:
        denied = seen.method == method and (method == "DELETE" or "list-type" in seen.path)
        return error(403, "AccessDenied")(seen, forward) if denied else forward(seen)

    proxy.always = refuse
    there = {"environment": {"AWS_ENDPOINT_URL_S3": proxy.endpoint}}
    refused = remote("prune", "--keep-last", "1", "--grace", "0", code=13, **there)
    assert {"GET": "s3:ListBucket", "DELETE": "s3:DeleteObject"}[method] in refused.err
    assert data(s3_bucket) == before
    assert verified(remote)["ok"]
    pruned(remote, "--keep-last", "1", "--grace", "0")
    assert data(s3_bucket) == named(s3_bucket)


KILLED_PUT = """
import hashlib, io, os, signal, sys
from pathlib import Path
from floodmark.storage.base import Body
from floodmark.storage.local import LocalStorage
class Cut(io.BytesIO):
    def read(self, amount=-1):
        if self.tell() > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(3)
LocalStorage(Path(sys.argv[1])).put(sys.argv[2], Body(Cut(b"whole"), 5, hashlib.sha256(b"whole").hexdigest()))
"""


def killed_put(folder: Path, key: str) -> Path:
    """What a put leaves in the folder that was killed midway."""
    before = set(folder.rglob(".floodmark-*"))
    done = subprocess.run([sys.executable, "-c", KILLED_PUT, str(folder), key])
    assert done.returncode == -signal.SIGKILL
    (left,) = set(folder.rglob(".floodmark-*")) - before - {folder / ".floodmark-lock"}
    return left


def aged(path: Path, span: timedelta) -> Path:
    moment = (datetime.now(UTC) - span).timestamp()
    os.utime(path, (moment, moment))
    return path


def test_prune_sweeps_what_killed_puts_left_in_folders_once_it_is_old(local: Floodmark, service: PgDatabase) -> None:
    local.run()
    folder = local.folder / "landing"
    key = next(iter(entry_of(landing(local).manifest, "public.person").objects)).key
    before = landing(local).files
    old = [aged(killed_put(folder, place), timedelta(days=8)) for place in (f"{key}x", "data/gone/x", "x")]
    old.append(aged(killed_put(folder / "_floodmark", "manifests/x.json"), timedelta(days=8)))
    young = aged(killed_put(folder, f"{key}y"), timedelta(days=6))
    others = [folder / ".floodmark-notes", folder / f".floodmark-{'g' * 32}", folder / f"x.floodmark-{'0' * 32}"]
    for path in others:
        path.touch()
        aged(path, timedelta(days=80))
    told = local("prune", "--keep-last", "9", "--dry-run", "--output", "json").json
    assert told["unfinished"] == sorted(map(str, old)) and all(path.exists() for path in old)
    assert "4 temporary files of killed writes would be deleted" in local("prune", "--keep-last", "9", "--dry-run").out
    assert "4 temporary files of killed writes deleted" in local("prune", "--keep-last", "9").out
    assert not any(path.exists() for path in old) and not (folder / "data/gone").exists()
    assert young.exists() and all(path.exists() for path in others)
    assert local("prune", "--keep-last", "9", "--output", "json").json["unfinished"] == []
    for path in (young, *others):
        assert aged(path, timedelta(minutes=50)).exists()
    assert local("prune", "--keep-last", "9", "--grace", "0", "--output", "json").json["unfinished"] == []
    aged(young, timedelta(minutes=70))
    assert local("prune", "--keep-last", "9", "--grace", "0", "--output", "json").json["unfinished"] == [str(young)]
    assert not young.exists()
    data = {name: held for name, held in landing(local).files.items() if name.endswith(".gz")}
    assert data == {name: held for name, held in before.items() if name.endswith(".gz")}
