"""The image's entry point, as a process in the environment that the old extractor's chart makes, on real servers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from entrypoint import translated, trusts_the_server, with_bucket
from fix_command import content, keys
from fix_container import Container
from fix_postgres import PgDatabase
from fix_storage import S3Bucket, S3Server, environment
from floodmark import layout
from floodmark.errors import ConfigError, UsageError

OLD = "extract_table_names.py && extract_pg_jsonl_snapshot.py && transfer_local_to_s3.sh"
CSV = "extract_table_names.py && extract_psql_all_tables_to_csv.sh && transfer_local_to_s3.sh"
# What a team made of it to leave out one table.
OWN = (
    "extract_table_names.py && mv ./export/metadata/all/list.yaml . && "
    "grep -v upload_detail list.yaml > short.yaml && mv short.yaml list.yaml && "
    "extract_pg_jsonl_snapshot.py && transfer_local_to_s3.sh"
)
SERVICE = """
CREATE TABLE person (id int PRIMARY KEY, name text);
INSERT INTO person SELECT n, 'person ' || n FROM generate_series(1, 500) n;
CREATE TABLE upload_detail (id int);
INSERT INTO upload_detail VALUES (1);
CREATE TABLE nothing (id int);
CREATE SCHEMA audit;
CREATE TABLE audit.entry (at timestamptz);
INSERT INTO audit.entry VALUES ('2026-01-01 00:00:00Z');
"""
LANDED = {"public": {"person", "upload_detail"}, "audit": {"audit.entry"}}


@pytest.fixture
def container(pg: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path) -> Container:
    """Just the variables of the old chart, and those that lead to the test's S3."""
    pg.execute(SERVICE)
    chart = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(pg.server.port),
        "PGDATABASE": pg.name,
        "PGUSER": pg.superuser,
        "PGPASSWORD": "not looked at",
        "S3_DESTINATION": f"{s3_bucket.url}/landing/some-service/",
        "SAVE_EVENTS_LOG": "true",
        "DATA_PRODUCT_NAME": "",
        "API_AUTH": "a-key-of-no-use",
    }
    return Container(tmp_path / "job", {**environment(s3_server.endpoint), **chart})


def landed(bucket: S3Bucket, database: str, suffix: str = ".jsonl") -> dict[str, set[str]]:
    """The tables that were landed, by schema; every key must be one that a landing zone takes."""
    found: dict[str, set[str]] = {}
    for key in keys(bucket):
        data, name, table, at, file = key.removeprefix("landing/some-service/").split("/")
        assert data == "data" and name.startswith(f"database_name={database}_") and file.endswith(suffix)
        assert layout.timestamp_moment(at.removeprefix("extraction_timestamp="))
        schema = name.removeprefix(f"database_name={database}_")
        found.setdefault(schema, set()).add(table.removeprefix("table_name="))
    return found


@pytest.mark.parametrize("line", [OLD, OLD.replace(" && ", "  &&\n    ") + "\n"], ids=["as it is", "folded"])
def test_the_old_line_does_the_old_job(container: Container, s3_bucket: S3Bucket, pg: PgDatabase, line: str) -> None:
    done = container(line)
    assert "translated to: floodmark run --layout moj-landing" in done.err and "FLOODMARK_STATE" in done.err
    assert landed(s3_bucket, pg.name) == LANDED
    (person,) = [key for key in keys(s3_bucket) if "/table_name=person/" in key]
    rows = pg.query("SELECT row_to_json(p)::text FROM person p")
    assert content(s3_bucket, person).decode().splitlines() == [line for (line,) in rows]
    before = keys(s3_bucket)
    container(line)
    assert len(keys(s3_bucket)) == 2 * len(before), "without state every run lands everything"


@pytest.mark.parametrize("line", [CSV, CSV.partition("&& ")[2]], ids=["three steps", "two steps"])
def test_the_csv_lines_land_csv(container: Container, s3_bucket: S3Bucket, pg: PgDatabase, line: str) -> None:
    assert "--format csv" in container(line).err
    assert landed(s3_bucket, pg.name, ".csv") == LANDED
    (person,) = [key for key in keys(s3_bucket) if "/table_name=person/" in key]
    rows = list(csv.DictReader(content(s3_bucket, person).decode().splitlines()))
    assert rows == [{"id": str(n), "name": f"person {n}"} for n in range(1, 501)]


@pytest.mark.parametrize(
    ("environ", "trusts"),
    [
        ({"PGHOST": "postgres.ns.svc"}, True),
        ({"PGHOST": "cp-1.abc.eu-west-2.rds.amazonaws.com"}, False),
        ({"PGHOST": "postgres.ns.svc", "PGSSLMODE": "require"}, False),
        ({"FLOODMARK_SOURCE": "postgresql://db/a"}, False),
    ],
)
def test_the_old_line_asks_a_server_for_no_proof_unless_it_is_on_rds(environ: dict[str, str], trusts: bool) -> None:
    assert trusts_the_server(environ) is trusts


