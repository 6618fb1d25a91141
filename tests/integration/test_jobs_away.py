"""`verify --deep`, `deliver` and `load` on an engine that sends their work away: same results, no row on the wire."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from isal import igzip
from pyiceberg.manifest import DataFile

from fix_canaries import CANARY, ROW, require_none
from fix_cli import command_streams
from fix_dask import require_dask
from fix_engine import PickledThreads
from fix_iceberg import NAMESPACE, Warehouse
from fix_ports import own_port
from fix_runs import Nightly
from fix_storage import ACCESS_KEY, REGION, SECRET_KEY, S3Bucket
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.output.failure import report
from floodmark.config import DeliverySettings
from floodmark.deliver.job import Result, deliver, open_target
from floodmark.engine.base import Engine, WorkerWatch
from floodmark.engine.local import LocalThreads
from floodmark.errors import ConfigError, DoesNotFit, FloodmarkError, Stopped, VerificationFailed
from floodmark.events import ChunkProgress, ignore_event
from floodmark.load import chunk_files
from floodmark.load.iceberg import IcebergNamespace
from floodmark.load.job import LoadOptions, LoadResult, load
from floodmark.load.parquet import ParquetPlace
from floodmark.load.target import LoadTarget, LoadWatch
from floodmark.reader.reader import Snapshot, open_data
from floodmark.reader.reader import open as open_landed
from floodmark.state.consumers import ParquetIndex
from floodmark.state.documents import Documents
from floodmark.stop import Stop
from floodmark.storage.local import LocalStorage
from floodmark.verify import objects
from floodmark.verify.job import VerifyRequest, verify
from floodmark.verify.report import VerifyReport

SERVICE = f"""
    CREATE TABLE person (id int, small smallint, name text, born date, paid numeric(9,2), seen timestamp)
        WITH (autovacuum_enabled = off);
    INSERT INTO person SELECT n, n, '{ROW} ' || n || repeat('x', 200), '2000-01-01', n FROM generate_series(1, 1500) n;
    CREATE TABLE visit (id int, note text); INSERT INTO visit VALUES (1, '{ROW}')"""


class Lake:
    """A night's landed tables, and the jobs that read them."""

    def __init__(self, nightly: Nightly) -> None:
        self._nightly, self._data = nightly, str(nightly.folder)
        nightly.database.execute(SERVICE)
        nightly.run()

    def night(self, sql: str) -> None:
        self._nightly.database.execute(sql)
        self._nightly.run()

    @property
    def url(self) -> str:
        return str(self._nightly.folder)

    @property
    def snapshot(self) -> Snapshot:
        return open_landed(self._nightly.folder).latest()

    @property
    def objects(self) -> list[Path]:
        """The person's objects, in order."""
        return [self._nightly.folder / one.key for one in self.snapshot["public.person"].objects]

    def verified(self, engine: Engine, stop: Stop | None = None) -> VerifyReport:
        report = verify(self._nightly.settings(), VerifyRequest(deep=True), ignore_event, stop or Stop(), engine)
        assert report is not None
        return report

    def copied_to(self, bucket: S3Bucket) -> None:
        """Read the objects in S3 from now on."""
        self._data = f"{bucket.url}/lake"
        for path in (self._nightly.folder / "data").rglob("*.gz"):
            key = path.relative_to(self._nightly.folder).as_posix()
            bucket.client.put_object(Bucket=bucket.name, Key=f"lake/{key}", Body=path.read_bytes())

    def delivered(self, to: DeliverySettings, engine: Engine) -> Result:
        reader = open_landed(self._data, state=self._nightly.folder / "_floodmark")
        target = open_target(to, ignore_event)
        cursor = reader.cursor(target.name)
        return deliver(reader.latest(), target, cursor, None, lambda one: None, engine=engine)

    def loaded(self, target: LoadTarget, engine: Engine, stop: Stop | None = None, **options: Any) -> LoadResult:
        watch = LoadWatch(stop=stop or Stop(), engine=engine)
        return load(self.snapshot, target, LoadOptions(**options), lambda one: None, watch)


@pytest.fixture
def lake(nightly: Nightly) -> Lake:
    return Lake(nightly)


