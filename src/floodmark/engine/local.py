"""The local engine: threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

from msgspec import Struct

from floodmark.engine.base import Away, Result, Task
from floodmark.events import Observer


class LocalThreads(Struct, frozen=True):
    """An engine with this many threads. See `engine.base.Engine` for its obligations."""

    number: int

    def run_tasks(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], away: Away[Task] | None = None
    ) -> Iterator[tuple[Task, Result | BaseException]]:
        """Run `work` on each task, and yield the task with its outcome. All of it runs here."""
        with ThreadPoolExecutor(self.number, thread_name_prefix="floodmark") as pool:
            running: dict[Future[Result], Task] = {}
            for task in tasks:
                running[pool.submit(work, task)] = task
                if len(running) > self.number:
                    yield from _finished_tasks(running)
            while running:
                yield from _finished_tasks(running)


def _finished_tasks(running: dict[Future[Result], Task]) -> Sequence[tuple[Task, Result | BaseException]]:
    """Wait for at least one task, and remove the finished ones from `running`."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    return [(running.pop(future), future.exception() or future.result()) for future in done]


class ThisProcess(Struct, frozen=True):
    """The cluster of a command without one: all work is done by threads of this process."""

    away: bool = False

    def engine(self, observer: Observer, here: int, limit: int | None = None) -> LocalThreads:
        """Return an engine with `here` threads."""
        return LocalThreads(here)

    def __enter__(self) -> ThisProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: the threads end with each iteration."""
