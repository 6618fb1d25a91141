"""`floodmark demo --source mariadb` from end to end, with fewer rows than a person gets to see."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from pathlib import Path

import pytest

from fix_mariadb import require_mariadb
from floodmark.cli.main import main
from floodmark.demo import mariadb, story
from floodmark.errors import EXIT_OK, ConfigError
from floodmark.model import TableEntry
from floodmark.state.manifest import Manifest, decode

pytestmark = pytest.mark.xdist_group("demo_mariadb")  # one worker: the demo is run once for the whole file

PEOPLE = 80
DAY_THREE = {
    "person": "rows_changed",
    "cell_movement": "rows_changed",
    "audit_event": "rows_changed",
    "alert": "rows_changed",
    "hearing": "schema_changed",
}


class Told:
    """What a demo left and said."""

    def __init__(self, landing: Path, code: int, text: str) -> None:
        self.landing, self.code, self.text = landing, code, text

    @property
    def days(self) -> list[Manifest]:
        documents = (self.landing / "_floodmark" / "manifests").glob("*.json")
        return sorted(
            (decode(Manifest, path.read_bytes(), path.name) for path in documents), key=lambda one: one.timestamp
        )

    def lines(self, entry: TableEntry) -> list[dict[str, object]]:
        return [
            json.loads(line)
            for item in entry.objects
            for line in gzip.decompress((self.landing / item.key).read_bytes()).splitlines()
        ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Told:
    require_mariadb()
    directory, out = tmp_path_factory.mktemp("demo"), io.StringIO()
    code = story.main(directory, out, people=PEOPLE, source="mariadb")
    return Told(directory / "landing", code, out.getvalue())


def test_three_days_pass_as_they_are_told(demo: Told) -> None:
    first, second, third = demo.days
    assert demo.code == EXIT_OK
    assert {(entry.status, entry.reason.code) for entry in first.tables} == {("extracted", "first_run")}
    assert {(entry.status, entry.reason.code) for entry in second.tables} == {("unchanged", "unchanged")}
    assert {e.name: e.reason.code for e in third.tables if e.status == "extracted"} == DAY_THREE
    assert {e.status for e in third.tables if e.name not in DAY_THREE} == {"unchanged"}
    assert "11 tables: 0 extracted, 11 unchanged, 0 failed; nothing written in" in demo.text
    assert all(words in demo.text for words in ("MariaDB", "a digest of each part", "one alert is deleted"))


def test_the_files_hold_the_rows_of_one_moment(demo: Told) -> None:
    for manifest in demo.days:
        assert manifest.consistent and "binary log" in str(manifest.source.snapshot.consistency)
        for entry in manifest.tables:
            assert len(demo.lines(entry)) == entry.rows, entry.table.label
    rows = {entry.name: entry.rows for entry in demo.days[2].tables}
    assert (rows["cell_movement"], rows["alert"]) == (PEOPLE * 40 + 250, PEOPLE // 2 - 1)


def test_sensitive_columns_are_hashed_or_left_out(demo: Told) -> None:
    (person,) = (entry for entry in demo.days[2].tables if entry.name == "person")
    for line in demo.lines(person):
        assert "home_address" not in line
        assert re.fullmatch("[0-9a-f]{64}", str(line["national_insurance_number"]))


def test_without_a_server_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mariadb, "_PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["demo", "--source", "mariadb", "--directory", str(tmp_path / "demo")]) == ConfigError.exit_code
    assert "apt-get install mariadb-server" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_without_the_driver_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_mariadb()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pymysql"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[mysql\]'"):
        story.main(tmp_path / "demo", io.StringIO(), source="mariadb")
    assert not (tmp_path / "demo").exists()
