"""The help of each command: complete, true, narrow enough for a terminal, and in plain words."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fix_language import archaic_words
from floodmark.cli.arguments import parse, parser, subcommands
from floodmark.cli.commands import MODULES
from floodmark.cli.main import main

ROOT = Path(__file__).parents[2]
COMMANDS = list(subcommands(parser()))
HELPS: list[list[str]] = [[], *([command] for command in COMMANDS), ["config", "schema"]]
Reader = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def help_of(words: list[str], capsys: Reader) -> str:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def section(text: str, title: str) -> list[str]:
    """The lines of one section, without the margin."""
    found = re.search(rf"^{title}:\n((?:  .*\n)+)", text, re.MULTILINE)
    return [] if found is None else [line.removeprefix("  ") for line in found[1].splitlines()]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_fits_80_columns_and_has_no_archaic_word(words: list[str], capsys: Reader) -> None:
    text = help_of(words, capsys)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert archaic_words(text) == [] and "\x1b" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_paragraph_two_examples_and_its_exit_codes(command: str, capsys: Reader) -> None:
    text = help_of([command], capsys)
    usage, paragraph, *_ = text.split("\n\n")
    assert usage.startswith(f"usage: floodmark {command}") and paragraph[0].isupper() and paragraph.endswith(".")
    assert len(section(text, "examples")) == 2
    codes = [int(line.split()[0]) for line in section(text, "exit codes")]
    assert codes[:3] == [0, 1, 2] and codes == sorted(codes)
    cli = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert all(f"\n| `{code}` | " in cli for code in codes)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_are_command_lines_that_parse(command: str, capsys: Reader) -> None:
    for line in section(help_of([command], capsys), "examples"):
        plain = line.partition(" > ")[0].replace('eval "$(', "").replace(')"', "")
        program, *words = shlex.split(plain)
        assert program == "floodmark" and parse(words).command == command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_variables_are_documented_ones(command: str, capsys: Reader) -> None:
    configuration = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    named = [name for line in section(help_of([command], capsys), "environment") for name in line.split("  ")[:1]]
    for name in re.findall(r"[A-Z][A-Z_]+", " ".join(named)):
        assert f"`{name}`" in configuration


def test_each_command_has_a_function_in_its_module() -> None:
    assert list(MODULES) == COMMANDS
    for command, module in MODULES.items():
        text = (ROOT / f"src/floodmark/cli/commands/{module}.py").read_text(encoding="utf-8")
        assert f"def {command}(options: argparse.Namespace, streams: CommandStreams) -> int:" in text


def on_a_terminal(*arguments: str, **environ: str) -> str:
    """Everything that a terminal of 80 columns gets."""
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "80", **environ}
    command = [sys.executable, "-m", "floodmark", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a pseudo-terminal says so that its other side is closed
        return b""


@pytest.mark.parametrize("command", ["run", "prune", "load"])
def test_on_a_terminal_help_is_the_same_text_in_colour(command: str, capsys: Reader) -> None:
    coloured = on_a_terminal(command, "--help")
    assert "\x1b[1m" in coloured and "\x1b[36m--" in coloured
    plain = help_of([command], capsys)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == plain.split()
    assert on_a_terminal(command, "--help", NO_COLOR="1") == plain
    assert on_a_terminal(command, "--help", TERM="dumb") == plain


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"], ["rum"]])
def test_parsing_loads_no_command_no_settings_and_no_rich(arguments: list[str]) -> None:
    script = "import sys\nfrom floodmark.cli.main import main\nmain(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    loaded = done.stderr.splitlines()[-1].split(" ")
    heavy = {"rich", "rich_argparse", "shtab", "floodmark.pipeline"}
    if arguments != ["rum"]:  # the suggestion comes from a module of the settings
        heavy.add("yaml")
    assert not heavy & set(loaded) and not [name for name in loaded if name.startswith("floodmark.cli.commands.")]
