"""The files that let people join: they fit each other, the Makefile and pyproject.toml."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import guards

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
# Documents at the root, which link to each other and name targets of the Makefile.
PAGES = sorted(ROOT.glob("*.md"))


def loaded(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def test_the_site_has_every_page_and_needs_nothing_from_outside() -> None:
    """A strict build finds a page that the navigation omits, if it lies below docs/; the others are listed by hand."""
    tree = ast.parse((ROOT / "docs/_site/pages.py").read_text(encoding="utf-8"))
    (elsewhere,) = [
        ast.literal_eval(one.value)
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id == "ELSEWHERE"
    ]
    assert {path.name for path in PAGES} <= set(elsewhere)
    site = loaded(ROOT / "mkdocs.yml")
    assert site["theme"]["font"] is False and "repo_url" not in site
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | set(elsewhere.values())
    told = [
        page
        for entry in site["nav"]
        for inside in entry.values()
        for page in ([inside] if isinstance(inside, str) else [one for each in inside for one in each.values()])
    ]
    assert sorted(told) == sorted(pages)
    assert re.search(r"^check:.*\n(?:\t.*\n)*\t\$\(MAKE\) docs$", MAKEFILE, re.MULTILINE)


def test_ci_checks_every_python_from_the_oldest_supported_one() -> None:
    job = loaded(ROOT / ".github/workflows/check.yml")["jobs"]["check"]
    versions = job["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={versions[0]}"
    assert "make check" in [step.get("run") for step in job["steps"]]


def test_every_action_has_a_version_that_dependabot_can_raise() -> None:
    for workflow in sorted((ROOT / ".github/workflows").glob("*.yml")):
        used = re.findall(r"uses: (\S+)", workflow.read_text(encoding="utf-8"))
        assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+\.\d+)?", one) for one in used), workflow.name
    updates = loaded(ROOT / ".github/dependabot.yml")["updates"]
    assert {one["package-ecosystem"] for one in updates} >= {"pip", "github-actions", "docker"}
    assert all((ROOT / one["directory"].lstrip("/")).is_dir() for one in updates)


@pytest.mark.parametrize("path", [one for one in FORMS if one.name != "config.yml"], ids=lambda path: path.stem)
def test_every_form_asks_something_and_no_question_twice(path: Path) -> None:
    form = loaded(path)
    assert form["name"] and form["description"] and form["labels"]
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    names = [part["id"] for part in questions]
    assert len(set(names)) == len(names) and all(part["attributes"]["label"] for part in questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


def test_there_is_a_form_for_each_kind_of_issue() -> None:
    assert {path.stem for path in FORMS} == {"bug", "wrong-data", "feature", "config"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_at_the_root_names_files_and_targets_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target
    for name in re.findall(r"^\| `([\w/]+/)` \|", text, re.MULTILINE):
        assert (ROOT / name).is_dir(), name
    assert set(re.findall(r"`make ([a-z]+)`", text)) <= TARGETS


def test_each_guard_that_make_guards_removes_is_in_the_source_once() -> None:
    missing = [
        (one.name, edit.file)
        for one in guards.EVERY
        for edit in one.edits
        if (ROOT / "src/floodmark" / edit.file).read_text(encoding="utf-8").count(edit.old) != 1
    ]
    assert missing == [] and len(guards.EVERY) > 100
