"""Whole runs from SQL sources: chunks that did not change stay as they are, whatever their numbers become."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fix_command import Floodmark
from fix_sql import SqlDatabase, duckdb_database, sqlite_database

ROWS = 4000
CANARY = "canary-5512"


class Job:
    """A nightly job from a file to a folder, with small chunks."""

    def __init__(self, name: str, folder: Path) -> None:
        self.database: SqlDatabase = {"sqlite": sqlite_database, "duckdb": duckdb_database}[name](folder / "cases.db")
        (folder / "job").mkdir()
        self.command = Floodmark(
            folder / "job", {"FLOODMARK_SOURCE": f"{name}:///../cases.db", "FLOODMARK_DESTINATION": "./lake"}
        )
        self.folder = folder / "job"
        self.command.configure("chunk_size: 16KiB\naudit: {share: 100%}\n")
        keyed = "WITHOUT ROWID" if name == "sqlite" else ""
        self.database.run(f"CREATE TABLE t (k text NOT NULL PRIMARY KEY, note text) {keyed}")
        rows = [(f"{CANARY} {number:05}", f"a note of some length {number}") for number in range(0, 2 * ROWS, 2)]
        self.database.run("INSERT INTO t VALUES (?, ?)", rows)
        self.expected = dict(rows)

    def run(self) -> dict[str, Any]:
        report = json.loads(self.command("run", "--output", "json").out)
        (entry,) = self.manifest()["tables"]
        lines = [json.loads(line) for one in entry["objects"] for line in self.lines_of(one)]
        assert {line["k"]: line["note"] for line in lines} == self.expected
        assert len(lines) == len(self.expected) == entry["rows"]
        return {**entry, "report": report}

    def manifest(self) -> dict[str, Any]:
        state = self.folder / "lake/_floodmark"
        text = (state / json.loads((state / "head.json").read_text())["manifest"]).read_text()
        assert CANARY not in text, "a boundary of a range is a row's value"
        return json.loads(text)

    def lines_of(self, entry: dict[str, Any]) -> list[bytes]:
        return gzip.decompress((self.folder / "lake" / str(entry["key"])).read_bytes()).splitlines()


@pytest.mark.parametrize("name", ["sqlite", "duckdb"])
def test_a_night_after_another(name: str, tmp_path: Path) -> None:
    job = Job(name, tmp_path)
    first = job.run()
    chunks = len(first["objects"])
    assert chunks > 8
    source = job.manifest()["source"]
    assert source["snapshot"]["consistency"] and job.manifest()["consistent"]
    same = job.run()
    assert (same["status"], same["reason"]["code"]) == ("unchanged", "identical")
    assert [one["key"] for one in same["objects"]] == [one["key"] for one in first["objects"]]
    middle = f"{CANARY} {ROWS + 1:05}"
    job.database.run("INSERT INTO t VALUES (?, 'inserted')", (middle,))
    job.expected[middle] = "inserted"
    changed = job.run()
    fresh = [one for one in changed["objects"] if one["origin"] == "extracted"]
    assert 1 <= len(fresh) <= 2 and changed["status"] == "extracted"
    assert len(changed["objects"]) - len(fresh) >= chunks - 1
    assert "0 wrong" in job.command("verify", "--deep", "--against-source").out
    job.database.run("DELETE FROM t WHERE k = ?", (middle,))
    del job.expected[middle]
    back = job.run()
    assert {one["content_sha256"] for one in back["objects"]} == {one["content_sha256"] for one in first["objects"]}


@pytest.mark.parametrize(
    ("url", "says", "hint"),
    [
        ("nosuch://u:canary@h/db", "no SQLAlchemy dialect of this name", "the package that brings the dialect"),
        ("oracle+cx_oracle://u:canary@h/db", "the driver cx_Oracle is not installed", "pip install '.[oracle]'"),
        ("mssql+nosuch://u:canary@h/db", "no SQLAlchemy dialect of this name", "leave the driver out of the URL"),
        ("mysql+a+b://u:canary@h/db", "it names two drivers", "dialect+driver://"),
        ("duckdb:///gone.duckdb", "the file does not exist", ""),
        ("duckdb:///gone.duckdb?memory_limit=canary", "its memory_limit is no size", "?memory_limit=1GB"),
        ("duckdb:///gone.duckdb?memory_limit=1GB&memory_limit=2GB", "its memory_limit is no size", ""),
        ("oracle+oracledb://u:canary@nosuch.invalid/db", "gaierror", "Check the address"),
    ],
)
def test_a_source_that_can_not_be_opened_says_what_to_do(tmp_path: Path, url: str, says: str, hint: str) -> None:
    job = Floodmark(tmp_path, {"FLOODMARK_SOURCE": url, "FLOODMARK_DESTINATION": "./lake"})
    code = 12 if says in ("the file does not exist", "gaierror") else 10
    for command in ("run", "plan"):
        done = job(command, code=code)
        assert says in done.err and hint in done.err and "canary" not in done.err + done.out
    assert says in job("doctor", code=code).out
