"""OpenLineage events of whole runs, to a real HTTP receiver and to a file. A receiver never harms a run."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_canaries import CANARY, ROW, TABLES, require_none
from fix_command import Floodmark, asked_to_stop, at_work, held, until
from fix_ports import closed_port
from fix_postgres import PgDatabase
from fix_receivers import HttpReceiver
from floodmark.config.notify_schema import OpenLineageSection
from floodmark.config.openlineage import openlineage_settings
from floodmark.errors import ConfigError
from floodmark.model import TableName
from floodmark.openlineage.datasets import DatasetName, source_names
from floodmark.openlineage.emitter import Emitter
from floodmark.openlineage.trace import RunTrace

KEY = f"{CANARY}-api-key"


class Service:
    """A job with a receiver of its events."""

    def __init__(self, database: PgDatabase, folder: Path, url: str | None = None) -> None:
        self.database, self.folder = database, folder
        environment = {
            "FLOODMARK_SOURCE": url or database.url,
            "FLOODMARK_DESTINATION": str(folder / "out"),
            "FLOODMARK_LOG_FORMAT": "json",
            "KEY": KEY,
        }
        self.floodmark = Floodmark(folder / "job", environment)

    def to(self, receiver: str, rest: str = "") -> None:
        self.floodmark.configure(f"openlineage: {{{receiver}}}\n{rest}")

    def to_http(self, receiver: HttpReceiver, rest: str = "") -> None:
        self.to(f"transport: http, url: '{receiver.url}', api_key_env: KEY", rest)


@pytest.fixture
def service(pg: PgDatabase, tmp_path: Path) -> Service:
    pg.execute(TABLES)
    pg.execute("COMMENT ON TABLE person IS 'All people'; COMMENT ON COLUMN person.name IS 'As written'")
    return Service(pg, tmp_path)


def states(receiver: HttpReceiver) -> list[str]:
    return [one.json["eventType"] for one in receiver.requests]


def test_a_run_tells_what_it_read_and_wrote(service: Service, make_receiver: Callable[..., HttpReceiver]) -> None:
    http = make_receiver()
    service.to_http(http, "tables: {rules: {person: {columns: {mask: {name: redact}}}}}\n")
    manifest = service.floodmark.run().manifest
    start, end = (one.json for one in http.requests)
    assert states(http) == ["START", "COMPLETE"]
    assert {one.path for one in http.requests} == {"/hook/api/v1/lineage"}
    assert {one.headers["authorization"] for one in http.requests} == {f"Bearer {KEY}"}
    assert start["run"]["runId"] == end["run"]["runId"] and start["eventTime"] < end["eventTime"]
    assert end["job"]["namespace"] == "floodmark" and end["job"]["name"] == service.database.name
    assert end["run"]["facets"]["floodmark"]["runId"] == manifest.run_id
    person, output = (next(d for d in end[key] if "person" in d["name"]) for key in ("inputs", "outputs"))
    assert person["name"] == f"{service.database.name}.public.person" and person["namespace"].startswith("postgres://")
    place = f"out/data/database_name={service.database.name}/table_name=person"
    assert (output["namespace"], output["name"]) == ("file", str(service.folder / place))
    fields = output["facets"]["schema"]["fields"]
    assert [(one["name"], one["type"]) for one in fields] == [("id", "integer"), ("name", "text")]
    assert fields[1]["description"] == "As written" and output["facets"]["documentation"]["description"] == "All people"
    (origin,) = output["facets"]["columnLineage"]["fields"]["id"]["inputFields"]
    assert (origin["namespace"], origin["name"], origin["field"]) == (person["namespace"], person["name"], "id")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2000
    require_none(*(one.body for one in http.requests))
    service.floodmark.run()
    unchanged = next(d for d in http.requests[-1].json["outputs"] if "person" in d["name"])
    assert (
        unchanged["outputFacets"]["outputStatistics"] | {"rowCount": 0, "size": 0, "fileCount": 0}
        == (unchanged["outputFacets"]["outputStatistics"])
    )


def test_a_run_that_fails_and_one_that_is_stopped(service: Service, make_receiver: Callable[..., HttpReceiver]) -> None:
    http = make_receiver()
    service.to_http(http)
    with psycopg.connect(service.database.dsn) as connection:
        held(connection, "person")
        process = service.floodmark.start("run")
        until(at_work(service.database, "%person%"))
        said = asked_to_stop(process, signal.SIGTERM)
        connection.rollback()
        done = service.floodmark.end(process, said=said)
    assert done.code == 143 and states(http) == ["START", "ABORT"]
    url = f"postgresql://nobody:{CANARY}@127.0.0.1:{closed_port()}/cases"
    nowhere = Service(service.database, service.folder / "nowhere", url)
    nowhere.to_http(http)
    nowhere.floodmark("run", code=12)
    assert states(http)[2:] == ["START", "FAIL"]
    message = http.requests[-1].json["run"]["facets"]["errorMessage"]["message"]
    assert message and http.requests[-1].json["job"]["name"] == "cases"
    require_none(*(one.body for one in http.requests))


@pytest.mark.parametrize(
    ("answers", "why"), [((500,) * 4, "answered 500"), ((307,) * 4, ""), ((0,) * 4, "no answer in time")]
)
def test_a_bad_receiver_costs_one_warning(
    service: Service, make_receiver: Callable[..., HttpReceiver], answers: tuple[int, ...], why: str
) -> None:
    service.to_http(make_receiver(*answers))
    done = service.floodmark("run")
    warnings = [json.loads(line) for line in done.err.splitlines() if "OpenLineage" in line]
    assert len(warnings) == 1 and why in warnings[0]["message"], done.err
    require_none(done.err, done.out)


def test_events_are_appended_to_a_file(service: Service) -> None:
    file = service.folder / "events.jsonl"
    service.to(f"transport: file, path: '{file}', namespace: ours, job: nightly")
    service.floodmark("run")
    service.floodmark("run")
    events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [one["eventType"] for one in events] == ["START", "COMPLETE"] * 2
    assert {(one["job"]["namespace"], one["job"]["name"]) for one in events} == {("ours", "nightly")}
    assert ROW not in file.read_text(encoding="utf-8")
    service.to(f"transport: file, path: '{service.folder}/none/events.jsonl'")
    assert "No such file or directory" in service.floodmark("run").err
    assert "is no folder that this user can write to" in service.floodmark("doctor").out


def test_a_receiver_that_is_gone_is_given_up(tmp_path: Path) -> None:
    section = OpenLineageSection(transport="http", url=f"http://127.0.0.1:{closed_port()}")
    emitter = Emitter(openlineage_settings(section, {}, "x"))
    emitter.emit(RunTrace(state="START", time="2026-01-01T00:00:00Z", run_id="r", namespace="n", job="j"))
    assert emitter.close() == "the receiver can't be reached"


@pytest.mark.parametrize(
    ("label", "dialect", "name"),
    [
        ("postgresql://db.example/cases", "postgresql", ("postgres://db.example:5432", "cases.public.t")),
        ("postgresql://db:5433/cases", "postgresql", ("postgres://db:5433", "cases.public.t")),
        ("postgresql:///var/run/pg/cases", "postgresql", ("postgres://localhost:5432", "cases.public.t")),
        ("postgresql://a,b/cases", "postgresql", ("postgres://a:5432", "cases.public.t")),
        ("postgresql://::1/cases", "postgresql", ("postgres://[::1]:5432", "cases.public.t")),
        ("mysql+pymysql://u@h:3307/cases", "mariadb", ("mysql://h:3307", "public.t")),
        ("mssql+pyodbc://h/cases", "mssql", ("mssql://h:1433", "cases.public.t")),
        ("sqlite:////data/a.db", "sqlite", ("sqlite:////data/a.db", "public.t")),
    ],
)
def test_tables_have_the_names_of_the_naming_rules(label: str, dialect: str, name: tuple[str, str]) -> None:
    assert source_names(label, dialect, "cases")(TableName("public", "t")) == DatasetName(*name)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"url": "https://x"}, "transport"),
        ({"transport": "http"}, "url"),
        ({"transport": "http", "url": f"https://u:{CANARY}@x"}, "url"),
        ({"transport": "http", "url": f"https://x?key={CANARY}"}, "url"),
        ({"transport": "http", "url": "ftp://x"}, "url"),
        ({"transport": "http", "url": "https://x", "path": "f"}, "path"),
        ({"transport": "file", "path": "f", "api_key_env": "K"}, "api_key_env"),
        ({"transport": "http", "url": "https://x", "api_key_env": "K"}, "api_key_env"),
        ({"transport": "file", "path": "f", "namespace": " "}, "namespace"),
    ],
)
def test_settings_that_make_no_sense_are_refused(section: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        openlineage_settings(OpenLineageSection(**section), {}, "floodmark.yaml")
    assert refusal.value.on == f"openlineage.{key} (floodmark.yaml)"
    require_none(str(refusal.value), str(refusal.value.hint))
