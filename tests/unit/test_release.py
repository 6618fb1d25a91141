"""The release: its version in every place, its workflow, and the tools that build it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from agree import disagreements

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
JOBS: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOW)["jobs"]
PLACES = ("pyproject.toml", "src/floodmark/version.py", "ops/helm/floodmark/Chart.yaml", "CHANGELOG.md")


def copied(folder: Path, place: str = "", old: str = "", new: str = "") -> Path:
    """Copy the files that hold the version, and replace a text in one of them."""
    for name in PLACES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    if place:
        text = (folder / place).read_text(encoding="utf-8")
        assert old in text
        (folder / place).write_text(text.replace(old, new), encoding="utf-8")
    return folder


def test_every_place_has_the_same_version() -> None:
    assert disagreements(ROOT, None) == []


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("src/floodmark/version.py", '"0.', '"9.'),
        ("ops/helm/floodmark/Chart.yaml", "\nversion: ", "\nversion: 9"),
        ("ops/helm/floodmark/Chart.yaml", 'appVersion: "', 'appVersion: "9'),
        ("CHANGELOG.md", "## [0.", "## [9."),
    ],
)
def test_a_place_with_another_version_is_named(tmp_path: Path, place: str, old: str, new: str) -> None:
    (told,) = disagreements(copied(tmp_path, place, old, new), None)
    assert told.startswith(Path(place).name if place.startswith("ops") else place)


@pytest.mark.parametrize("tag", ["0.2.0", "v9.0.0", "v0.2.0rc1"])
def test_a_tag_must_be_the_version_with_a_v(tmp_path: Path, tag: str) -> None:
    assert [told for told in disagreements(copied(tmp_path), tag) if told.startswith("the tag")]


@pytest.mark.parametrize(("date", "accepted"), [("2026-11-30", True), ("unreleased", False), ("soon", False)])
def test_a_release_needs_a_date(tmp_path: Path, date: str, accepted: bool) -> None:
    root = copied(tmp_path)
    path = root / "CHANGELOG.md"
    path.write_text(re.sub(r"(?m)^(## \[[^\]]+\]) - .*$", rf"\1 - {date}", path.read_text(), count=1))
    version = re.search(r"(?m)^## \[([^\]]+)\]", path.read_text())
    assert version is not None
    assert (disagreements(root, f"v{version[1]}") == []) == accepted


def test_the_workflow_checks_the_tag_before_it_builds() -> None:
    runs = [step.get("run", "") for step in JOBS["sources"]["steps"]]
    assert runs.index('python ops/release/agree.py "$GITHUB_REF_NAME"') < runs.index("make dist")
    for job, needed in {"wheels": "sources", "publish": "attest", "page": "publish", "image": "attest"}.items():
        assert JOBS[job]["needs"] == needed
    assert JOBS["attest"]["needs"] == ["sources", "wheels"]


def test_no_job_has_more_rights_than_it_needs() -> None:
    assert yaml.safe_load(WORKFLOW)["permissions"] == {}
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "sources": {"contents": "read"},
        "wheels": {"contents": "read"},
        "attest": {"attestations": "write", "id-token": "write"},
        "publish": {"id-token": "write"},
        "page": {"contents": "write"},
        "image": {"attestations": "write", "contents": "read", "id-token": "write", "packages": "write"},
    }
    assert "secrets." not in WORKFLOW
    assert WORKFLOW.count("persist-credentials: false") == WORKFLOW.count("actions/checkout@")


def test_what_publishes_runs_nothing_of_ours() -> None:
    assert JOBS["publish"]["environment"] == "package-index"
    assert not [step for step in JOBS["publish"]["steps"] if "checkout" in step.get("uses", "")]
    assert all(step["run"].startswith("mkdir dist && mv ") for step in JOBS["publish"]["steps"] if "run" in step)


@pytest.mark.parametrize("name", ["tools.txt", "wheels.txt"])
def test_the_tools_of_a_release_are_pinned(name: str) -> None:
    lines = (ROOT / "ops/release" / name).read_text(encoding="utf-8").splitlines()
    tools = [line for line in lines if not line.startswith("#")]
    assert tools and all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in tools)
