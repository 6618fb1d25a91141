"""docs/lake-example.md, run as it stands: two nights of a service, the loads, the model, the changes, the history."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from fix_postgres import PgDatabase

TEXT = (Path(__file__).parents[2] / "docs/lake-example.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def model_rows(model: str, folder: Path) -> list[tuple[Any, ...]]:
    """The rows of the model, with sources put in as dbt does it."""
    (source,) = yaml.safe_load((folder / "models/sources.yml").read_text())["sources"]
    names = {table["name"] for table in source["tables"]}

    def place(match: re.Match[str]) -> str:
        assert match[2] in names, "sources.yml does not know this table"
        return f'"{source["schema"]}"."{match[2]}"'

    statement = re.sub(r"\{\{ source\('(\w+)', '(\w+)'\) \}\}", place, model)
    with duckdb.connect(str(folder / "lake.duckdb"), read_only=True) as connection:
        return connection.execute(f"{statement} order by 1").fetchall()


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_example_does_what_it_says(
    pg: PgDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FLOODMARK_SOURCE": pg.url}
    model = next(one for one in blocks("text") if "source(" in one)
    rows = []
    for statements, script in zip(blocks("sql"), blocks("bash"), strict=True):
        pg.execute(statements)
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        rows.append([row[:3] for row in model_rows(model, tmp_path)])
    assert rows == [[(1, "Ada", 2), (2, "Grace", 1)], [(1, "Ada", 1), (2, "Grace Hopper", 2)]]
    changes = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert len([one for one in changes if "visit" in json.dumps(one)]) >= 2 and "Grace Hopper" in json.dumps(changes)
    (query,) = re.findall(r"^    (SELECT .*)$", TEXT, re.MULTILINE)
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as connection:
        assert connection.execute(query).fetchall() == [
            ("Grace", False),
            ("Grace Hopper", True),
        ]
    (python,) = blocks("python")
    exec(python, {})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "['2026-11-01', '2026-11-02', '2026-11-08']",
        "['2026-11-02', '2026-11-08', '2026-11-09']",
    ]
