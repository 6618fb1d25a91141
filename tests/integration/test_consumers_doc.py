"""The examples of docs/consumers.md are run as they stand, on what a real run landed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fix_cli import command_streams
from fix_runs import Nightly
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call

DOCUMENT = (Path(__file__).parents[2] / "docs/consumers.md").read_text(encoding="utf-8")
PEOPLE = "CREATE TABLE person (id bigint, name text); INSERT INTO person VALUES (1, 'Ada'), (2, 'Grace')"


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def section(title: str) -> str:
    return re.split(rf"^##+ {re.escape(title)}$", DOCUMENT, flags=re.MULTILINE)[1].split("\n## ")[0]


@pytest.fixture
def lake(nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nightly:
    """A run's landing, as `lake` in the current folder."""
    nightly.database.execute(PEOPLE)
    nightly.run()
    (tmp_path / "lake").symlink_to(nightly.folder)
    monkeypatch.chdir(tmp_path)
    return nightly


def python(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code.replace("s3://my-lake/cases", "lake"), names)
    return names


def test_the_python_examples(
    lake: Nightly, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, etl, rows, travel, event = examples("python")
    python(reader)
    assert capsys.readouterr().out.splitlines()[1:] == ["Ada", "Grace"]
    python(etl)
    assert capsys.readouterr().out == "replace public.person 2\n"
    python(etl)
    assert capsys.readouterr().out == "", "the cursor has moved on"
    monkeypatch.setenv("LAKE", "lake")
    handler = python(event)["handler"]
    assert handler({}, None) == ["public.person"] and handler({}, None) == []
    python(rows)
    told = capsys.readouterr().out.splitlines()[-3:]
    assert told == [
        "created public.person (the whole table)",
        "insert public.person {'id': 1, 'name': 'Ada'}",
        "insert public.person {'id': 2, 'name': 'Grace'}",
    ]
    load()
    lake.database.execute("INSERT INTO person VALUES (3, 'Mary')")
    lake.run()
    assert handler({}, None) == ["public.person"]
    capsys.readouterr()
    python(rows)
    assert capsys.readouterr().out == "insert public.person {'id': 3, 'name': 'Mary'}\n"
    load()
    capsys.readouterr()
    python(travel)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "now 3" and [line.split()[-1] for line in said[1:]] == ["2", "3"]


def load() -> None:
    """What the document says to make Parquet files, a DuckDB file and Iceberg tables of the landing."""
    loads = re.findall(r"^    floodmark (load --into (?:duckdb|parquet|iceberg):.*)$", DOCUMENT, re.MULTILINE)
    assert len(loads) == 3
    for line in loads:
        words = line.replace("s3://my-lake/cases", "lake").replace("s3://my-lake/", "./").split()
        streams, _, err = command_streams({})
        assert call(parse(words), streams) == 0, err.getvalue()


def sql(title: str, table: str = "person") -> list[Any]:
    """What the last statement of a section's SQL finds."""
    (script,) = re.findall(r"```sql\n(.*?)```", section(title), re.DOTALL)
    with duckdb.connect() as connection:
        statements = [one for one in script.replace("'person'", f"'{table}'").split(";\n") if one]
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def shell(table: str = "person") -> subprocess.CompletedProcess[str]:
    (script,) = examples("sh")
    return subprocess.run(["/bin/sh", "-c", script.replace('"person"', f'"{table}"')], capture_output=True, text=True)


def test_the_sql_examples(lake: Nightly) -> None:
    """Plain SQL on the landing, and on what `load` made of it by the commands of the document."""
    load()
    with duckdb.connect("cases.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM public.person").fetchall() == [(2,)]
    assert sql("Parquet") == [(2,)] and sorted(sql("Plain SQL")) == [("Ada",), ("Grace",)]


@pytest.fixture(params=["beside others", "alone"])
def empty_lake(request: pytest.FixtureRequest, lake: Nightly) -> Nightly:
    """A lake whose `person` has no row, and so no object."""
    other = "CREATE TABLE visit (id int); INSERT INTO visit VALUES (1)" if request.param == "beside others" else ""
    lake.database.execute(f"TRUNCATE person; {other}")
    lake.run()
    return lake


def without_snapshot(lake: Nightly, **changed: Any) -> None:
    """Let the manifest say of `person` what is said of tables that are not to be had."""
    manifest = lake.folder / "_floodmark" / json.loads((lake.folder / "_floodmark/head.json").read_bytes())["manifest"]
    document = json.loads(manifest.read_bytes())
    for entry in document["tables"]:
        entry.update(changed if entry["name"] == "person" else {})
    manifest.write_text(json.dumps(document))


NOT_TO_BE_HAD = pytest.mark.parametrize(
    "changed", [{"status": "failed", "checksum": None, "objects": []}, {"status": "dropped"}], ids=["failed", "dropped"]
)


def test_the_sql_examples_on_a_table_without_rows(empty_lake: Nightly) -> None:
    load()
    assert sql("Parquet") == [(0,)] and sql("Plain SQL") == []


@NOT_TO_BE_HAD
def test_the_sql_examples_on_a_table_that_is_not_to_be_had(lake: Nightly, changed: dict[str, Any]) -> None:
    """It does not look like one without rows."""
    load()
    for title in ("Parquet", "Plain SQL"):
        with pytest.raises(duckdb.Error):
            sql(title, "nobody")
    without_snapshot(lake, **changed)
    with pytest.raises(duckdb.Error):
        sql("Plain SQL")


def test_the_python_examples_on_a_table_without_rows(
    empty_lake: Nightly, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, etl, rows, _, event = examples("python")
    python(reader)
    assert len(capsys.readouterr().out.splitlines()) == 1
    python(etl)
    assert "replace public.person 0\n" in capsys.readouterr().out
    python(rows)
    assert "created public.person (the whole table)\n" in capsys.readouterr().out
    monkeypatch.setenv("LAKE", "lake")
    assert "public.person" in python(event)["handler"]({}, None)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_shell_example(lake: Nightly) -> None:
    done = shell()
    assert (done.returncode, done.stdout) == (0, "Ada\nGrace\n"), done.stderr
    (path,) = lake.folder.rglob("person-*.gz")
    path.write_bytes(path.read_bytes() + b"x")
    assert shell().returncode != 0


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_shell_example_on_a_table_without_rows(empty_lake: Nightly) -> None:
    done = shell()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@NOT_TO_BE_HAD
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_shell_example_on_a_table_that_is_not_to_be_had(lake: Nightly, changed: dict[str, Any]) -> None:
    """It does not look like one without rows."""
    assert shell("nobody").returncode != 0
    without_snapshot(lake, **changed)
    assert shell().returncode != 0
