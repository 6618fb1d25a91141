"""Completion scripts: each shell accepts its own, and bash completes commands, options and choices with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from floodmark.cli.arguments import option_strings, parser, subcommands
from floodmark.cli.arguments.setup import SHELLS
from floodmark.cli.main import main

# Ask bash for the completions of a line, as a TAB at its end does.
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p floodmark | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" floodmark "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_accepts_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert all(word in text for word in subcommands(parser())) and "detailed-exitcode" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "completion"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run([shell, "-n", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        (["ver"], {"verify"}),
        (["p"], {"plan", "prune"}),
        (["config", ""], {"schema"}),
        (["completion", ""], set(SHELLS)),
        (["plan", "--det"], {"--detailed-exitcode"}),
        (["run", "--output", ""], {"text", "json"}),
        (["verify", "--"], {*option_strings("verify"), "--help"}),
    ],
)
def test_bash_completes(
    line: list[str], completions: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    file = tmp_path / "completion"
    file.write_text(script("bash", capsys), encoding="utf-8")
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", file, "floodmark", *line], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == completions, done.stderr
