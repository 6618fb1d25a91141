"""Documentation, in both directions: what exists is documented, and what is documented exists."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from floodmark import errors
from floodmark.cli.arguments import option_strings, parser, subcommands
from floodmark.config import Flags, Settings, load
from floodmark.config.schema import keys

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
VARIABLE = re.compile(r'"((?:FLOODMARK|S3)_[A-Z_]+|NO_COLOR)"')
BASE = {"FLOODMARK_SOURCE": "sqlite:///a.db", "FLOODMARK_DESTINATION": "s3://mine/lake"}


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of all table rows below a line that begins with `| head |`."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(f"| {head} |"):
            inside = True
        elif inside and line.startswith("| `"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif not line.startswith("|"):
            inside = False
    return found


def names(text: str, head: str) -> list[str]:
    """What stands in backquotes in the first column, up to a space."""
    return [cells[0].strip("`").split()[0] for cells in rows(text, head)]


def section(title: str) -> str:
    """A second-level section of docs/cli.md."""
    return re.split(rf"^## {re.escape(title)}$", CLI, flags=re.MULTILINE)[1].split("\n## ")[0]


def test_every_key_is_documented_once_and_every_documented_key_exists() -> None:
    assert sorted(names(CONFIGURATION, "key")) == sorted(keys())


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/floodmark").rglob("*.py")))
    assert set(names(CONFIGURATION, "variable")) == set(VARIABLE.findall(code))


@pytest.mark.parametrize("command", [None, *subcommands(parser())])
def test_every_option_is_documented_and_every_documented_one_exists(command: str | None) -> None:
    title = "floodmark" if command is None else f"floodmark {command}"
    assert sorted(names(section(title), "option")) == sorted(option_strings(command))


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    assert set(re.findall(r"^## floodmark (\w+)$", CLI, re.MULTILINE)) == set(subcommands(parser()))


def test_every_exit_code_is_documented_and_every_documented_one_exists() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.FloodmarkError)}
    codes |= {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    codes |= {errors.Stopped(number).code for number in (signal.SIGINT, signal.SIGTERM)}
    assert sorted(map(int, names(CLI, "code"))) == sorted(codes)


def example() -> str:
    return CONFIGURATION.split("```yaml\n")[1].split("```")[0]


def loaded(text: str, folder: Path) -> Settings:
    file = folder / "floodmark.yaml"
    file.write_text(text, encoding="utf-8")
    return load(Flags(config=file), {**BASE, "FLOODMARK_MASK_KEY": "k"})


def test_the_example_is_accepted(tmp_path: Path) -> None:
    settings = loaded(example(), tmp_path)
    assert settings.source.wait_seconds == 600
    assert settings.selection.rules["public.person"].columns.mask["middle_name"] == "null"


def test_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    """A file that sets every documented default, where that is a value, changes nothing."""
    document: dict[str, Any] = {}
    count = 0
    for key, default, *_ in rows(CONFIGURATION, "key"):
        value = re.fullmatch(r"`([^<`]*)`", default)
        if value is None or "*" in key:
            continue
        section_name, _, inner = key.strip("`").rpartition(".")
        within = document.setdefault(section_name, {}) if section_name else document
        within[inner] = yaml.safe_load(value[1])
        count += 1
    assert count >= 14
    assert loaded(yaml.safe_dump(document), tmp_path) == loaded("", tmp_path)
