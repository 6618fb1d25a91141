"""`load` into Glue, cut off at any request, and two of them at once: each table stays whole, and the next load heals.

The files lie on a real S3 server, the catalog is moto's, in a process of its own. moto takes no notice of the version
that an UpdateTable names; the proxy before it refuses an old one as Amazon documents it.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from botocore.httpsession import URLLib3Session

import floodmark
from fix_command import Floodmark
from fix_load import FIRST, Job, unchanged
from fix_s3_proxy import Answer, Forward, S3Proxy, Seen, error, lost_answer, no_answer
from fix_storage import S3Bucket
from floodmark.errors import Stopped
from floodmark.events import ignore_event
from floodmark.load import parquet
from floodmark.load.glue import GlueDatabase
from floodmark.load.job import LoadedTable, LoadOptions, load
from floodmark.load.parquet import ParquetPlace
from floodmark.load.parquet_files import INDEX
from floodmark.load.target import LoadWatch
from floodmark.state.consumers import ParquetIndex
from floodmark.state.manifest import decode
from floodmark.stop import Stop

DAY_2 = """
    INSERT INTO big VALUES (0, 'new');
    ALTER TABLE person ADD COLUMN note text, DROP COLUMN born, ALTER COLUMN paid TYPE int;
    UPDATE person SET note = 'n' WHERE id = 1;
    DROP TABLE empty; CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (7)"""
ARROW_OF = {
    "bigint": "int64", "int": "int32", "string": "string", "date": "date32[day]",
    "timestamp": "timestamp[us, tz=UTC]", "decimal(10,2)": "decimal128(10, 2)",
}  # fmt: skip
_numbers = itertools.count(1)

Rows = list[tuple[Any, ...]]


class Lake:
    """A Glue database of its own, and the prefix its files go to."""

    def __init__(self, bucket: S3Bucket, endpoint: str) -> None:
        self.name = f"lake_{next(_numbers)}"
        self.bucket, self.into, self.place = bucket, f"glue:{self.name}", f"{bucket.url}/{self.name}"
        self.client = boto3.client("glue", endpoint_url=endpoint)
        self.client.create_database(DatabaseInput={"Name": self.name, "LocationUri": self.place})

    @property
    def tables(self) -> dict[str, Any]:
        return {one["Name"]: one for one in self.client.get_tables(DatabaseName=self.name)["TableList"]}

    def rows(self) -> dict[str, Rows]:
        """What Athena finds: of each table the rows of all files in its list, in the columns that the catalog has."""
        return {name: sorted(self._rows(table), key=repr) for name, table in self.tables.items()}

    def objects(self) -> set[str]:
        found = self.bucket.client.list_objects_v2(Bucket=self.bucket.name, Prefix=f"{self.name}/").get("Contents", [])
        return {one["Key"].removeprefix(f"{self.name}/") for one in found}

    def named(self) -> set[str]:
        """The index, what it names, and the list of each Glue table: all that a load has left when nothing died."""
        index = decode(ParquetIndex, self._object(f"{self.place}/{INDEX}"), "")
        files = {file.key for table in index.tables for file in table.files} | {one.key for one in index.superseded}
        lists = {f"{_location(table)}files.txt".removeprefix(f"{self.place}/") for table in self.tables.values()}
        return {INDEX} | files | lists

    def _rows(self, table: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        columns = [(one["Name"], ARROW_OF[one["Type"]]) for one in table["StorageDescriptor"]["Columns"]]
        for url in self._object(f"{_location(table)}files.txt").decode().splitlines():
            found = pq.read_table(io.BytesIO(self._object(url)))
            assert [(field.name, str(field.type)) for field in found.schema] == columns
            yield from (tuple(row.values()) for row in found.to_pylist())

    def _object(self, url: str) -> bytes:
        key = url.removeprefix(f"{self.bucket.url}/")
        return self.bucket.client.get_object(Bucket=self.bucket.name, Key=key)["Body"].read()


def _location(table: dict[str, Any]) -> str:
    return str(table["StorageDescriptor"]["Location"])


class Catalog:
    """The proxy before Glue. `meets` is called with each request's action, and gives what happens to it."""

    def __init__(self, proxy: S3Proxy) -> None:
        self.endpoint = proxy.endpoint
        self.asked: list[str] = []
        self.meets: Callable[[str], Callable[[Seen, Forward], Answer | None] | None] = lambda action: None
        proxy.always = self._handle

    def _handle(self, seen: Seen, forward: Forward) -> Answer | None:
        action = seen.headers["x-amz-target"].removeprefix("AWSGlue.")
        self.asked.append(action)
        fault = self.meets(action)
        return (
            self._versioned(seen, forward) if fault is None else fault(seen, lambda one: self._versioned(one, forward))
        )

    @staticmethod
    def _versioned(seen: Seen, forward: Forward) -> Answer:
        if seen.headers["x-amz-target"] == "AWSGlue.UpdateTable":
            asked = json.loads(seen.body)
            look = json.dumps({"DatabaseName": asked["DatabaseName"], "Name": asked["TableInput"]["Name"]}).encode()
            head = {**seen.headers, "x-amz-target": "AWSGlue.GetTable", "content-length": str(len(look))}
            there = json.loads(forward(Seen(seen.method, seen.path, head, look)).body)
            if asked.get("VersionId") not in (None, there["Table"]["VersionId"]):
                text = b'{"__type": "ConcurrentModificationException", "Message": "CANARY"}'
                head = {"content-type": "application/x-amz-json-1.1", "content-length": str(len(text))}
                return Answer(400, head, text)
        return forward(seen)


