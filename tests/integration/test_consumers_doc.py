"""The examples of docs/consumers.md are run as they stand, on what a real run landed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fix_cli import session
from fix_runs import Nightly
from floodmark.cli.arguments import parse
from floodmark.cli.commands import COMMANDS

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
    reader, etl, event = examples("python")
    python(reader)
    assert capsys.readouterr().out.splitlines()[1:] == ["Ada", "Grace"]
    python(etl)
    assert capsys.readouterr().out == "replace public.person 2\n"
    python(etl)
    assert capsys.readouterr().out == "", "the cursor has moved on"
    monkeypatch.setenv("LAKE", "lake")
    handler = python(event)["handler"]
    assert handler({}, None) == ["public.person"] and handler({}, None) == []
    lake.database.execute("INSERT INTO person VALUES (3, 'Mary')")
    lake.run()
    assert handler({}, None) == ["public.person"]


def test_the_sql_examples(lake: Nightly) -> None:
    """Plain SQL on the landing, and on what `load` made of it by the commands of the document."""
    loads = re.findall(r"^    floodmark (load --into (?:duckdb|parquet):.*)$", DOCUMENT, re.MULTILINE)
    assert len(loads) == 2
    for line in loads:
        words = line.replace("s3://my-lake/cases", "lake").replace("s3://my-lake/", "").split()
        talk, _, err = session({})
        assert COMMANDS["load"](parse(words), talk) == 0, err.getvalue()
    with duckdb.connect("cases.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM public.person").fetchall() == [(2,)]
    for title, expected in (("Parquet", [(2,)]), ("Plain SQL", [("Ada",), ("Grace",)])):
        (script,) = re.findall(r"```sql\n(.*?)```", section(title), re.DOTALL)
        with duckdb.connect() as connection:
            found = [connection.execute(statement).fetchall() for statement in script.split(";\n") if statement]
        assert sorted(found[-1]) == expected


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_shell_example(lake: Nightly) -> None:
    (script,) = examples("sh")
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Ada\nGrace\n"), done.stderr
    (path,) = lake.folder.rglob("person-*.gz")
    path.write_bytes(path.read_bytes() + b"x")
    assert subprocess.run(["/bin/sh", "-c", script], capture_output=True).returncode != 0