@pytest.fixture
def engine() -> PickledThreads:
    return PickledThreads()


def require_clean(engine: PickledThreads, messages: int) -> None:
    """As many messages were sent, and neither a row nor a credential is in one or in an answer."""
    assert len(engine.sent) == messages
    for one in (*engine.sent, *engine.returned):
        require_none(one)
        assert SECRET_KEY.encode() not in one and ACCESS_KEY.encode() + b"\x94" not in one


def again(engine: PickledThreads) -> None:
    """Do every task once more, as a cluster can do after it believed a worker dead."""
    for one in engine.sent:
        function, shared, message = pickle.loads(one)
        function(shared, message, WorkerWatch(ignore_event, Stop()))


def keys_in(bucket: S3Bucket, prefix: str) -> list[str]:
    return [one["Key"] for one in bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix)["Contents"]]


def test_objects_are_verified_away(lake: Lake, engine: PickledThreads) -> None:
    events = list[Any]()
    observed = PickledThreads(observer=events.append)
    number = len(lake.objects) + 1
    assert lake.verified(observed).faulty_tables == () and number > 4
    require_clean(observed, number)
    finished = [event for event in events if isinstance(event, ChunkProgress) and event.finished]
    assert len(finished) == number and all(event.done_bytes for event in finished), "progress comes back"
    first, second, third, *_ = lake.objects
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"!")
    third.write_bytes(igzip.compress(f"{CANARY}\n".encode()))
    report = lake.verified(engine)
    assert report.tables == lake.verified(LocalThreads(2)).tables and len(report.tables[0].problems) == 3
    require_clean(engine, number)
    stop = Stop()
    stop.ask(15)
    with pytest.raises(Stopped, match="stopped"):
        lake.verified(engine, stop)