def once(action: str, do: Callable[[Seen, Forward], Answer | None]) -> Callable[[str], Any]:
    """What meets the first request of a kind."""
    faults = [do]
    return lambda asked: faults.pop() if asked == action and faults else None


def refusal(code: str, table: str | None = None) -> Callable[[Seen, Forward], Answer]:
    """The catalog refuses to write a table, or any."""
    text = f'{{"__type": "{code}", "Message": "CANARY"}}'.encode()
    head = {"content-type": "application/x-amz-json-1.1", "content-length": str(len(text))}

    def answer(seen: Seen, forward: Forward) -> Answer:
        asked = json.loads(seen.body)
        name = asked.get("TableInput", asked).get("Name")
        return Answer(400, head, text) if table in (None, name) else forward(seen)

    return answer


WRITES = ("CreateTable", "UpdateTable", "DeleteTable")


@pytest.fixture
def catalog(
    glue_server: str, make_proxy: Callable[[str], S3Proxy], monkeypatch: pytest.MonkeyPatch, s3_bucket: S3Bucket
) -> Catalog:
    made = Catalog(make_proxy(glue_server))
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", made.endpoint)
    return made


@pytest.fixture
def make_lake(catalog: Catalog, s3_bucket: S3Bucket, glue_server: str) -> Callable[[], Lake]:
    return lambda: Lake(s3_bucket, glue_server)


@pytest.fixture
def lake(make_lake: Callable[[], Lake]) -> Lake:
    return make_lake()


class Killed(BaseException):
    """The process is gone: nothing it would do after this reaches anyone."""


