"""The seam of an engine, which runs independent tasks and returns their results as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from floodmark.events import Observer
from floodmark.stop import Stop

Task = TypeVar("Task")
Result = TypeVar("Result")


class TaskStopped(Exception):
    """A task that ended early because the work is to end. Nothing that it did counts."""


class WorkerWatch(Struct, frozen=True):
    """The link from a task on another machine to the caller: events go to `observer`, and `stop` ends the task."""

    observer: Observer
    stop: Stop


class Away(Struct, Generic[Task], frozen=True):
    """The same work for another machine, which has the same Floodmark and its own credentials.

    There, `function`, a function of a module, is called with `shared`, with what `message` makes of the task, and with
    a `WorkerWatch`. Its result is the task's result. All three, and the result, are pickled on their way, and must hold
    no secret and no row. When `stopping` is true, the tasks at work are told to end.
    """

    function: Callable[[Any, Any, WorkerWatch], Any]
    shared: Any
    message: Callable[[Task], Any]
    stopping: Callable[[], bool]


class Engine(Protocol):
    """A place where tasks run.

    Obligations of every engine:

    - A task is taken from the iterable only when it can start soon, so the iterable can be endless or decide late.
    - Each task that was taken is yielded exactly once, with its result or with the exception that it raised.
    - The order is the order in which tasks finish.
    - If the caller stops iterating, the tasks that already started are waited for, and no other task starts.
    - Work without `away` runs on threads of this process.
    """

    def run_tasks(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], away: Away[Task] | None = None
    ) -> Iterator[tuple[Task, Result | BaseException]]:
        """Run `work` on each task, or the same work `away` from here, and yield the task with its outcome."""
        ...


class Cluster(Protocol):
    """The machines on which the tasks of a command can run. `open_engine` returns one, as a context manager.

    `away` is False if there is only this process.
    """

    @property
    def away(self) -> bool: ...

    def engine(self, observer: Observer, here: int, limit: int | None = None) -> Engine:
        """Return an engine with `here` threads of this process.

        Away, at most `limit` tasks are given out at once; None means enough to keep all workers busy. `observer` hears
        of what happens there.
        """
        ...

    def __enter__(self) -> Cluster: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
