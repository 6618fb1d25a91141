"""Functions that run on workers in tests. A worker finds them by their names, since tests/ is on its path."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NoReturn

from floodmark.engine.base import TaskStopped, WorkerWatch
from floodmark.errors import StorageDenied
from floodmark.events import Retried, StepAdvanced

ROW = "a-row-of-somebody"


def doubled(shared: int, message: int, watch: WorkerWatch) -> int:
    return shared * message


def failing(shared: object, message: object, watch: WorkerWatch) -> NoReturn:
    """Fail as a driver does, with a row in the error's text."""
    raise ValueError(f"invalid: {ROW}")


def refused(shared: object, message: object, watch: WorkerWatch) -> NoReturn:
    raise StorageDenied("can't put an object", on="s3://b/k", why="AccessDenied", hint="Allow s3:PutObject.")


def lacking(shared: object, message: object, watch: WorkerWatch) -> NoReturn:
    """Fail as a worker without an extra does."""
    raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")


def unpicklable(shared: object, message: object, watch: WorkerWatch) -> object:
    return lambda: None


def telling(shared: str, message: int, watch: WorkerWatch) -> int:
    """Send an event, and then wait for the file `shared`. So it ends only if the event arrived before the end."""
    watch.observer(Retried("try", "why", message))
    watch.observer(StepAdvanced(message))
    _wait_for(Path(shared), watch)
    return message


def marked(shared: str, message: int, watch: WorkerWatch) -> int:
    """Leave a mark in the folder `shared` while it is at work, and count how many others are."""
    mark = Path(shared) / f"{message}-{os.getpid()}-{time.monotonic_ns()}"
    mark.touch()
    time.sleep(0.05)
    number = len(list(Path(shared).iterdir()))
    mark.unlink()
    return number


def waiting(shared: str, message: int, watch: WorkerWatch) -> int:
    """Write the worker's process id, and wait to be told to end, or for the file `go`. Say so when it ends."""
    folder = Path(shared)
    begun = folder / f"begun-{message}"
    begun.write_text(str(os.getpid()))
    try:
        _wait_for(folder / "go", watch)
    finally:
        (folder / f"ended-{message}").touch()
    return message


def deadly(shared: str, message: int, watch: WorkerWatch) -> int:
    """Kill the worker at the first time. `shared` is a folder, or empty to do it every time."""
    mark = Path(shared) / f"died-{message}"
    if not shared or not mark.exists():
        if shared:
            mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return message


def _wait_for(path: Path, watch: WorkerWatch) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        if watch.stop.wait(0.02):
            raise TaskStopped
