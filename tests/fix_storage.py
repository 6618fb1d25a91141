"""Real S3 servers for tests: SeaweedFS, which honours conditions and checksums, and moto, a fake of AWS.

`s3_bucket` is a fresh bucket on a SeaweedFS that a worker shares, with the AWS_* environment set to it. There a second
set of credentials, `SERVICE`, may do nothing but what a bucket's policy grants: see `grant`.
`S3Server` serves programs without pytest as well:

    with S3Server() as server:
        os.environ.update(server.environment)
        server.make_bucket("demo")
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer
from msgspec import Struct

from fix_ports import HOST, own_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
else:
    S3Client = Any

REGION = "eu-west-2"
ACCESS_KEY = "floodmark"
SECRET_KEY = "not-a-secret-of-anyone"
# Who may do nothing but what a bucket grants.
SERVICE = ("service", "not-a-secret-of-a-service")
_SERVICE_ARN = "arn:aws:iam::000000000000:user/service"
_PATIENCE = 30.0  # seconds; about one is normal
_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc", "s3.port.iceberg"),
)
# All buckets in one collection of volumes, else each takes its first object only after 0.2 s.
_FILER_SETTINGS = b'{"version":1,"locations":[{"locationPrefix":"/buckets/","collection":"tests"}]}'
_SETTINGS = {
    "master.telemetry": "false",
    "master.volumeSizeLimitMB": 64,
    "volume.max": 10_000,
    "webdav": "false",
    "admin.ui": "false",
    "s3.port.lance": 0,
}
_IDENTITIES = [
    {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
    for name, (key, secret), actions in (
        ("all", (ACCESS_KEY, SECRET_KEY), ["Admin", "Read", "Write", "List", "Tagging"]),
        ("service", SERVICE, []),
    )
]
_OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_WEB_IDENTITY_TOKEN_FILE")
_numbers = itertools.count(1)

# Kills the server and removes its folder when its standard input ends: when we close it, or are gone.
_KEEPER = """
import shutil, subprocess, sys
with open(sys.argv[1] + "/log", "wb") as log:
    server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
sys.stdin.read()
server.kill()
server.wait()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def environment(endpoint: str, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> dict[str, str]:
    """What makes boto3 find this endpoint, and nothing of the machine's own configuration."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": HOST,
    }


@cache
def client(endpoint: str, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> S3Client:
    """A client that needs no environment, and does not try again."""
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    session = boto3.session.Session(key, secret, region_name=REGION)
    return session.client("s3", endpoint_url=endpoint, config=config)


def grant(bucket: S3Bucket, prefix: str, *actions: str, below: str = "*") -> None:
    """Let `SERVICE` do so much below a prefix, and nothing else in the bucket. Uploads in parts are refused what comes
    with no right to put on AWS: on SeaweedFS it does."""
    place = f"arn:aws:s3:::{bucket.name}"
    uploads = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"]
    statements = [
        {"Effect": "Allow", "Action": actions, "Resource": f"{place}/{prefix}{below}"},
        {"Effect": "Deny", "Action": uploads, "Resource": [place, f"{place}/*"]},
    ]
    given = [{"Principal": {"AWS": _SERVICE_ARN}, **one} for one in statements]
    bucket.client.put_bucket_policy(
        Bucket=bucket.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": given})
    )


def make_bucket(endpoint: str, name: str) -> S3Client:
    made = client(endpoint)
    made.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return made


class S3Server:
    """A SeaweedFS of its own on 127.0.0.1, in a temporary folder that goes with it."""

    def __init__(self) -> None:
        self._ports = {name: own_port() for name in _PORTS}
        self._folder = Path(tempfile.mkdtemp(prefix="floodmark-s3-"))
        (self._folder / "identities.json").write_text(json.dumps({"identities": _IDENTITIES}))
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, str(self._folder), *self._command()],
            stdin=subprocess.PIPE,
            env={},
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def iceberg(self) -> str:
        """The address of its Iceberg catalog, which speaks Iceberg's REST protocol."""
        return f"http://127.0.0.1:{self._ports['s3.port.iceberg']}"

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.endpoint)

    def make_bucket(self, name: str) -> S3Client:
        """A new bucket, and a client of one's own to look behind Floodmark's back."""
        return make_bucket(self.endpoint, name)

    def __enter__(self) -> S3Server:
        try:
            self._wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._keeper.communicate()
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        places = {"dir": self._folder, "s3.config": self._folder / "identities.json"}
        given = {**places, "ip": HOST, "ip.bind": HOST, **_SETTINGS, **self._ports}
        weed = Path(sys.executable).with_name("weed")
        return [str(weed), "mini", *(f"-{name}={value}" for name, value in given.items())]

    def _wait(self) -> None:
        """Until an object can be put: the S3 gateway answers before the volumes are there."""
        probe = client(self.endpoint)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                probe.put_object(Bucket="ready", Key="ready")
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline or self._keeper.poll() is not None:
                    raise RuntimeError(f"SeaweedFS does not start: {self._log()}") from None
                time.sleep(0.05)
            else:
                return self._configure()

    def _configure(self) -> None:
        url = f"http://{HOST}:{self._ports['filer.port']}/etc/seaweedfs/filer.conf"
        with urlopen(Request(url, data=_FILER_SETTINGS, method="PUT")) as answer:
            assert answer.status == 201

    def _log(self) -> str:
        return " / ".join((self._folder / "log").read_text(errors="replace").splitlines()[-5:])


class S3Bucket(Struct, frozen=True):
    """A bucket of a test's own; `client` looks behind Floodmark's back."""

    name: str
    client: S3Client

    @property
    def url(self) -> str:
        return f"s3://{self.name}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A fresh bucket on SeaweedFS; the environment points there until the test ends."""
    use(monkeypatch, s3_server.endpoint)
    name = f"test-{next(_numbers)}"
    return S3Bucket(name, s3_server.make_bucket(name))


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The endpoint of a moto server."""
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


# A moto of its own process, which ends with ours.
_MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address=sys.argv[1], port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def glue_server() -> Iterator[str]:
    """The endpoint of a Glue catalog: moto's, in a process of its own."""
    command = [sys.executable, "-c", _MOTO, HOST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as moto:
        assert moto.stdout is not None
        yield f"http://{HOST}:{int(moto.stdout.readline())}"


@pytest.fixture
def moto_bucket(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A fresh bucket on moto; the environment points there until the test ends."""
    use(monkeypatch, moto_server)
    name = f"test-{next(_numbers)}"
    return S3Bucket(name, make_bucket(moto_server, name))


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point the environment at an endpoint, and take away what else boto3 might listen to."""
    for name in _OTHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
