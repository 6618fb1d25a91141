"""Runs of the command line that are killed at a crash point of one's choice: see `crash_server`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from floodmark.state.manifest import Manifest, decode

KILLED = -9


class Ended(Struct, frozen=True):
    """How a run ended. `points` are the crash points it passed; none are known of one that was killed."""

    code: int
    out: str
    err: str
    points: list[str]

    @property
    def manifest(self) -> Manifest:
        return decode(Manifest, self.out.encode(), "stdout")


class CrashServer:
    """Runs commands one after another, each in a fork of a process that has everything imported."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crash_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent,
            text=True,
        )

    def __call__(
        self,
        *arguments: str,
        environment: dict[str, str],
        folder: Path,
        kill_at: int = 0,
        only: str = "",
        pause: float = 0.0,
        sign: int = signal.SIGKILL,
    ) -> Ended:
        """Run a command. `kill_at` counts, from 1, the crash points that are named `only`; 0 kills at none.
        `pause` is the shortest between two writings of the run's progress."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {
            "arguments": arguments,
            "environment": {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", **environment},
            "folder": str(folder),
            "kill_at": kill_at,
            "only": only,
            "pause": pause,
            "signal": sign,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        ended = Ended(**answer)
        assert ended.code != 99 and "Traceback" not in ended.err, ended.err
        return ended

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def crash_server() -> Iterator[CrashServer]:
    server = CrashServer()
    yield server
    server.close()
