"""`verify --deep`, `deliver` and `load` on a real Dask cluster and a real S3, also when a worker dies."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fix_canaries import ROW, require_none
from fix_cli import command_streams
from fix_dask import DaskServers, require_dask
from fix_iceberg import INTO, Warehouse
from fix_storage import REGION, SECRET_KEY, S3Server, environment
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.output.failure import report
from floodmark.config import Flags
from floodmark.config import load as settings
from floodmark.engine.opening import open_engine
from floodmark.errors import FloodmarkError
from floodmark.events import ChunkProgress, Event, ignore_event
from floodmark.load.job import LoadOptions, load
from floodmark.load.parquet import ParquetPlace
from floodmark.load.target import LoadWatch
from floodmark.pipeline.job import run
from floodmark.reader.reader import open as open_landed
from floodmark.reader.reader import open_data

pytestmark = pytest.mark.xdist_group("jobs on dask")
ROWS, BUCKET = 3000, "jobs-on-dask"


class Service:
    """A lake in S3, and a recorded cluster of two workers that have the credentials for it."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.lake, self.folder = f"s3://{BUCKET}/lake", folder
        self.client = server.make_bucket(BUCKET)
        with sqlite3.connect(folder / "service.db") as connection:
            connection.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT)")
            rows = ((number, f"{ROW} {number} {'x' * 200}") for number in range(ROWS))
            connection.executemany("INSERT INTO person VALUES (?, ?)", rows)
        connection.close()
        (folder / "floodmark.yaml").write_text("chunk_size: 64KiB\n")
        flags = Flags(config=folder / "floodmark.yaml", destination=self.lake)
        run(settings(flags, {"FLOODMARK_SOURCE": f"sqlite:///{folder}/service.db"}))
        self.chunks = len(open_landed(self.lake).latest()["main.person"].objects)
        self.cluster = DaskServers(folder, record=True)
        for _ in range(2):
            self.cluster.add_worker(environment(server.endpoint), wait=False)
        for worker in self.cluster.workers:
            worker.wait_for("Registered to")

    def command(self, *arguments: str) -> tuple[int, Any]:
        """The exit code of a command on the cluster, and its JSON document."""
        streams, out, err = command_streams({"FLOODMARK_DESTINATION": self.lake})
        options = ("--engine", self.cluster.url, "--output", "json", "--log-format", "json")
        try:
            code = call(parse([*arguments, *options]), streams)
        except FloodmarkError as error:
            code = report(error, streams)
        require_none(err.getvalue())
        return code, json.loads(out.getvalue())

    def keys(self, prefix: str) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]

    def worked(self) -> int:
        """How many workers have put or read something. Everything that was sent is clean."""
        recorded = self.cluster.recorded
        require_none(recorded)
        assert SECRET_KEY.encode() not in recorded
        return recorded.count(b"carry_out")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Service]:
    require_dask()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(s3_server.endpoint).items():
            patch.setenv(name, value)
        made = Service(tmp_path_factory.mktemp("jobs"), s3_server)
        try:
            yield made
        finally:
            made.cluster.close()


def test_verify(service: Service) -> None:
    before = service.worked()
    code, found = service.command("verify", "--deep")
    assert code == 0 and found["ok"] and found["level"] == "content"
    assert service.worked() >= before + service.chunks


def test_deliver(service: Service) -> None:
    code, found = service.command("deliver", "--to", f"s3://{BUCKET}/zone")
    ((table,),) = [one["tables"] for one in found["deliveries"]]
    assert code == 0 and table["status"] == "delivered"
    assert [f"zone/{key}" for key in table["keys"]] == sorted(service.keys("zone/")) and len(table["keys"]) > 9
    assert service.worked() >= 2 * service.chunks


def test_load_into_iceberg(service: Service, tmp_path: Path) -> None:
    endpoint = {"s3.endpoint": service.client.meta.endpoint_url}
    warehouse = Warehouse(tmp_path / "w", f"s3://{BUCKET}/warehouse", **endpoint, **{"s3.region": REGION})
    before = service.worked()
    code, found = service.command("load", "--into", INTO, *warehouse.options)
    assert code == 0 and found["tables"][0]["status"] == "loaded"
    rows = warehouse.rows("person")
    assert len(rows) == ROWS and all(ROW in row[1] for row in rows)
    assert service.worked() >= before + service.chunks


def test_a_worker_dies_in_the_middle_of_a_load(service: Service) -> None:
    killed = list[bool]()

    def kill(event: Event) -> None:
        if isinstance(event, ChunkProgress) and not killed:
            killed.append(True)
            service.cluster.workers[0].kill()

    url = f"s3://{BUCKET}/files"
    snapshot = open_landed(service.lake).latest()
    with open_engine(service.cluster.url, ignore_event) as cluster:
        watch = LoadWatch(engine=cluster.engine(kill, 1))
        result = load(snapshot, ParquetPlace(url, ignore_event), LoadOptions(), lambda one: None, watch)
    assert result.failures == [] and killed
    index = json.loads(open_data(url, ignore_event).get("_floodmark/parquet.json").data)
    files = index["tables"][0]["files"]
    assert sum(file["rows"] for file in files) == ROWS
    assert [file["content_sha256"] for file in files] == [one.content_sha256 for one in snapshot["person"].objects]
    stored = {f"files/{file['key']}" for file in files}
    assert stored == {key for key in service.keys("files/") if key.endswith(".parquet")}, "nothing is left over"
    service.worked()
    code, found = service.command("load", "--into", f"parquet:{url}")
    assert code == 0 and found["tables"][0]["status"] == "unchanged"
