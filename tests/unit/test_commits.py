"""The check of commit subjects: by hand, as Git's hook, and over a range of commits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from commits import problem, written

SCRIPT = Path(__file__).parents[1] / "commits.py"
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


@pytest.mark.parametrize(
    "message",
    [
        "s3: retry SlowDown with jitter",
        "state.ledger: keep the newest head",
        "docs, tests: name every key",
        "cli/init: write the modeline\n\nEditors complete the file then.",
        "a: " + "b" * 69,
        "Merge branch 'main' into topic",
        'Revert "s3: retry SlowDown with jitter, and whatever else makes this one much longer than it should be"',
    ],
)
def test_a_good_subject_is_accepted(message: str) -> None:
    assert problem(message) is None


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("a: " + "b" * 70, "73 characters"),
        ("Retry SlowDown with jitter", "area: summary"),
        ("S3: retry SlowDown", "area: summary"),
        ("s3: Retry SlowDown", "area: summary"),
        ("s3:retry SlowDown", "area: summary"),
        ("s3: ", "area: summary"),
        ("", "area: summary"),
        ("s3: retry SlowDown.", "full stop"),
        ("s3: retry  SlowDown", "blanks"),
        ("s3: retry SlowDown\nwith jitter", "empty line"),
    ],
)
def test_another_subject_is_refused_with_the_reason(message: str, why: str) -> None:
    assert why in (problem(message) or "")


def test_comments_and_what_git_cuts_off_are_no_part_of_a_message() -> None:
    cut = "# ------------------------ >8 ------------------------\ndiff --git a b\n"
    assert written(f"\n# why\ns3: retry\n# more\n\nIt helps. \n\n{cut}") == "s3: retry\n\nIt helps."


def check(*arguments: str | Path, folder: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, SCRIPT, *arguments], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_the_hook_is_given_a_file(tmp_path: Path) -> None:
    file = tmp_path / "COMMIT_EDITMSG"
    for text, code in (("s3: retry\n", 0), ("Retry\n", 1), ("fixup! Retry\n", 0), ("# nothing\n", 0)):
        file.write_text(text)
        assert check(file, folder=tmp_path)[0] == code
    assert check(folder=tmp_path)[0] == check("--all", folder=tmp_path)[0] == 2


def test_every_commit_after_a_revision_is_checked(tmp_path: Path) -> None:
    def commit(message: str) -> None:
        subprocess.run(
            ["git", *IDENTITY, "commit", "-q", "--no-verify", "--allow-empty", "-m", message], cwd=tmp_path, check=True
        )

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit("The first one is older than the rule")
    subprocess.run(["git", "tag", "start"], cwd=tmp_path, check=True)
    commit("s3: retry SlowDown\n\nWith a body.")
    assert check("--since", "start", folder=tmp_path) == (0, "")
    commit("Retry it")
    commit("fixup! s3: retry SlowDown")
    code, told = check("--since", "start", folder=tmp_path)
    assert code == 1 and told.count("area: summary") == 2 and "\n  Retry it\n" in told