class Cut:
    """Lets so many requests out, and none after them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self._whole, self.seen = monkeypatch, URLLib3Session.send, 0

    def load(self, job: Job, allowed: int | None, *arguments: str) -> bool:
        """Whether the load came to its end."""
        self.seen = 0

        def send(session: Any, request: Any) -> Any:
            if self.seen == allowed:
                raise Killed
            self.seen += 1
            return self._whole(session, request)

        with self._patch.context() as patch:
            patch.setattr(URLLib3Session, "send", send)
            try:
                job.load(*arguments)
            except Killed:
                return False
        return True


@pytest.fixture
def two_days(job: Job, tmp_path: Path) -> tuple[str, str]:
    """Where the first night's snapshot can still be loaded from, and the second's."""
    first = tmp_path / "first"
    shutil.copytree(job.landing, first)
    job.night(DAY_2)
    return str(first), str(job.landing)


# Every other request, and the others in `make soak`.
@pytest.mark.parametrize(
    "part", [0, pytest.param(1, marks=pytest.mark.soak), 2, pytest.param(3, marks=pytest.mark.soak)]
)
def test_a_load_killed_before_any_request_leaves_every_table_whole_and_the_next_one_heals(
    job: Job,
    two_days: tuple[str, str],
    make_lake: Callable[[], Lake],
    monkeypatch: pytest.MonkeyPatch,
    part: int,
) -> None:
    (first, second), cut, lake = two_days, Cut(monkeypatch), make_lake()
    monkeypatch.setattr(parquet, "_KEPT", timedelta(0))  # so that deleting is among what is cut off
    job.load(lake.into, "--destination", first)
    old = lake.rows()
    assert cut.load(job, None, lake.into, "--destination", second, "--drop")
    new, requests = lake.rows(), cut.seen
    assert old.keys() == {"audit_log", "big", "empty", "person"} and new.keys() == {
        "audit_log",
        "big",
        "fresh",
        "person",
    }
    assert old["person"] != new["person"] and len(old["big"]) == 1500 and len(new["big"]) == 1501
    assert lake.objects() == lake.named() and requests > 25
    for allowed in range(part, requests, 4):
        lake = make_lake()
        job.load(lake.into, "--destination", first)
        assert not cut.load(job, allowed, lake.into, "--destination", second, "--drop")
        for name, rows in lake.rows().items():
            assert rows in (old.get(name), new.get(name)), f"{name} is not whole after {allowed} requests"
        assert old.keys() - lake.tables.keys() <= {"empty"}
        job.load(lake.into, "--destination", second, "--drop")
        assert lake.rows() == new, f"after {allowed} requests the next load does not heal"
        assert set(job.load(lake.into, "--destination", second).values()) == {"unchanged"}
        assert lake.named() <= lake.objects()


def test_a_first_load_killed_before_any_request_is_no_hindrance(
    job: Job, make_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, cut = make_lake(), Cut(monkeypatch)
    assert cut.load(job, None, lake.into)
    whole = lake.rows()
    for allowed in range(0, cut.seen, 2):
        lake = make_lake()
        assert not cut.load(job, allowed, lake.into)
        assert all(rows == whole[name] for name, rows in lake.rows().items())
        job.load(lake.into)
        assert lake.rows() == whole


def test_what_killed_loads_left_is_cleared_away_a_day_later(
    job: Job, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Cut(monkeypatch)
    monkeypatch.setattr(parquet, "_KEPT", timedelta(0))
    job.load(lake.into)

    def left() -> set[str]:
        return {key for key in lake.objects() - lake.named() if "public.big" in key}

    job.night("UPDATE big SET t = t || 'x'")
    for allowed in range(5, 40):  # each comes one request further, up to the lists
        cut.load(job, allowed, lake.into)
        if any("/symlink/" in key for key in left()):
            break
    assert {key.endswith(".parquet") for key in left()} == {True, False}, "files, and a list"
    job.load(lake.into)
    assert left(), "what is younger than a day may be another load's"
    monkeypatch.setattr(parquet, "_GRACE", -parquet._GRACE)
    job.night("UPDATE big SET t = t || 'x'")
    job.load(lake.into)
    assert not left()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("action", ["UpdateTable", "CreateTable", "DeleteTable"])
def test_a_process_killed_at_the_catalog_is_healed(
    job: Job,
    two_days: tuple[str, str],
    lake: Lake,
    catalog: Catalog,
    tmp_path: Path,
    action: str,
    moment: str,
) -> None:
    first, second = two_days
    job.load(lake.into, "--destination", first)
    old = lake.rows()
    floodmark = Floodmark(tmp_path / "process", {**os.environ, "FLOODMARK_DESTINATION": second})
    processes: list[subprocess.Popen[bytes]] = []

    def kill(seen: Seen, forward: Forward) -> None:
        if moment == "after":
            forward(seen)
        processes[0].kill()
        processes[0].wait()

    catalog.meets = once(action, kill)
    processes.append(floodmark.start("load", "--into", lake.into, "--drop"))
    assert floodmark.end(processes[0]).code == -signal.SIGKILL
    between = lake.rows()
    job.load(lake.into, "--destination", second, "--drop")
    new = lake.rows()
    assert new.keys() == {"audit_log", "big", "fresh", "person"} and len(new["big"]) == 1501
    assert all(rows in (old.get(name), new.get(name)) for name, rows in between.items())
    assert set(job.load(lake.into, "--destination", second).values()) == {"unchanged"}


def test_of_two_loads_at_once_the_one_that_finds_another_index_says_so(
    job: Job, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.load(lake.into)
    job.night(DAY_2)
    whole = ParquetPlace.commit

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(ParquetPlace, "commit", whole)
        job.load(lake.into, "--drop")
        whole(*arguments)

    monkeypatch.setattr(ParquetPlace, "commit", late)
    assert "can't publish the load" in job.refused(lake.into, "--drop", code=11)
    assert len(lake.rows()["big"]) == 1501 and "empty" not in lake.tables
    assert lake.objects() == lake.named(), "the loser took its own files away, and no other"


@pytest.mark.parametrize("action", ["UpdateTable", "CreateTable"])
def test_a_load_overtaken_at_the_catalog_says_so_and_the_later_one_stands(
    job: Job, lake: Lake, catalog: Catalog, action: str
) -> None:
    job.load(lake.into)
    job.night(DAY_2)

    def overtake(seen: Seen, forward: Forward) -> Answer:
        job.night("INSERT INTO big VALUES (-1, 'newer'); INSERT INTO fresh VALUES (8)")
        assert job.load(lake.into)["public.big"] == "loaded"
        return forward(seen)

    catalog.meets = once(action, overtake)
    said = job.refused(lake.into, code=11)
    assert "another load" in said and "CANARY" not in said
    rows = lake.rows()
    assert len(rows["big"]) == 1502 and len(rows["fresh"]) == 2
    assert set(job.load(lake.into).values()) == {"unchanged", "gone"}


@pytest.mark.parametrize("action", ["UpdateTable", "CreateTable", "DeleteTable"])
@pytest.mark.parametrize("fault", [lost_answer, no_answer])
def test_an_answer_of_the_catalog_that_is_lost_is_no_conflict(
    job: Job, lake: Lake, catalog: Catalog, action: str, fault: Callable[[Seen, Forward], Any]
) -> None:
    job.load(lake.into)
    job.night(DAY_2)
    catalog.meets = once(action, fault)
    assert job.load(lake.into, "--drop")["public.empty"] == "dropped"
    assert catalog.asked.count(action) >= 2, "it was tried again"
    assert lake.rows().keys() == {"audit_log", "big", "fresh", "person"}
    assert lake.objects() == lake.named()


def test_a_query_that_began_before_finds_its_list_and_files_for_a_day(
    job: Job, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_GRACE", -parquet._GRACE)  # every load is long ago
    job.load(lake.into)
    begun, rows = lake.tables["big"], lake.rows()["big"]
    job.night(DAY_2)
    job.load(lake.into, "--drop")
    assert sorted(lake._rows(begun), key=repr) == rows != lake.rows()["big"]
    assert lake.objects() == lake.named()
    monkeypatch.setattr(parquet, "_KEPT", timedelta(0))  # a day later
    job.night("INSERT INTO fresh VALUES (8)")
    job.load(lake.into)
    assert lake.objects() == lake.named() and not any("public.empty" in key for key in lake.objects())
    with pytest.raises(lake.bucket.client.exceptions.NoSuchKey):
        list(lake._rows(begun))


def test_what_a_glue_table_that_lags_behind_still_names_is_kept_however_old(
    job: Job, lake: Lake, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.load(lake.into)
    old = lake.rows()
    job.night(DAY_2)

    catalog.meets = lambda action: refusal("AccessDeniedException") if action == "UpdateTable" else None
    job.refused(lake.into, code=13)
    catalog.meets = lambda action: None
    monkeypatch.setattr(parquet, "_KEPT", timedelta(microseconds=1))  # a day later
    job.night("INSERT INTO fresh VALUES (8)")
    job.load(lake.into, "--table", "public.fresh")
    assert {name: lake.rows()[name] for name in ("big", "person")} == {name: old[name] for name in ("big", "person")}
    job.load(lake.into)
    assert len(lake.rows()["big"]) == 1501


# A table that can't be written, what becomes of it in the second night, and what it has afterwards.
REFUSED = {"big": "loaded", "fresh": "loaded", "empty": "dropped"}


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidInputException"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_glue_table_that_cannot_be_written_sinks_no_other(
    job: Job, lake: Lake, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, name: str, code: str
) -> None:
    job.load(lake.into)
    old = lake.rows()
    job.night(DAY_2)
    monkeypatch.setattr(parquet, "_GRACE", -parquet._GRACE)  # every load is long ago
    catalog.meets = lambda action: refusal(code, name) if action in WRITES else None
    done = {"audit.log": "unchanged", "public.big": "loaded", "public.fresh": "loaded", "public.person": "loaded"}
    whole = {**done, "public.empty": "dropped", f"public.{name}": "failed"}
    assert job.load(lake.into, "--drop", code=13) == whole
    rows = lake.rows()
    assert rows.get(name) == old.get(name) and rows["person"] != old["person"]
    monkeypatch.setattr(parquet, "_KEPT", timedelta(microseconds=1))  # a day later
    job.night("INSERT INTO person VALUES (3)")
    ended, out, err = job.command("load", "--into", lake.into, "--drop", "--output", "json")
    said = {one["name"]: one for one in json.loads(out)["tables"]}
    assert ended == 13 and said[name]["status"] == "failed" and f"Glue table: {name}: " in said[name]["error"]
    assert f" table=public.{name} why=" in err and code in err and "CANARY" not in out + err
    assert ("Lake Formation" in err) == (code == "AccessDeniedException")
    assert said["person"]["status"] == "loaded" and len(lake.rows()["person"]) == 3
    assert lake.rows().get(name) == old.get(name), "what it names is there still"
    catalog.meets = lambda action: None
    assert job.load(lake.into, "--drop")[f"public.{name}"] == REFUSED[name]
    assert set(job.load(lake.into).values()) == {"unchanged"}
    assert len(lake.rows()["big"]) == 1501 and lake.tables.keys() == {"audit_log", "big", "fresh", "person"}


def test_a_glue_table_that_the_role_may_not_see_sinks_no_other(job: Job, lake: Lake, catalog: Catalog) -> None:
    job.load(lake.into, "--table", "audit.log", "--table", "empty")
    lake.client.create_table(DatabaseName=lake.name, TableInput={"Name": "big", "Parameters": {"owner": "someone"}})

    def hide(seen: Seen, forward: Forward) -> Answer:
        answer = forward(seen)
        tables = json.loads(answer.body)
        shown = [one for one in tables["TableList"] if one["Name"] != "big"]
        text = json.dumps({**tables, "TableList": shown}).encode()
        return Answer(answer.status, {**answer.headers, "content-length": str(len(text))}, text)

    catalog.meets = lambda action: hide if action == "GetTables" else None
    rest = {"audit.log": "unchanged", "public.empty": "unchanged", "public.person": "loaded"}
    assert job.load(lake.into, code=13) == {**rest, "public.big": "failed"}
    said = job.refused(lake.into, code=13)
    assert "can't create a Glue table" in said
    assert lake.tables["big"]["Parameters"] == {"owner": "someone"} and "person" in lake.tables


def test_a_catalog_that_is_gone_is_not_asked_for_every_table(job: Job, lake: Lake, catalog: Catalog) -> None:
    job.load(lake.into)
    job.night(DAY_2)
    gone = False

    def meets(action: str) -> Any:
        nonlocal gone
        gone = gone or action == "UpdateTable"
        return no_answer if gone else None

    catalog.meets = meets
    job.refused(lake.into, code=13)
    assert catalog.asked.count("CreateTable") == 4 and catalog.asked.count("UpdateTable") <= 6
    catalog.meets = lambda action: None
    assert job.load(lake.into, "--drop")["public.empty"] == "dropped"


@pytest.mark.parametrize("right", ["s3:ListBucket", "s3:DeleteObject"])
@pytest.mark.parametrize("kind", ["glue", "parquet"])
def test_a_load_that_may_not_sweep_is_done_all_the_same_and_names_the_right(
    job: Job,
    lake: Lake,
    make_proxy: Callable[[str], S3Proxy],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    right: str,
) -> None:
    into = lake.into if kind == "glue" else f"parquet:{lake.place}"
    monkeypatch.setattr(parquet, "_KEPT", timedelta(0))
    monkeypatch.setattr(parquet, "_GRACE", -parquet._GRACE)  # every load is long ago
    job.load(into)
    first = lake.objects()
    proxy = make_proxy(os.environ["AWS_ENDPOINT_URL_S3"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)

    def refuse(seen: Seen, forward: Forward) -> Answer | None:
        denied = "list-type" in seen.path if right == "s3:ListBucket" else seen.method == "DELETE"
        return error(403, "AccessDenied")(seen, forward) if denied else forward(seen)

    proxy.always = refuse
    job.night(DAY_2)
    code, out, err = job.command("load", "--into", into, "--output", "json")
    statuses = {one["name"]: one["status"] for one in json.loads(out)["tables"]}
    assert code == 0 and (statuses["big"], statuses["person"], statuses["fresh"]) == ("loaded",) * 3
    assert "level=warning" in err and right in err and "unused files remain" in err and "CANARY" not in err
    assert (first <= lake.objects()) == (right == "s3:DeleteObject"), "what it may do it does"
    assert set(job.load(into).values()) == {"unchanged", "gone"}
    proxy.always = None
    job.night("UPDATE big SET t = t || 'x'; UPDATE person SET note = 'm'; INSERT INTO fresh VALUES (8)")
    code, _, err = job.command("load", "--into", into)
    assert code == 0 and "level=warning" not in err and lake.objects() == lake.named()


@pytest.mark.parametrize("kind", ["glue", "parquet"])
def test_a_first_load_that_may_not_list_names_the_right(
    job: Job, lake: Lake, make_proxy: Callable[[str], S3Proxy], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    proxy = make_proxy(os.environ["AWS_ENDPOINT_URL_S3"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)

    def refuse(seen: Seen, forward: Forward) -> Answer | None:
        """As S3 does without that right, of what is missing too."""
        missing = "list-type" not in seen.path and forward(seen).status == 404
        return error(403, "AccessDenied")(seen, forward) if "list-type" in seen.path or missing else forward(seen)

    proxy.always = refuse
    said = job.refused(lake.into if kind == "glue" else f"parquet:{lake.place}", code=13)
    assert "A first load must list the place" in said and "s3:ListBucket" in said
    assert not lake.objects() and not lake.tables


def test_columns_added_removed_retyped_and_renamed_arrive_with_their_rows(job: Job, lake: Lake) -> None:
    job.night(
        "CREATE TABLE added (a int); CREATE TABLE removed (a int, b int); CREATE TABLE retyped (a int);"
        "CREATE TABLE renamed (a int);"
        + "".join(f"INSERT INTO {name} VALUES (1);" for name in ("added", "removed", "retyped", "renamed"))
    )
    job.load(lake.into)
    job.night(
        "ALTER TABLE added ADD b text DEFAULT 'x'; ALTER TABLE removed DROP b;"
        "ALTER TABLE retyped ALTER a TYPE text; ALTER TABLE renamed RENAME a TO b"
    )
    job.load(lake.into)
    columns = {
        name: [(one["Name"], one["Type"]) for one in table["StorageDescriptor"]["Columns"]]
        for name, table in lake.tables.items()
    }
    rows = lake.rows()
    assert (columns["added"], rows["added"]) == ([("a", "int"), ("b", "string")], [(1, "x")])
    assert (columns["removed"], rows["removed"]) == ([("a", "int")], [(1,)])
    assert (columns["retyped"], rows["retyped"]) == ([("a", "string")], [("1",)])
    assert (columns["renamed"], rows["renamed"]) == ([("b", "int")], [(1,)])
    assert lake.objects() == lake.named()


def test_a_dropped_table_stays_until_it_is_to_be_dropped(job: Job, lake: Lake) -> None:
    job.load(lake.into)
    job.night("DROP TABLE empty; DROP TABLE person")
    assert job.load(lake.into)["public.person"] == "gone"
    assert len(lake.rows()["person"]) == 2
    assert job.load(lake.into, "--drop")["public.person"] == "dropped"
    assert lake.tables.keys() == {"audit_log", "big"} and lake.objects() == lake.named()


def test_a_table_that_took_the_name_of_one_of_ours_is_neither_replaced_nor_dropped(job: Job, lake: Lake) -> None:
    job.load(lake.into)
    lake.client.delete_table(DatabaseName=lake.name, Name="person")
    own = {"Name": "person", "Parameters": {"floodmark_table": "public.person"}}
    lake.client.create_table(DatabaseName=lake.name, TableInput=own)
    assert job.load(lake.into, code=3)["public.person"] == "failed"
    job.night("DROP TABLE person")
    assert job.load(lake.into, "--drop")["public.person"] == "dropped"
    assert lake.tables["person"]["Parameters"] == own["Parameters"] and "StorageDescriptor" not in lake.tables["person"]


def test_what_was_loaded_into_another_place_is_not_replaced(job: Job, lake: Lake) -> None:
    job.load(lake.into)
    tables, rows = lake.tables, lake.rows()
    other = f"{lake.bucket.url}/another"
    assert set(job.load(lake.into, "--files", other, code=3).values()) == {"failed"}
    assert (lake.tables, lake.rows()) == (tables, rows)
    said = job.refused(lake.into, "--files", other, code=3)
    assert "can't replace a Glue table" in said and "another Glue database" in said


def test_two_tables_with_one_name_in_glue_do_not_sink_the_others(job: Job, lake: Lake) -> None:
    job.night("CREATE TABLE audit_log (a int); INSERT INTO audit_log VALUES (5)")
    outcome = job.load(lake.into, code=3)
    assert sorted((outcome["audit.log"], outcome["public.audit_log"])) == ["failed", "loaded"]
    assert outcome["public.big"] == "loaded" and lake.rows().keys() == {"audit_log", "big", "empty", "person"}


def test_a_table_that_is_in_glue_keeps_its_name_from_one_that_comes_later(job: Job, lake: Lake) -> None:
    job.night("CREATE TABLE audit_log (a int); INSERT INTO audit_log VALUES (5)")
    assert job.load(lake.into, "--table", "public.audit_log") == {"public.audit_log": "loaded"}
    job.night("INSERT INTO audit_log VALUES (6)")
    outcome = job.load(lake.into, code=3)
    assert (outcome["audit.log"], outcome["public.audit_log"]) == ("failed", "loaded")
    assert lake.rows()["audit_log"] == [(5,), (6,)]
    said = job.refused(lake.into, code=3)
    assert (
        "can't load a table into Glue: audit.log as audit_log: public.audit_log and audit.log have one name in Glue"
        in said
    )
    assert "--exclude" in said and job.load(lake.into, "--exclude", "audit.log")["public.audit_log"] == "unchanged"
    job.night('CREATE SCHEMA "x.y"; CREATE TABLE "x.y".z (a int); CREATE SCHEMA x; CREATE TABLE x."y.z" (a int)')
    assert list(job.load(lake.into, "--table", "x*.*", code=3).values()) in (["failed"], ["loaded", "failed"])


MAIN = "CREATE SCHEMA main; CREATE TABLE main.person (a int); INSERT INTO main.person VALUES (5)"


def test_only_public_tables_go_without_their_schema(job: Job, lake: Lake) -> None:
    job.night(MAIN)
    assert set(job.load(lake.into).values()) == {"loaded"}
    rows = lake.rows()
    assert rows.keys() == {"audit_log", "big", "empty", "main_person", "person"}
    assert rows["main_person"] == [(5,)] and len(rows["person"]) == 2


def renamed(lake: Lake, old: str, new: str) -> None:
    """As if an earlier Floodmark had given a table another name."""
    table = lake.tables[old]
    wanted = {"Parameters": table["Parameters"], "StorageDescriptor": table["StorageDescriptor"]}
    lake.client.create_table(DatabaseName=lake.name, TableInput={"Name": new, **wanted})
    lake.client.delete_table(DatabaseName=lake.name, Name=old)


@pytest.fixture
def misnamed(job: Job, lake: Lake) -> Lake:
    """`person` is main.person, which was called so once; public.person is not loaded yet."""
    job.night(MAIN)
    assert job.load(lake.into, "--table", "main.*") == {"main.person": "loaded"}
    renamed(lake, "main_person", "person")
    return lake


def test_a_glue_table_that_was_named_otherwise_gets_its_name(job: Job, misnamed: Lake) -> None:
    whole = {**FIRST, "main.person": "loaded"}
    assert job.load(misnamed.into) == whole
    rows = misnamed.rows()
    assert rows["main_person"] == [(5,)] and len(rows["person"]) == 2 and misnamed.objects() == misnamed.named()
    assert job.load(misnamed.into) == unchanged(whole)


def test_a_glue_table_that_was_named_otherwise_is_dropped_with_its_table(job: Job, misnamed: Lake) -> None:
    job.night("DROP SCHEMA main CASCADE")
    assert job.load(misnamed.into, "--table", "big", "--table", "audit.*") and misnamed.rows()["person"] == [(5,)]
    outcome = job.load(misnamed.into, "--drop", code=3)
    assert (outcome["main.person"], outcome["public.person"]) == ("dropped", "failed")
    assert job.load(misnamed.into)["public.person"] == "loaded" and len(misnamed.rows()["person"]) == 2


@pytest.mark.parametrize("action", ["CreateTable", "DeleteTable"])
def test_a_glue_table_keeps_its_old_name_until_the_new_one_is_there(
    job: Job, misnamed: Lake, catalog: Catalog, action: str
) -> None:
    name = "main_person" if action == "CreateTable" else "person"
    catalog.meets = lambda asked: refusal("AccessDeniedException", name) if asked == action else None
    failed = {"main.person": "failed", "public.person": "failed"}
    for _ in range(2):
        done = job.load(misnamed.into, code=13)
        assert {label: done[label] for label in failed} == failed
        assert misnamed.rows()["person"] == [(5,)]
    catalog.meets = lambda asked: None
    assert job.load(misnamed.into) == {**unchanged(FIRST), "main.person": "loaded", "public.person": "loaded"}
    assert misnamed.rows()["main_person"] == [(5,)] and len(misnamed.rows()["person"]) == 2


@pytest.mark.parametrize("copy", ["copied", "public_person"])
def test_a_copy_that_someone_made_of_a_glue_table_stays(job: Job, lake: Lake, copy: str) -> None:
    job.load(lake.into)
    renamed(lake, "person", copy)
    job.night("INSERT INTO person VALUES (3); DROP TABLE empty")
    assert job.load(lake.into, "--drop")["public.person"] == "loaded"
    assert lake.tables.keys() == {"audit_log", "big", copy, "person"}


def test_a_load_that_is_told_to_stop_takes_back_what_it_staged(job: Job, lake: Lake) -> None:
    job.load(lake.into)
    objects, rows = lake.objects(), lake.rows()
    job.night(DAY_2)
    stop, target = Stop(), GlueDatabase(lake.name, None, ignore_event)
    staged: list[set[str]] = []

    def tell(one: LoadedTable) -> None:
        staged.append(lake.objects() - objects)
        stop.ask(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        load(
            floodmark.open(str(job.landing)).latest(),
            target,
            LoadOptions(drop=True),
            tell,
            LoadWatch(ignore_event, stop),
        )
    assert stopped.value.code == 143
    assert len(staged) == 1 and staged[0], "it had begun"
    assert (lake.objects(), lake.rows()) == (objects, rows)
