"""The receiver of a landing zone: moves each object away the moment it appears, and judges it.

`landing` is a bucket `moj-reg-…` on a real S3 server, its receiver at work, and a service whose credentials may do
nothing there but put below `landing/`. In a bucket of its own the service may read, write and delete objects. What the
server doesn't show of a put (its ACL) is judged in a proxy, through which the service sees S3.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from botocore.exceptions import ClientError
from msgspec import Struct

from fix_command import content, keys, until
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_s3_proxy import S3Proxy, Seen
from fix_storage import SERVICE, S3Bucket, S3Server, environment, grant
from floodmark.state.manifest import Manifest

PREFIX = "landing/"
MOST_BYTES = 5 * 1024**3 - 1
_KEY = re.compile(
    r"landing/(?P<service>(?:[\w-]+/)?)data/database_name=(?P<database>\w+_\w+)/table_name=(?P<table>[\w.%-]+)/"
    r"extraction_timestamp=(?P<timestamp>\d{14}Z)/(?P=table)-\d{5}\.(?:jsonl|csv)",
    re.ASCII,
)
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_numbers = itertools.count(1)


class Extraction(Struct, frozen=True, order=True):
    """What a receiver takes for one set of files: a table under a timestamp. `service` is what stands before data/."""

    service: str
    database: str
    table: str
    timestamp: str


class Receiver:
    """Takes all that comes to a bucket into another one, as long as it lives. `complaints` are what it would refuse."""

    def __init__(self, zone: S3Bucket, own: S3Bucket) -> None:
        self.zone, self._own = zone, own
        self.complaints: list[str] = []
        self.arrivals: list[str] = []
        self.broken: Exception | None = None
        self._taken: dict[str, bytes] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def held(self) -> dict[Extraction, dict[str, bytes]]:
        """The files of each extraction, by key, once nothing is left lying in the zone."""
        until(lambda: self.broken or not keys(self.zone))
        assert self.broken is None, self.broken
        assert self.complaints == []
        found: dict[Extraction, dict[str, bytes]] = {}
        for key, data in sorted(self._taken.items()):
            match = _KEY.fullmatch(key)
            assert match is not None
            found.setdefault(Extraction(**match.groupdict()), {})[key] = data
        return found

    def _watch(self) -> None:
        try:
            while not self._stop.wait(0.01):
                for key in keys(self.zone):
                    self._take(key)
        except Exception as error:
            self.broken = error

    def _take(self, key: str) -> None:
        client, name = self.zone.client, self.zone.name
        answer = client.get_object(Bucket=name, Key=key)
        data = answer["Body"].read()
        self.complaints += [f"{key}: {why}" for why in _judged(key, data, answer)]
        if self._taken.setdefault(key, data) != data:
            self.complaints.append(f"{key}: came again, and is another")
        client.copy_object(Bucket=self._own.name, Key=key, CopySource={"Bucket": name, "Key": key})
        self.arrivals.append(key)
        client.delete_object(Bucket=name, Key=key)


def _judged(key: str, data: bytes, answer: Any) -> Iterator[str]:
    """Why a receiver would refuse an object."""
    if _KEY.fullmatch(key) is None:
        yield "no key of a table's extraction"
    if not 0 < len(data) <= MOST_BYTES:
        yield f"{len(data)} bytes"
    if data.startswith(_COMPRESSED) or answer.get("ContentEncoding"):
        yield "compressed"
    elif not data.endswith(b"\n"):
        yield "ends within a line"
    else:
        yield from _unreadable_rows(key, data)
    if answer.get("ServerSideEncryption") != "AES256":
        yield "not encrypted as demanded"


def _unreadable_rows(key: str, data: bytes) -> Iterator[str]:
    try:
        if key.endswith(".csv"):
            head, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
            if not rows or {len(row) for row in rows} != {len(head)}:
                yield "no table of a head and rows"
        elif not all(isinstance(msgspec.json.decode(line), dict) for line in data.splitlines()):
            yield "a line is no JSON object"
    except (ValueError, csv.Error) as error:
        yield f"unreadable: {error}"


class LandingZone:
    """A zone, who takes from it, and what the service asked of it through `proxy`."""

    def __init__(self, zone: S3Bucket, own: S3Bucket, receiver: Receiver, proxy: S3Proxy) -> None:
        self.zone, self.own, self.receiver, self.proxy = zone, own, receiver, proxy
        self.url = f"{zone.url}/{PREFIX}"
        self.environment = environment(proxy.endpoint, *SERVICE)

    @property
    def requests(self) -> list[Seen]:
        """What was asked of the zone since the last look: it must have been puts alone, each as it is demanded."""
        found = [seen for seen in self.proxy.seen if seen.path.startswith(f"/{self.zone.name}")]
        self.proxy.seen.clear()
        for seen in found:
            assert seen.method == "PUT" and "?" not in seen.path, (seen.method, seen.path)
            assert unquote(seen.path).startswith(f"/{self.zone.name}/{PREFIX}")
            assert seen.headers["x-amz-acl"] == "bucket-owner-full-control"
            assert seen.headers["x-amz-server-side-encryption"] == "AES256"
            assert seen.headers["x-amz-checksum-sha256"] and not {"if-match", "if-none-match"} & set(seen.headers)
        return found


@pytest.fixture
def landing(s3_server: S3Server, make_proxy: Callable[[str], S3Proxy]) -> Iterator[LandingZone]:
    number = next(_numbers)
    names = f"moj-reg-zone-{number}", f"service-{number}", f"receiver-{number}"
    zone, own, taken = (S3Bucket(name, s3_server.make_bucket(name)) for name in names)
    grant(zone, PREFIX, "s3:PutObject")
    grant(own, "", "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    receiver = Receiver(zone, taken)
    yield LandingZone(zone, own, receiver, make_proxy(s3_server.endpoint))
    receiver.close()


def refused(ask: Callable[[], Any]) -> bool:
    """Whether S3 forbids a request."""
    try:
        ask()
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
        return True
    return False


def extractions(held: dict[Extraction, dict[str, bytes]]) -> dict[str, list[list[bytes]]]:
    """The lines of each extraction of each table, sorted; the earliest extraction first."""
    found: dict[str, list[list[bytes]]] = {}
    for extraction in sorted(held):
        lines = b"".join(held[extraction].values()).splitlines(keepends=True)
        found.setdefault(extraction.table, []).append(sorted(lines))
    return found


def truth(service: PgDatabase, manifest: Manifest) -> dict[str, list[bytes]]:
    """The lines of each table that has any, as the database holds them now."""
    found = {}
    for entry in manifest.tables:
        if entry.status != "dropped":
            segment = entry.table.label.removeprefix("public.").replace(" ", "%20")
            found[segment] = sorted(lines_of(service.dsn, f'"{entry.schema}"."{entry.name}"', entry))
    return {segment: lines for segment, lines in found.items() if lines}


def aged(bucket: S3Bucket, state: str, by: timedelta) -> None:
    """Rewrite what is committed as if all of it had been sent so much earlier."""
    put = partial(bucket.client.put_object, Bucket=bucket.name)
    head = json.loads(content(bucket, f"{state}/head.json"))

    def earlier(match: re.Match[str]) -> str:
        moment = datetime.strptime(match[1], "%Y%m%d%H%M%SZ") - by
        return f"extraction_timestamp={moment.strftime('%Y%m%d%H%M%SZ')}"

    key = f"{state}/{head['manifest']}"
    text = re.sub(r"extraction_timestamp=(\d{14}Z)", earlier, content(bucket, key).decode())
    put(Key=key, Body=text.encode())
    head["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    put(Key=f"{state}/head.json", Body=json.dumps(head).encode())