def test_a_worker_that_reads_another_place_is_no_fault_of_the_objects(
    lake: Lake, engine: PickledThreads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(objects, "kept_storage", lambda url: LocalStorage(tmp_path / "another"))
    with pytest.raises(ConfigError, match="a worker can't read what this process can read"):
        lake.verified(engine)


def test_a_delivery_is_verified_and_put_away(lake: Lake, engine: PickledThreads, s3_bucket: S3Bucket) -> None:
    number = len(lake.objects)
    lake.copied_to(s3_bucket)
    to = {where: DeliverySettings(f"{s3_bucket.url}/{where}", compression="none") for where in ("away", "here")}
    results = [lake.delivered(to["away"], engine), lake.delivered(to["here"], LocalThreads(4))]
    require_clean(engine, number + number + 1)
    again(engine)
    found = {}
    for where, result in zip(to, results, strict=True):
        keys = [key for table in result.tables for key in table.keys]
        assert {f"{where}/{key}" for key in keys} == set(keys_in(s3_bucket, where))
        found[where] = [
            s3_bucket.client.get_object(Bucket=s3_bucket.name, Key=f"{where}/{key}")["Body"].read() for key in keys
        ]
    assert found["away"] == found["here"]
    assert b"".join(found["here"][:-1]).count(b"\n") == 1500
    assert all(one.status == "unchanged" for one in lake.delivered(to["away"], engine).tables)


def test_nothing_of_a_damaged_table_is_delivered(lake: Lake, engine: PickledThreads, s3_bucket: S3Bucket) -> None:
    lake.objects[-1].write_bytes(b"damaged")
    lake.copied_to(s3_bucket)
    result = lake.delivered(DeliverySettings(f"{s3_bucket.url}/zone"), engine)
    (error,) = result.failures
    assert isinstance(error, VerificationFailed) and "does not match the manifest" in error.sentence
    (key,) = keys_in(s3_bucket, "zone/")
    assert "/table_name=visit/" in key


@pytest.mark.parametrize("layout", ["plain", "moj-landing"])
def test_only_this_machine_puts_where_a_late_put_would_count(
    lake: Lake, engine: PickledThreads, tmp_path: Path, layout: Any
) -> None:
    to = DeliverySettings(str(tmp_path / "zone"), layout=layout, database_name="a_service")
    assert all(one.status == "delivered" for one in lake.delivered(to, engine).tables)
    require_clean(engine, len(lake.objects))
    assert {pickle.loads(one)[0].__name__ for one in engine.sent} == {"verify_away"}


def index_of(url: str) -> ParquetIndex:
    found = Documents(open_data(url, ignore_event)).fetch(ParquetIndex, "_floodmark/parquet.json")
    assert found is not None
    return found[0]


def facts(index: ParquetIndex) -> list[tuple[Any, ...]]:
    """What the index says of each file, without the load's mark."""
    marked = re.compile(r"-\d{14}Z-[0-9a-f]{6}-")
    return [
        (table.name, table.rows, marked.sub("-", file.key), file.rows, file.stored_bytes, file.sha256)
        for table in index.tables
        for file in table.files
    ]


def test_parquet_files_are_written_away(lake: Lake, engine: PickledThreads, s3_bucket: S3Bucket) -> None:
    urls = [f"{s3_bucket.url}/{where}" for where in ("away", "here")]
    number = len(lake.objects) + 1
    for night in (1, 2):
        for url, chosen in zip(urls, (engine, LocalThreads(1)), strict=True):
            assert lake.loaded(ParquetPlace(url, ignore_event), chosen).failures == []
        assert facts(index_of(urls[0])) == facts(index_of(urls[1]))
        require_clean(engine, number)
        engine.sent.clear()
        number = 1
        if night == 1:
            lake.night("INSERT INTO person VALUES (0, 0, 'new')")
    before = index_of(urls[0])
    again(engine)
    store = open_data(urls[0], ignore_event)
    for file in (one for table in before.tables for one in table.files):
        stat = store.stat(file.key)
        assert stat is not None and (stat.size, stat.sha256) == (file.stored_bytes, file.sha256)


def test_files_that_a_worker_puts_elsewhere_are_never_published(
    lake: Lake, engine: PickledThreads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, elsewhere = str(tmp_path / "files"), LocalStorage(tmp_path / "another")
    monkeypatch.setattr(
        chunk_files, "kept_storage", lambda place: elsewhere if place == url else LocalStorage(Path(place))
    )
    failures = lake.loaded(ParquetPlace(url, ignore_event), engine).failures
    assert len(failures) == 2 and all("a worker writes to another place" in error.sentence for error in failures)
    assert open_data(url, ignore_event).stat("_floodmark/parquet.json") is None


def unfit(lake: Lake) -> None:
    """Two columns with values that do not fit, each in another chunk."""
    lake.night(
        "TRUNCATE person; INSERT INTO person SELECT n, n, repeat('x', 200), "
        "CASE n WHEN 20 THEN 'infinity' ELSE '2000-01-01' END::date, 0, "
        "CASE n WHEN 1480 THEN '-infinity' END::timestamp FROM generate_series(1, 1500) n"
    )


def warehouse_in(bucket: S3Bucket, name: str, folder: Path) -> Warehouse:
    endpoint = {"s3.endpoint": os.environ["AWS_ENDPOINT_URL_S3"], "s3.region": REGION}
    return Warehouse(folder / name, f"{bucket.url}/{name}", **endpoint)


def namespace(of: Warehouse) -> IcebergNamespace:
    return IcebergNamespace(NAMESPACE, ignore_event, catalog=of.options[1], warehouse=of.place)


def targets(bucket: S3Bucket, folder: Path) -> dict[str, Callable[[], LoadTarget]]:
    warehouse = warehouse_in(bucket, "warehouse", folder)
    return {
        "parquet": lambda: ParquetPlace(f"{bucket.url}/files", ignore_event),
        "iceberg": lambda: namespace(warehouse),
    }


@pytest.mark.parametrize("kind", ["parquet", "iceberg"])
def test_the_error_of_a_load_is_the_same(
    lake: Lake, engine: PickledThreads, s3_bucket: S3Bucket, tmp_path: Path, kind: str
) -> None:
    make = targets(s3_bucket, tmp_path)[kind]
    unfit(lake)
    (away,), (here,) = (lake.loaded(make(), one).failures for one in (engine, LocalThreads(1)))
    assert isinstance(away, DoesNotFit) and str(away) == str(here)
    assert away.columns == here.columns == ("born", "seen")  # type: ignore[attr-defined]
    stop = Stop()
    stop.ask(15)
    with pytest.raises(Stopped):
        lake.loaded(make(), engine, stop)
    lake.objects[1].write_bytes(b"damaged")
    (error,) = lake.loaded(make(), engine, text=("public.person.born", "public.person.seen")).failures
    assert isinstance(error, VerificationFailed)
    require_none(*engine.sent, *engine.returned)


def data_files(warehouse: Warehouse, name: str) -> list[tuple[Any, ...]]:
    def told(file: DataFile) -> tuple[Any, ...]:
        counts = (file.record_count, file.file_size_in_bytes, dict(file.value_counts), dict(file.null_value_counts))
        return (*counts, dict(file.lower_bounds), dict(file.upper_bounds), file.split_offsets)

    return sorted((told(task.file) for task in warehouse.table(name).scan().plan_files()), key=repr)


def test_iceberg_files_are_written_away(
    lake: Lake, engine: PickledThreads, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    warehouses = [warehouse_in(s3_bucket, name, tmp_path) for name in ("away", "here")]
    for warehouse, chosen in zip(warehouses, (engine, LocalThreads(1)), strict=True):
        assert lake.loaded(namespace(warehouse), chosen).failures == []
    require_clean(engine, len(lake.objects) + 1)
    again(engine)
    away, here = warehouses
    assert data_files(away, "person") == data_files(here, "person")
    assert all(bounds for *_, bounds, _, _ in data_files(away, "person"))
    assert away.rows("person") == here.rows("person") and len(away.rows("person")) == 1500
    assert away.rows("visit") == [(1, ROW)]


def test_a_catalog_with_credentials_of_its_own_keeps_them(
    lake: Lake, engine: PickledThreads, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__OWN__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__OWN__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__OWN__S3__ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("PYICEBERG_CATALOG__OWN__S3__SECRET_ACCESS_KEY", SECRET_KEY)
    target = IcebergNamespace(NAMESPACE, ignore_event, catalog="own", warehouse=f"{s3_bucket.url}/own")
    assert lake.loaded(target, engine).failures == [] and engine.sent == []


def test_a_lost_worker_s_files_are_known(lake: Lake, s3_bucket: S3Bucket) -> None:
    """A load that is given up deletes what any worker put, and a worker that is late finds its file or puts it."""

    class Losing(PickledThreads):
        def run_tasks(self, work: Any, tasks: Any, away: Any = None) -> Any:
            for number, (task, outcome) in enumerate(super().run_tasks(work, tasks, away)):
                yield task, outcome if number < 2 else Stopped(15)

    url = f"{s3_bucket.url}/files"
    with pytest.raises(Stopped):
        lake.loaded(ParquetPlace(url, ignore_event), Losing(1))
    assert list(open_data(url, ignore_event).list("")) == []


def test_which_commands_can_use_a_cluster(lake: Lake, tmp_path: Path) -> None:
    """A setting for the runs is no obstacle for a target that can't use it. An option that can't be followed is."""
    require_dask()
    nowhere = f"dask://127.0.0.1:{own_port()}"

    def command(*arguments: str, **environ: str) -> tuple[int, str]:
        streams, _, err = command_streams({"FLOODMARK_DESTINATION": lake.url, **environ})
        try:
            return call(parse(arguments), streams), err.getvalue()
        except FloodmarkError as error:
            return report(error, streams), err.getvalue()

    duckdb, parquet = (("load", "--into", f"{kind}:{tmp_path}/{kind}") for kind in ("duckdb", "parquet"))
    assert command(*duckdb, FLOODMARK_ENGINE=nowhere)[0] == 0
    assert command("verify", FLOODMARK_ENGINE=nowhere)[0] == 0
    for refused, why in ((duckdb, "--engine needs --into parquet:URL"), (("verify",), "--engine needs --deep")):
        code, said = command(*refused, "--engine", nowhere)
        assert code == 2 and why in said
    for arguments in (parquet, ("verify", "--deep"), ("deliver", "--to", f"{tmp_path}/zone")):
        code, said = command(*arguments, FLOODMARK_ENGINE=nowhere)
        assert code == 16 and nowhere in said
