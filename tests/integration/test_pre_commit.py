"""The hooks of .pre-commit-config.yaml, run by Git in a repository of its own: they refuse, and need no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))


def test_every_hook_is_a_program_of_the_projects_own_venv() -> None:
    assert [one["repo"] for one in CONFIG["repos"]] == ["local"]
    for hook in CONFIG["repos"][0]["hooks"]:
        program = hook["entry"].split()[0]
        assert hook["language"] == "system" and program.startswith(".venv/bin/"), hook["id"]
        assert Path(sys.executable).with_name(Path(program).name).exists(), hook["id"]


class Repository:
    """A repository with the project's hooks, where nothing outside the machine can be reached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unreachable = "http://127.0.0.1:9"
        identity = {f"GIT_{who}_{what}": f"a@{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PRE_COMMIT_HOME": str(folder / "hooks"),
            "http_proxy": unreachable,
            "https_proxy": unreachable,
            **identity,
        }
        self.work = folder / "work"
        for name in (".pre-commit-config.yaml", "pyproject.toml", "tests/commits.py"):
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.work / name)
        (self.work / ".venv").symlink_to(Path(sys.executable).parents[1])
        for command in ("git init -q", ".venv/bin/python -m pre_commit install", "git add .pre-commit-config.yaml"):
            done = self(*command.split())
            assert done.returncode == 0, done.stderr

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.work, env=self.environment, capture_output=True, text=True)

    def commit(self, subject: str, **files: str) -> tuple[bool, str]:
        """Commit files, by name without .py; return whether that worked, and what the hooks said."""
        for name, text in files.items():
            (self.work / f"{name}.py").write_text(text)
            self("git", "add", f"{name}.py")
        done = self("git", "commit", "-m", subject)
        return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_commit_is_refused_for_its_subject_or_its_style(repository: Repository) -> None:
    done, said = repository.commit("Add a file", a="x = 1\n")
    assert not done and "area: summary" in said
    done, said = repository.commit("a: add a file", a="import os\n")
    assert not done and "F401" in said
    done, said = repository.commit("a: add a file", a="x  =  1\n")
    assert not done and "ruff format" in said
    assert repository("git", "log").returncode != 0  # nothing was committed so far
    done, said = repository.commit("a: add a file", a="x = 1\n")
    assert done, said
