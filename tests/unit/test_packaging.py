"""What is installed is what is imported: dependencies, extras, and nothing of the tests."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from floodmark.native import VARIABLE, is_built
from floodmark.reader import decoder

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# Imported under the name of what depends on it in any case, or for types alone.
NOT_BUILT = "Floodmark's native encoder was not built (no C compiler, or no Python.h): the server makes the lines."
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


# A compiler that does not find Python's headers.
NO_HEADERS = """#!/bin/sh
for one do
    shift
    case $one in -I*) ;; *) set -- "$@" "$one" ;; esac
done
exec cc "$@"
"""


def build(folder: Path, kind: str, **environment: str) -> tuple[Path, str]:
    """Build a wheel or a source distribution, as installers do. Return its file and what was printed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built, done.stdout + done.stderr


def names_in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if name.startswith("floodmark/native/")}


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_with_a_compiler_the_wheel_holds_the_encoder_and_no_source_of_it(tmp_path: Path) -> None:
    wheel, said = build(tmp_path / "wheel", "wheel")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    modules = {f"floodmark/native/{name}{suffix}" for name in ("encoder", "decoder")}
    assert modules <= names_in_wheel(wheel) and NOT_BUILT not in said
    assert not [name for name in names_in_wheel(wheel) if not name.endswith((".py", ".pyi", ".so"))]
    assert wheel.name.split("-")[2] == f"cp{sys.version_info[0]}{sys.version_info[1]}"
    with zipfile.ZipFile(wheel) as opened:
        compiled = b"".join(opened.read(name) for name in opened.namelist() if name.endswith(".so"))
    assert b"floodmark-build-" not in compiled and str(ROOT).encode() not in compiled, "no build has the same bytes"
    assert is_built() and decoder.is_built()  # `make` builds it in the checkout as well


def test_without_a_usable_compiler_the_wheel_is_pure_and_one_line_says_so(tmp_path: Path) -> None:
    """Both wheels have the same bytes, whatever surrounds their build."""
    compiler = tmp_path / "cc"
    compiler.write_text(NO_HEADERS, encoding="utf-8")
    compiler.chmod(0o755)
    digests = set()
    for chosen, zone, mask in (("false", "UTC", 0o022), (str(compiler), "Pacific/Kiritimati", 0o077)):
        previous = os.umask(mask)
        try:
            folder = tmp_path / zone
            wheel, said = build(folder, "wheel", CC=chosen, CXX=chosen, TZ=zone, SOURCE_DATE_EPOCH="1796000000")
        finally:
            os.umask(previous)
        assert [line for line in said.splitlines() if "encoder" in line] == [NOT_BUILT]
        assert wheel.name.endswith("-py3-none-any.whl")
        assert not [name for name in names_in_wheel(wheel) if name.endswith(".so")]
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_source_distribution_holds_the_encoders_source(tmp_path: Path) -> None:
    archive, _ = build(tmp_path / "sdist", "sdist")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"hatch_build.py", "src/floodmark/native/encoder.pyx", "src/floodmark/native/decoder.pyx"} <= names
    assert not [name for name in names if name.endswith((".so", ".c", ".cpp"))]


def test_make_builds_the_encoder_again_if_its_source_changed() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rule = re.search(
        r"^\$\(READY\): .*hatch_build\.py \$\(ENCODER\)\n\t\$\(BIN\)/python hatch_build\.py$", makefile, re.M
    )
    assert rule is not None


def spoiled(module: Path) -> None:
    module.write_bytes(b"\x7fELF of another system")


def replaced(module: Path) -> None:
    """Put the Python code of another version next to the module."""
    (module.parents[1] / "version.py").write_text('__version__ = "99.0.0"\n', encoding="utf-8")


@pytest.mark.skipif(not is_built(), reason="the native encoder is not built")
@pytest.mark.parametrize(("change", "why"), [(spoiled, "another system"), (replaced, "another version")])
def test_a_module_that_does_not_fit_is_refused(tmp_path: Path, change: Callable[[Path], None], why: str) -> None:
    shutil.copytree(ROOT / "src/floodmark", tmp_path / "floodmark", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (tmp_path / "floodmark/native").glob("*.so"):
        change(module)

    def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {name: value for name, value in os.environ.items() if name != VARIABLE}
        paths = {"PYTHONPATH": str(tmp_path), **environment}
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env={**known, **paths}, capture_output=True, text=True
        )

    refused = python("-m", "floodmark", "--version")
    assert refused.returncode == 10 and "can't load the native encoder" in refused.stderr and why in refused.stderr
    assert "Traceback" not in refused.stderr and f"{VARIABLE}=server" in refused.stderr
    assert python("-m", "floodmark", "--version", **{VARIABLE: "server"}).stdout.endswith("encoder: server\n")
    assert python("-c", "from floodmark.reader import decoder; print(decoder.is_built())").stdout == "False\n"
