"""Commands that run in forks of a warm process (`warm_server`): no time goes into imports."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import pytest


class WarmProcess:
    """Runs commands for any number of threads."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "warm_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).parent,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self._lock = Lock()

    def __call__(self, request: dict[str, Any], patience: float) -> tuple[int, bytes, bytes]:
        """Run a command to its end. Returns its exit code, stdout and stderr. Kills it and raises after `patience`.

        `request` holds the command's `arguments`, `environment` and `folder`, and whether it is `hurried`: time.sleep
        then returns at once.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = self._end(json.dumps(request).encode(), out.fileno(), err.fileno(), patience)
            out.seek(0)
            err.seek(0)
            said = out.read(), err.read()
        if code is None:
            raise AssertionError(f"it does not end: {said}")
        return code, *said

    def _end(self, request: bytes, out: int, err: int, patience: float) -> int | None:
        """Return the exit code, or None after so many seconds."""
        reading, writing = os.pipe()
        with os.fdopen(reading) as answer:
            try:
                with self._lock:
                    socket.send_fds(self._requests, [request], [out, err, writing])
            finally:
                os.close(writing)
            pid = int(answer.readline())
            if not select.select([answer], [], [], patience)[0]:
                os.kill(pid, signal.SIGKILL)
                return None
            return int(answer.readline())

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


# Python and libc read these when a process starts.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "GCONV")


def needs_a_start(environment: dict[str, str]) -> bool:
    """Return True if a fork can't have this environment as a process that starts with it."""
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)} != _LOCALE


_LOCALE = {"LC_ALL": "C.UTF-8"}


@cache
def warm_process() -> WarmProcess:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return WarmProcess({**kept, **_LOCALE})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if warm_process.cache_info().currsize:
        warm_process().close()
        warm_process.cache_clear()
