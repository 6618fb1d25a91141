"""A process that runs Floodmark in forks of itself and kills, or stops, one at a crash point of one's choice.

A crash point is the moment before a call that changes something outside the process: opening a file for writing,
write, fsync, utime, link, rename, unlink, mkdir, rmdir; and before and after each HTTP request. They are found by
counting: Python's audit events, and a wrapper around the calls that have none. Each is named by the call and by what
it is about ("os.link data", "before PUT head"), which is the same from run to run, whatever the threads' order.

A run is stopped where none of its threads holds a folder's lock: who sleeps with the lock in his hand keeps everyone
waiting. A process that is killed lets go of it.

A fork costs no imports, so hundreds of runs take a minute; it is a process of its own because one with threads
should not fork.

Reads requests from stdin and answers on stdout, a JSON document a line: see `fix_crash`.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.httpsession import URLLib3Session

import floodmark.cli.main
from floodmark.pipeline import resume
from floodmark.storage import local
from warm_server import warm

_TWO_PATHS = {"os.rename", "os.link"}
_AUDITED = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.truncate"}


class Points:
    """Counts crash points, and dies at one, or stops there until it is told to go on. Several threads of a run may
    come to theirs at once."""

    def __init__(self, kill_at: int, only: str, sign: int) -> None:
        self._kill_at, self._only, self._signal = kill_at, only, sign
        self._number = 0
        self.names: list[str] = []
        self._lock = threading.Lock()
        self.folders = threading.RLock()  # held by whoever holds a folder's lock

    def pass_by(self, name: str) -> None:
        with self._lock:
            self.names.append(name)
            self._number += name == self._only
            here = name == self._only and self._number == self._kill_at
            if here and self._signal == signal.SIGKILL:
                os.kill(os.getpid(), signal.SIGKILL)
        if here:
            with self.folders:
                os.kill(os.getpid(), self._signal)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _AUDITED:
            self.pass_by(f"{event} {about(arguments[1] if event in _TWO_PATHS else arguments[0])}")
        elif event == "open" and not isinstance(arguments[0], int) and _writes(arguments[1], arguments[2]):
            self.pass_by(f"open {about(arguments[0])}")


def about(path: object) -> str:
    """What a path, a URL or an open file is part of."""
    text = str(Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else path)
    name = text.rpartition("/")[2]
    if name == "_SUCCESS":
        return "success"
    for part in ("data", "manifests", "progress", "complete"):
        if f"/{part}/" in text or text.endswith(f"/{part}"):
            return part
    return name.removesuffix(".json") if name.endswith(".json") else "lock" if name.endswith("-lock") else "other"


def _writes(mode: object, flags: object) -> bool:
    return (isinstance(mode, str) and any(letter in mode for letter in "wax+")) or (
        mode is None and isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    )


def watch(points: Points) -> None:
    """From here on every crash point of this process is counted."""
    sys.addaudithook(points.audit)
    fsync, write, send = os.fsync, local._write, URLLib3Session.send
    locked = local.LocalStorage._locked

    def counted_fsync(handle: int) -> None:
        points.pass_by(f"fsync {about(handle)}")
        fsync(handle)

    def counted_write(file: Any, block: bytes) -> None:
        points.pass_by(f"write {about(file.fileno())}")
        write(file, block[: len(block) // 2])
        points.pass_by(f"write half of {about(file.fileno())}")
        write(file, block[len(block) // 2 :])

    def counted_send(self: URLLib3Session, request: Any) -> Any:
        name = f"{request.method} {about(request.url.partition('?')[0])}"
        points.pass_by(f"before {name}")
        answer = send(self, request)
        points.pass_by(f"after {name}")
        return answer

    @contextmanager
    def locked_alone(self: local.LocalStorage) -> Iterator[None]:
        with points.folders, locked(self):
            yield

    os.fsync, local._write, URLLib3Session.send = counted_fsync, counted_write, counted_send
    local.LocalStorage._locked = locked_alone


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, run the command line there, and tell how it ended: its exit code (-9: killed), output, crash points."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code, told = _in_child(request)
        with os.fdopen(writing, "w") as pipe:
            json.dump(told, pipe)
        os._exit(code)
    os.close(writing)
    unfinished = Path(request["folder"], "pid-unfinished")
    unfinished.write_text(str(child))
    unfinished.rename(unfinished.with_name("pid"))  # who sees it, sees it whole
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": code, **(json.loads(text) if text else {"out": "", "err": "", "points": []})}


def _in_child(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    resume.SHORTEST_PAUSE, resume.PAUSE_PER_WRITE, resume.SHARE_TO_LOSE = request["pause"], 0, 0
    out, err = io.StringIO(), io.StringIO()
    sys.stdout, sys.stderr = out, err
    points = Points(request["kill_at"], request["only"], request["signal"])
    watch(points)
    try:
        code = _exit_code(lambda: floodmark.cli.main.main(request["arguments"]))
    except BaseException:
        code = 99
        traceback.print_exc(file=err)
    return code, {"out": out.getvalue(), "err": err.getvalue(), "points": points.names}


def _exit_code(work: Callable[[], Any]) -> int:
    try:
        return int(work() or 0)
    except SystemExit as end:
        return int(end.code or 0)


def main() -> None:
    warm()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
