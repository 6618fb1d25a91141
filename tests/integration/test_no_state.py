"""Places without a state: each command that reads one says where it looked, and ends with 13."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fix_command import Floodmark, keys
from fix_storage import S3Bucket, S3Server, environment
from floodmark.cli.commands.prune import PruneDocument
from floodmark.cli.commands.verify import VerifyDocument
from floodmark.differences import ManifestDifference
from floodmark.state.ledger import Ledger
from floodmark.storage.local import LocalStorage

JSON = ("--output", "json")
PRUNED = set(PruneDocument.__struct_fields__)
VERIFIED = set(VerifyDocument.__struct_fields__)
COMPARED = set(ManifestDifference.__struct_fields__)
NO_RUN = {"head", "tables", "runs", "drift"}
# The documented keys of each command's JSON.
COMMANDS: dict[tuple[str, ...], set[str]] = {
    ("status", *JSON): NO_RUN,
    ("history", *JSON): {"runs"},
    ("show", *JSON): NO_RUN,
    ("show", "20261124T010203Z-aaaaaa", *JSON): NO_RUN,
    ("verify", *JSON): VERIFIED,
    ("verify", "20261124T010203Z-aaaaaa", *JSON): VERIFIED,
    ("verify", "--against-source", *JSON): VERIFIED,
    ("prune", "--keep-last", "1", *JSON): PRUNED,
    ("load", "--into", "duckdb:cases.duckdb", *JSON): {"run_id", "target", "tables"},
    ("deliver", "--to", "./zone", *JSON): {"deliveries"},
    ("diff", *JSON): COMPARED,
    ("diff", "20261124T010203Z-aaaaaa", *JSON): COMPARED,
    ("schema", "--format", "mojap"): {"tables"},
    ("schema", "--format", "json-schema", "--table", "per*"): {"tables"},
}
READS_NOTHING_YET = {"load", "deliver", "schema", "diff"}


@pytest.fixture
def job(tmp_path: Path) -> Floodmark:
    job = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": "sqlite:///cases.db", "FLOODMARK_DESTINATION": "./lake"})
    with closing(sqlite3.connect(job.folder / "cases.db")) as file:
        file.execute("CREATE TABLE person (id integer PRIMARY KEY)")
    return job


def require_nothing_in(document: Any, wanted: set[str]) -> None:
    assert set(document) == wanted
    assert all(value in (None, [], {}, False, 0) for value in document.values()), document


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_place_without_a_state_is_an_error_that_says_where(job: Floodmark, command: tuple[str, ...]) -> None:
    done = job(*command, code=13)
    assert f"there is no state to read: {job.folder}/lake/_floodmark: no head.json is there" in done.err
    assert "--state" in done.err
    require_nothing_in(done.json, COMMANDS[command])
    if "--output" in command:
        assert job(*command[:-2], code=13).out == ""
    assert not (job.folder / "lake").exists() and not (job.folder / "cases.duckdb").exists()


def test_one_table_has_no_document(job: Floodmark) -> None:
    assert job("schema", "--format", "mojap", "--table", "person", code=13).json is None


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_first_run_that_has_not_committed_is_told_apart(job: Floodmark, command: tuple[str, ...]) -> None:
    Ledger(LocalStorage(job.folder / "lake/_floodmark")).claim("20261129T010203Z-aaaaaa", datetime.now(UTC))
    waits = command[0] in READS_NOTHING_YET
    named = "20261124T010203Z-aaaaaa" in command  # a run that does not exist
    done = job(*command, code=2 if named else 13 if waits else 0)
    if command[0] == "history":
        assert [run["run_id"] for run in done.json["runs"]] == ["20261129T010203Z-aaaaaa"]
    elif not named:
        assert "no run has been committed yet" in done.err and set(done.json) == COMMANDS[command]


def test_a_bucket_without_a_state(job: Floodmark, s3_server: S3Server, s3_bucket: S3Bucket) -> None:
    job.environment |= {**environment(s3_server.endpoint), "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake"}
    for command in (("status",), ("verify",), ("prune", "--keep-last", "1"), ("schema", "--format", "mojap")):
        assert f"{s3_bucket.url}/lake/_floodmark: no head.json is there" in job(*command, code=13).err
    assert keys(s3_bucket) == {}
