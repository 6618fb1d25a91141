"""What is installed is what is imported: dependencies, extras, and nothing of the tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# Imported under the name of what depends on it in any case, or for types alone.
OTHERWISE = {"botocore": "boto3", "mypy_boto3_s3": "boto3", "mypy_boto3_glue": "boto3"}


def distribution(requirement: str) -> str:
    """`psycopg[binary]>=3.2` → `psycopg`."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def imports(path: Path) -> set[tuple[str, bool]]:
    """Top-level packages that a module imports, each with whether it does so as an optional extra."""
    found: set[tuple[str, bool]] = set()
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            optional = "optional extra" in lines[node.lineno - 1]
            found |= {(name.partition(".")[0], optional) for name in names}
    return {one for one in found if one[0] not in {"floodmark", "__future__", *sys.stdlib_module_names}}


def test_what_a_module_imports_is_declared() -> None:
    required = {distribution(one) for one in PROJECT["dependencies"]}
    extra = {distribution(one) for some in EXTRAS.values() for one in some}
    installed = packages_distributions()
    for path in (ROOT / "src/floodmark").rglob("*.py"):
        for name, optional in imports(path):
            package = OTHERWISE.get(name, name)
            providers = {found.lower().replace("_", "-") for found in installed.get(package, [package])}
            allowed = extra if optional else required
            assert providers & allowed, f"{path.name} imports {name}, which pyproject.toml does not declare for that"


def test_all_means_every_extra() -> None:
    (everything,) = EXTRAS["all"]
    named = re.fullmatch(r"floodmark\[(.*)\]", everything)
    assert named is not None and sorted(named[1].split(",")) == sorted(set(EXTRAS) - {"all"})


def test_the_readme_names_every_extra() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`\.\[(\w+)\]`", readme)) == set(EXTRAS)


def test_the_licence_is_named_and_goes_into_every_build() -> None:
    """The image is built from few files: without the licence among them its build stops."""
    assert PROJECT["license"] == "MIT" and PROJECT["license-files"] == ["LICENSE"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert "!LICENSE" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert re.search(r"^COPY .*\bLICENSE\b", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
