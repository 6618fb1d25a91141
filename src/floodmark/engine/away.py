"""The worker's side of the Dask engine: one task, its events on their way to the caller, and its end.

Nothing is raised through Dask, which would log the arguments of a failed task.
"""

from __future__ import annotations

import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from distributed import Worker, get_worker  # optional extra
from msgspec import Struct

from floodmark.engine.base import TaskStopped, WorkerWatch
from floodmark.errors import ConfigError, FloodmarkError, Stopped
from floodmark.events import ChunkProgress, Event, Retried, Warned
from floodmark.stop import Stop
from floodmark.version import __version__

# The topic of the scheduler under which events travel. It is the same for all runs: a scheduler never forgets a topic.
TOPIC = "floodmark"
# A worker looks this often if its task is still wanted.
_SECONDS_BETWEEN_LOOKS = 0.5
_WANTED = ("executing", "long-running")
_LEAVING = ("closing", "closed", "failed")


class TaskEnd(Struct, frozen=True):
    """The end of a task: its result or its error, and the events that count only if this end does."""

    result: Any = None
    error: BaseException | None = None
    events: tuple[Event, ...] = ()


class AwayTask:
    """A task on its way. It is pickled as a call of `carry_out`, so `pickle.loads` on a worker is the whole task.

    So the scheduler, which reads the names of functions in what it passes on, needs no Floodmark.
    """

    def __init__(self, run: str, number: int, content: bytes) -> None:
        self._parts = (run, number, __version__, content)

    def __reduce__(self) -> tuple[Callable[..., bytes], tuple[Any, ...]]:
        """Return the call that pickle makes."""
        return carry_out, self._parts


def carry_out(run: str, number: int, version: str, content: bytes) -> bytes:
    """Do a task on this worker, and return its pickled TaskEnd."""
    worker = get_worker()
    if version != __version__:
        return pickle.dumps(TaskEnd(error=other_version({str(worker.address): __version__}, version)))
    events = _Events(worker, run, number)
    with _Watched(worker, run) as stop:
        try:
            if stop.is_set():
                raise TaskStopped
            function, shared, message = pickle.loads(content)
            result = function(_unpickled(shared), message, WorkerWatch(events.observe, stop))
            return pickle.dumps(TaskEnd(result, events=events.kept))
        except BaseException as error:
            return pickle.dumps(TaskEnd(error=_sendable(error, stop, str(worker.address)), events=events.kept))


def other_version(found: dict[str, str | None], ours: str = __version__) -> ConfigError:
    """Return the error for workers that have another Floodmark than the caller, or none."""
    named = ", ".join(f"{address} has {version or 'none'}" for address, version in sorted(found.items())[:3])
    more = "" if len(found) <= 3 else f", and {len(found) - 3} more"
    return ConfigError(
        "the workers have another Floodmark",
        on=f"{named}{more}",
        why=f"this process has {ours}",
        hint="Install the same version on all workers. A container image is an easy way.",
    )


@lru_cache(maxsize=8)
def _unpickled(shared: bytes) -> Any:
    """Return what the tasks of one step share: the same object for all tasks of this worker."""
    return pickle.loads(shared)


def _sendable(error: BaseException, stop: Stop, address: str) -> BaseException:
    """Return an error that can leave the worker. The text of one that is not ours can hold a row's value."""
    if isinstance(error, TaskStopped) or (isinstance(error, Stopped) and stop.is_set()):
        return TaskStopped()
    place = f"It happened on the worker {address}."
    if isinstance(error, FloodmarkError):
        error.hint = place if error.hint is None else f"{error.hint} {place}"
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error
    if isinstance(error, ModuleNotFoundError):
        hint = f"Install Floodmark with the same extras on all workers. {place}"
        return ConfigError("a worker lacks a Python package", why=f"there is no module {error.name}", hint=hint)
    return FloodmarkError("a task failed on a worker", why=f"{type(error).__name__} in {_place(error)}", hint=place)


def _place(error: BaseException) -> str:
    """Return the innermost line of ours in a traceback, as module:line."""
    places, trace = list[str](), error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}")
        trace = trace.tb_next
    ours = [place for place in places[1:] if place.startswith("floodmark.")]
    return (ours or places or ["an unknown place"])[-1]


class _Events:
    """The events of one task. Some are sent while it works; `kept` are those that travel with its end.

    A task can be done twice, if its worker was believed to be dead. So an event that is counted must not be sent before
    the end. `ChunkProgress` is sent by its source a few times a second, which is seldom enough.
    """

    def __init__(self, worker: Worker, run: str, number: int) -> None:
        self._worker, self._run, self._number = worker, run, number
        self._kept: list[Event] = []

    @property
    def kept(self) -> tuple[Event, ...]:
        return tuple(self._kept)

    def observe(self, event: Event) -> None:
        """Send an event, or keep it."""
        live = isinstance(event, Retried | Warned) or (isinstance(event, ChunkProgress) and not event.finished)
        if not live:
            self._kept.append(event)
            return
        message = {"run": self._run, "number": self._number, "event": pickle.dumps(event)}
        self._worker.log_event(TOPIC, message)


_lock = threading.Lock()
_at_work: dict[str, set[Stop]] = {}
_ended: deque[str] = deque(maxlen=1000)


def end_tasks(run: str) -> int:
    """Tell the tasks of a run to end, on this worker, and return their number. Tasks that begin later end at once."""
    with _lock:
        if run not in _ended:
            _ended.append(run)
        stops = list(_at_work.get(run, ()))
    for stop in stops:
        stop.ask(signal.SIGTERM)
    return len(stops)


class _Watched:
    """Context manager for a task, with a Stop that is set when its run ends, and when nobody wants its result.

    A scheduler that loses the caller releases the caller's tasks, and each worker takes note of that at once. But Dask
    can't end a thread.
    """

    def __init__(self, worker: Worker, run: str) -> None:
        self._worker, self._run = worker, run
        self._key = worker.get_current_task()
        self._stop, self._over = Stop(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="floodmark-watch", daemon=True)

    def __enter__(self) -> Stop:
        with _lock:
            _at_work.setdefault(self._run, set()).add(self._stop)
            if self._run in _ended:
                self._stop.ask(signal.SIGTERM)
        self._thread.start()
        return self._stop

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with _lock:
            stops = _at_work[self._run]
            stops.discard(self._stop)
            if not stops:
                del _at_work[self._run]

    def _look(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            if not self._wanted():
                self._stop.ask(signal.SIGTERM)
                return

    def _wanted(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        return task is not None and task.state in _WANTED and self._worker.status.name not in _LEAVING
