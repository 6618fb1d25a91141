"""Check that a release agrees with itself: the tag, pyproject.toml, version.py, the chart and CHANGELOG.md.

    python ops/release/agree.py v0.2.0

Prints each disagreement, and ends with 1 if there is one. Without a tag, everything else must agree.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SECTION = re.compile(r"^## \[(?P<version>[^\]]+)\] - (?P<date>.*)$", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def disagreements(root: Path, tag: str | None) -> list[str]:
    """Return what differs from the version in pyproject.toml, in words. A tag also needs a dated section."""
    version = tomllib.loads(_text(root, "pyproject.toml"))["project"]["version"]
    chart = _text(root, "ops/helm/floodmark/Chart.yaml")
    found = {
        "src/floodmark/version.py": _named(r'^__version__ = "(.*)"$', _text(root, "src/floodmark/version.py")),
        "Chart.yaml, version": _named(r"^version: (.*)$", chart),
        "Chart.yaml, appVersion": _named(r'^appVersion: "(.*)"$', chart),
        "CHANGELOG.md, first section": _named(_SECTION.pattern, _text(root, "CHANGELOG.md")),
    }
    if tag is not None:
        found["the tag"] = tag.removeprefix("v") if tag.startswith("v") else f"{tag}, without a v"
    wrong = [
        f"{where}: {there}, but pyproject.toml says {version}" for where, there in found.items() if there != version
    ]
    return wrong + ([] if tag is None else _undated(_text(root, "CHANGELOG.md")))


def _undated(changelog: str) -> list[str]:
    section = _SECTION.search(changelog)
    if section is not None and _DATE.fullmatch(section["date"]):
        return []
    return ["CHANGELOG.md, first section: a release needs a date, as in `## [1.2.3] - 2026-11-30`"]


def _text(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="utf-8")


def _named(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return "missing" if found is None else found[1]


def main() -> int:
    wrong = disagreements(ROOT, sys.argv[1] if len(sys.argv) > 1 else None)
    print("\n".join(wrong) if wrong else "The release agrees with itself.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
