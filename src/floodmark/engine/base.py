"""The seam of an engine, which runs independent tasks and returns their results as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class TaskStopped(Exception):
    """A task that ended early because the work is to end. Nothing that it did counts."""


class Engine(Protocol):
    """A place where tasks run.

    Obligations of every engine:

    - A task is taken from the iterable only when it can start soon, so the iterable can be endless or decide late.
    - Each task that was taken is yielded exactly once, with its result or with the exception that it raised.
    - The order is the order in which tasks finish.
    - If the caller stops iterating, the tasks that already started are waited for, and no other task starts.
    """

    def run_tasks(
        self, work: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | BaseException]]:
        """Run `work` on each task, and yield the task with its outcome."""
        ...
