"""A process that has what commands need imported, and runs each command in a fork of itself.

A fork has the command's own environment, folder, arguments, stdout and stderr, and ends as a process ends: what a
command says and does is the same. Only the interpreter's start is not shown; tests of that, and those that send
signals, start real processes (`fix_command.Floodmark.start`).

A message on the socket is a request, a JSON document, with three open files: stdout, stderr, and the one for the
answer, which is a line with the fork's process id, then one with its exit code. See `fix_warm`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fix_boto
import floodmark.cli.main
from floodmark.cli.commands import MODULES

REQUEST_BYTES = 2**18  # at most
# Modules that commands import by need. pyarrow and duckdb are not here: both start threads.
_BY_NEED = (
    *(f"floodmark.cli.commands.{name}" for name in sorted(set(MODULES.values()) - {"demo"})),
    "floodmark.cli.commands.notified_run",
    "floodmark.source.postgres.snapshot",
    "floodmark.source.sql.sqlite",
    "floodmark.storage.s3",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
)


def warm() -> None:
    """Import and read what most commands need."""
    for name in _BY_NEED:
        importlib.import_module(name)
    fix_boto.warm()
    gc.freeze()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads should not fork"


class Forked(Exception):
    """Unwinds the server's stack in a fork; `request` is what the fork has to run."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__()
        self.request = request


def serve(requests: socket.socket) -> None:
    """Run any number of commands at a time, until nobody can ask any more. Raises Forked in each fork."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data is not None:
                    waiting.unregister(key.fd)
                    _tell_the_end(key.fd, *key.data)
                    continue
                text, files, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 3)
                if not text:
                    return
                pid = _fork(json.loads(text), *files)
                os.write(files[2], b"%d\n" % pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, files[2]))


def _fork(request: dict[str, Any], out: int, err: int, answer: int) -> int:
    pid = os.fork()
    if pid == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        raise Forked(request)
    os.close(out)
    os.close(err)
    return pid


def _tell_the_end(watched: int, pid: int, answer: int) -> None:
    os.close(watched)
    os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.close(answer)


def run(request: dict[str, Any]) -> int:
    """Become the command's process, and run it. Returns its exit code."""
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    time.tzset()
    tempfile.tempdir = None
    if request["hurried"]:
        time.sleep = lambda seconds: None
    sys.argv[1:] = request["arguments"]
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115
    return floodmark.cli.main.main()


def main() -> int:
    warm()
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except Forked as fork:
        request = fork.request
    else:
        return 0
    return run(request)


if __name__ == "__main__":
    sys.exit(main())
