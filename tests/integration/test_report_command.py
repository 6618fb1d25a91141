"""`floodmark report` after real runs of SQLite: the file, its exit codes, and what can go wrong with it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from floodmark.cli.main import main
from floodmark.report import page
from floodmark.report.library import chart_library

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

Reader = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def short_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here runs the page's script."""
    monkeypatch.setattr(page, "chart_library", lambda: "/* the library */")


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights of a database: a table grows, then gets a column, then another table is dropped."""
    folder = tmp_path_factory.mktemp("landed")
    nights = (
        "CREATE TABLE item (id INTEGER PRIMARY KEY, secret TEXT); CREATE TABLE old (a);"
        "INSERT INTO item VALUES (1, 'hunter2')",
        "INSERT INTO item VALUES (2, 'hunter2'); ALTER TABLE item ADD COLUMN note TEXT",
        "DROP TABLE old",
    )
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for night in nights:
            database.executescript(night)
            options = ["--source", f"sqlite:///{folder}/shop.db", "--destination", str(folder / "lake")]
            assert main(["run", *options, "--log-level", "error"], {}) == 0
    return folder / "lake"


def data_of(html: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="text/plain" class="data">([^<]*)</script>', html)
    document: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found)))
    return document


def test_three_real_nights_are_in_the_file_and_no_row(landed: Path, tmp_path: Path, capsys: Reader) -> None:
    assert main(["report", "--destination", str(landed), "--html", str(tmp_path / "r.html")], {}) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    data = data_of(html)
    assert data["tables"] == [["main", "item"], ["main", "old"]]
    assert data["cells"] == ["nn", "ci", "id"]
    assert [[change[0] for change in changes] for changes in data["changes"]] == [
        [],
        ["column_added"],
        ["table_dropped"],
    ]
    assert "hunter2" not in html + json.dumps(data)
    assert [one.name for one in tmp_path.iterdir()] == ["r.html"]
    assert capsys.readouterr().err == ""


def test_fewer_nights_are_shown_if_asked_for(landed: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    assert main(["report", "--destination", str(landed), "--html", str(target), "--nights", "2"], {}) == 0
    assert len(data_of(target.read_text(encoding="utf-8"))["runs"]) == 2


def test_stdout_gets_the_page_and_nothing_else(landed: Path, capsys: Reader) -> None:
    assert main(["report", "--destination", str(landed), "--html", "-"], {}) == 0
    said = capsys.readouterr()
    assert said.out.startswith("<!doctype html>") and said.out.rstrip().endswith("</html>") and said.err == ""


def test_a_state_that_is_not_there_is_shown_and_sets_the_exit_code(
    landed: Path, tmp_path: Path, capsys: Reader
) -> None:
    states = ["--state", str(tmp_path / "none"), "--state", str(landed / "_floodmark")]
    assert main(["report", *states, "--html", str(tmp_path / "r.html")], {}) == 13
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "2 databases, 0 in good order" in html and "there is no state to read" in html
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_states_that_are_away_delay_a_report_of_many_little(
    landed: Path, tmp_path: Path, capsys: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ENDPOINT_URL_S3", "http://127.0.0.1:9"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    places = ("s3://lake/a", str(landed / "_floodmark"), "s3://lake/b")
    states = [part for place in places for part in ("--state", place)]
    assert main(["report", *states, "--html", str(tmp_path / "r.html")], {}) == 13
    told = capsys.readouterr().err
    assert len(pauses) == 2 and "retry" not in told
    assert told.index("s3://lake/a") < told.index("s3://lake/b")
    assert "3 databases, 0 in good order" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_before_the_first_commit_there_is_a_page(tmp_path: Path, capsys: Reader) -> None:
    listed = Path(__file__).parents[1] / "formats" / "inflight-1-ended.json"
    (tmp_path / "inflight.json").write_bytes(listed.read_bytes())
    assert main(["report", "--state", str(tmp_path), "--html", str(tmp_path / "r.html")], {}) == 0
    assert "no run has been committed yet" in capsys.readouterr().err
    assert "No run has been committed yet." in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_damaged_state_is_shown_and_told(landed: Path, tmp_path: Path, capsys: Reader) -> None:
    (tmp_path / "head.json").write_text("{")
    assert main(["report", "--state", str(tmp_path), "--html", str(tmp_path / "r.html")], {}) == 13
    assert "not JSON" in capsys.readouterr().err
    assert "state can&#39;t be read" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("moment", ["soon", "2026-11-30T01:02:03", "2026-13-01T00:00:00Z"])
@pytest.mark.parametrize("field", ["started_at", "ended_at"])
def test_an_impossible_time_in_a_state_is_told_by_each_reader(
    landed: Path, tmp_path: Path, capsys: Reader, field: str, moment: str
) -> None:
    state = tmp_path / "state"
    shutil.copytree(landed / "_floodmark", state)
    listed = json.loads((state / "inflight.json").read_text())
    listed["ended"]["last"][field] = moment
    (state / "inflight.json").write_text(json.dumps(listed))
    for command in (["status"], ["history"], ["report", "--html", str(tmp_path / "r.html")]):
        assert main([*command, "--state", str(state)], {}) == 13, command
        assert f"unexpected text - at `$.ended.last.{field}`" in capsys.readouterr().err
    assert main(["status", "--state", str(state), "--state", str(landed / "_floodmark")], {}) == 13
    assert "shop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "why"), [("none/r.html", "its folder does not exist"), ("", "it is a folder"), ("f/r.html", "folder")]
)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_read(
    landed: Path, tmp_path: Path, capsys: Reader, place: str, why: str
) -> None:
    (tmp_path / "f").write_text("a file")
    assert main(["report", "--destination", str(landed), "--html", str(tmp_path / place)], {}) == 2
    assert why in capsys.readouterr().err


def test_the_old_report_stays_if_the_new_one_cannot_be_written(
    landed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Reader
) -> None:
    target = tmp_path / "r.html"
    target.write_text("old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    assert main(["report", "--destination", str(landed), "--html", str(target)], {}) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert target.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["r.html"]


def test_a_report_needs_a_file_and_a_state(capsys: Reader) -> None:
    assert main(["report", "--destination", "x"], {}) == 2
    assert "--html" in capsys.readouterr().err
    assert main(["report", "--html", "r.html"], {}) == 10
    assert "no destination is given" in capsys.readouterr().err


def test_the_real_library_is_bundled_once_by_another_process() -> None:
    text = chart_library()
    assert "vegaEmbed" in text and "</script" not in text and chart_library() is text
