"""Release 0.1.0, from this repository's history, in the venv of its own that `make .venv-0.1.0/.ready` sets up."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fix_child import Child
from fix_command import Done, Floodmark

FOLDER = Path(__file__).parents[1] / ".venv-0.1.0"
_MISSING = "release 0.1.0 is not set up: `make .venv-0.1.0/.ready` does that, if the checkout has the whole history"


class OldRelease(Floodmark):
    """The command line of release 0.1.0, with the folder and the environment of another command line."""

    warm = False

    def __init__(self, newer: Floodmark) -> None:
        super().__init__(newer.folder, newer.environment)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [str(FOLDER / "bin/floodmark"), *arguments]

    def __call__(self, *arguments: str, code: int = 0, **named: Any) -> Done:
        """Run a command to its end, which must be this exit code. Its output is not that of today's documents."""
        done = self.end(self.start(*arguments, **named))
        assert done.code == code, f"{arguments} of 0.1.0 ended with {done.code}, not {code}: {done.said}"
        return done

    def python(self, program: str, *arguments: str) -> Any:
        """Run a program with 0.1.0's library. Return the JSON that it printed."""
        command = [str(FOLDER / "bin/python"), "-c", program, *arguments]
        process = Child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder, env=self.environment)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        return json.loads(out)


def require_old_release() -> None:
    if not (FOLDER / ".ready").exists():
        pytest.skip(_MISSING)


@pytest.fixture
def old_release() -> type[OldRelease]:
    """Make 0.1.0's command line out of another one: `old_release(floodmark)`."""
    require_old_release()
    return OldRelease