def test_a_bucket_without_s3_before_it_is_one_and_state_is_used_where_it_is_set(
    container: Container, s3_bucket: S3Bucket, s3_server: S3Server, pg: PgDatabase
) -> None:
    container.environment["S3_DESTINATION"] = f"{s3_bucket.name}/landing/some-service"
    state = S3Bucket(f"{s3_bucket.name}-state", s3_server.make_bucket(f"{s3_bucket.name}-state"))
    container.environment["FLOODMARK_STATE"] = f"{state.url}/some-service"
    container(OLD)
    assert landed(s3_bucket, pg.name) == LANDED and "some-service/head.json" in keys(state)
    before = keys(s3_bucket)
    container(OLD)
    assert keys(s3_bucket) == before, "with state an unchanged table is not sent again"


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([OLD], "/my-lake/old"),
        ([OLD], "./my-lake/old"),
        ([OLD], "My_lake/old"),
        (["run"], "my-lake/old"),
        (["run", "--layout", "moj-landing"], "my-lake/old"),
        (["run", "--destination", "my-lake/old"], ""),
        (["run", "--destination", "s3://my-lake/old", "--state", "my-lake/old"], ""),
    ],
)
def test_the_image_never_lands_in_a_folder_that_nobody_asked_for(
    container: Container, arguments: list[str], place: str
) -> None:
    """Release 0.1.0 landed the whole database in the container's own folder, with exit code 0."""
    container.environment["S3_DESTINATION"] = place
    done = container(*arguments, code=10)
    assert "s3://" in done.err and "folder" in done.err
    if arguments != [OLD]:
        assert "s3://my-lake/old for a bucket, or ./my-lake/old for a folder" in done.err
    assert [path.name for path in container.folder.iterdir()] == ["temporary"]


def test_a_place_that_the_line_needs_no_help_with_is_left_as_it_is() -> None:
    for place in ("", "s3://bucket/x", "gs://x", "s3://bucket/x\n"):
        assert with_bucket({"S3_DESTINATION": place}) == {"S3_DESTINATION": place}
    assert with_bucket({"S3_DESTINATION": "bucket/x"}) == {"S3_DESTINATION": "s3://bucket/x"}
    with pytest.raises(ConfigError):
        with_bucket({"S3_DESTINATION": "file:///x"})


def test_a_teams_own_line_is_refused_and_the_settings_it_names_do_the_same(
    container: Container, s3_bucket: S3Bucket, pg: PgDatabase
) -> None:
    done = container(OWN, code=2)
    assert keys(s3_bucket) == {} and "line of shell" in done.err
    value, config = done.err.split('Write args: "')[1].split('", or in floodmark.yaml ')
    container(*yaml.safe_load(f"args: [{value}]")["args"])  # as the old chart's template has it
    assert landed(s3_bucket, pg.name) == {"public": {"person"}, "audit": {"audit.entry"}}
    for key in keys(s3_bucket):
        s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key=key)
    container.configure(config.strip().removesuffix("."))
    container(OLD)
    assert landed(s3_bucket, pg.name) == {"public": {"person"}, "audit": {"audit.entry"}}


def test_floodmarks_own_arguments_come_in_commas(container: Container, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    given = yaml.safe_load(f"args: [run, --state, {tmp_path}/state, --table, person]")["args"]
    done = container(*given)
    assert "translated to" not in done.err and (tmp_path / "state/head.json").exists()
    assert ["person" in key for key in keys(s3_bucket)] == [True]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["extract_pg_jsonl_snapshot.py && transfer_local_to_s3.sh"], "line of shell"),
        ([OLD.replace("&&", ";")], "line of shell"),
        ([OLD + " && echo done"], "line of shell"),
        ([OLD, "more"], "line of shell"),
        (["sh", "-c", OLD], "line of shell"),
        (["/bin/bash", "run.sh"], "line of shell"),
        (["extract_table_names.py"], "line of shell"),
        (["run --state s3://a/b"], "one argument"),
        ([""], "line of shell"),
    ],
)
def test_any_other_line_is_refused_whole(given: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        translated(given)
    assert caught.value.exit_code == 2 and "args: " in str(caught.value)


@pytest.mark.parametrize("given", [[], ["run"], ["--version"], ["status", "--output", "json"], ["rum"], ["--table=a"]])
def test_what_floodmark_can_judge_itself_is_left_to_it(given: list[str]) -> None:
    assert translated(given) == given
