"""The public Python API: docs/api.md names it, its examples run, and importing it stays cheap."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import floodmark

ROOT = Path(__file__).parents[2]
PATH = {"PYTHONPATH": str(ROOT / "src")}
DOCUMENT = (ROOT / "docs/api.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the document's floodmark.yaml and a SQLite file."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("cases.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT)")
        database.execute("INSERT INTO person VALUES (1, 'Ada'), (2, 'Grace')")
    (settings,) = examples("yaml")
    Path("floodmark.yaml").write_text(settings, encoding="utf-8")
    return tmp_path


def test_the_examples_run_as_they_stand_in_the_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [
        "main.person first_run 1\n",
        "0 failed\nperson extracted 2\n",
        "['forced']\n",
        "Ada\nGrace\n",
        "10 missing.yaml\n",
    ]
    said = []
    for code in examples("python"):
        exec(code, {})
        said.append(capsys.readouterr().out)
    assert said == expected


def test_every_public_name_exists_and_none_is_a_subpackage() -> None:
    packages = {path.stem for path in (ROOT / "src/floodmark").iterdir()}
    for name in floodmark.__all__:
        assert getattr(floodmark, name) is not None
        assert name not in packages
    with pytest.raises(AttributeError, match="nothing"):
        floodmark.nothing  # noqa: B018 - the lookup is the test


@pytest.mark.parametrize("name", [name for name in floodmark.__all__ if name != "__version__"])
def test_every_public_name_has_a_docstring_and_a_place_in_the_document(name: str) -> None:
    found = getattr(floodmark, name)
    assert found.__doc__
    place = f"{found.__module__}.{name}"
    assert f"`floodmark.{name}" in DOCUMENT or f"::: {place}\n" in DOCUMENT


def test_importing_it_loads_nothing_else() -> None:
    program = "import sys; before = set(sys.modules); import floodmark; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=PATH)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("floodmark")} == {"floodmark", "floodmark.version"}
    assert not loaded & {"typing", "re", "msgspec", "sqlalchemy", "boto3"}, "each costs milliseconds"
