"""What the README tells a newcomer to type works, against real servers, as the role that it tells to make."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from fix_command import Floodmark, keys
from fix_postgres import PgDatabase
from fix_storage import S3Bucket, S3Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


class Typed(Floodmark):
    """As a newcomer types it: each command is a real process."""

    warm = False


def heads(text: str) -> list[list[str]]:
    """The words of every line that heads a table."""
    return [line.split() for line in text.splitlines() if re.match(r"table +status", line)]


@pytest.fixture
def variables(pg: PgDatabase, s3_bucket: S3Bucket) -> Iterator[dict[str, str]]:
    """The guide's variables, with what is there instead of its examples, once its role was made."""
    (role,) = blocks("sql")
    pg.execute(role)
    told = dict(re.findall(r"(\w+)=(\S+)", blocks("sh")[0]))
    assert set(told) == {"PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD", "S3_DESTINATION"}
    place = conninfo_to_dict(pg.dsn)
    there = {"PGHOST": place["host"], "PGDATABASE": place["dbname"], "S3_DESTINATION": f"{s3_bucket.url}/cases"}
    yield {**told, **{name: str(value) for name, value in there.items()}, "PGPORT": str(place["port"])}
    pg.execute("DROP OWNED BY floodmark; DROP ROLE floodmark")


def test_the_smallest_real_use(
    pg: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket, variables: dict[str, str], tmp_path: Path
) -> None:
    pg.execute("CREATE TABLE person AS SELECT n AS id FROM generate_series(1, 10) n; CREATE TABLE event (id int)")
    floodmark = Typed(tmp_path, {**s3_server.environment, **variables})
    commands = re.findall(r"^floodmark (.*)$", blocks("sh")[0], re.MULTILINE)
    assert commands == ["doctor", "plan", "run", "status"]
    said = "".join(floodmark(command).out for command in commands)
    assert re.search(r"public.person +extracted +10 .*first_run: ", said)
    assert {key.split("/")[1] for key in keys(s3_bucket)} == {"data", "_floodmark"}

    pg.execute("INSERT INTO event VALUES (1)")
    (night,) = blocks("console")
    said = "".join(
        floodmark(*command.split()).out for command in re.findall(r"^\$ floodmark (.*)$", night, re.MULTILINE)
    )
    assert heads(said) == heads(night) != []
    assert re.search(r"public.event +extracted +1 .*rows_changed: ", said)


def test_the_smallest_use_of_all(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "notes.db")) as connection:
        connection.execute("CREATE TABLE note (body)")
    Typed(tmp_path, {})(*blocks("sh")[1].split()[1:])
    assert (tmp_path / "landing/_floodmark/head.json").exists()


def test_every_document_is_there_and_every_make_target_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", README)) == targets - {"clean"}
