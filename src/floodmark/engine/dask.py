"""The engine whose tasks run on the workers of a Dask cluster.

A coroutine per task submits it, waits for its end and puts that into a queue, which `run_tasks` reads. Only the thread
that iterates talks to the observer.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future as StartedFuture
from queue import Empty, SimpleQueue
from typing import Any, Generic

from distributed import Client  # optional extra
from distributed.client import FutureCancelledError  # optional extra
from distributed.scheduler import KilledWorker  # optional extra
from msgspec import Struct

from floodmark.engine.away import AwayTask, TaskEnd, end_tasks
from floodmark.engine.base import Away, Result, Task, TaskStopped
from floodmark.engine.event_loop import LoopThread
from floodmark.engine.local import LocalThreads
from floodmark.errors import EngineError
from floodmark.events import Observer, Warned
from floodmark.wording import plural

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_COUNTS = 2.0
_SECONDS_ON_THE_WAY = 1.0


class Patience(Struct, frozen=True):
    """Time limits in seconds: to reach the scheduler, to wait for a worker, and for tasks that were told to end."""

    connect: float = 10
    workers: float = 180
    ends: float = 30


class DaskLink(Struct, frozen=True):
    """The connection to a scheduler: its client lives in the loop's thread.

    `listeners` has the queue of each run of tasks, into which its events go.
    """

    client: Client
    loop: LoopThread
    address: str
    patience: Patience
    listeners: dict[str, SimpleQueue[_News]]

    def hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Pass on an event of a worker. Events of other callers are ignored."""
        _, message = event
        queue = self.listeners.get(message["run"])
        if queue is not None:
            queue.put(_News(message["number"], event=message["event"]))

    def lost(self) -> EngineError | None:
        """Return an error if the client gave the scheduler up. A task that it had not sent by then never ends."""
        return lost_scheduler(self.address, "the connection was closed") if self.client.status == "closed" else None

    async def end_tasks(self, run: str) -> int:
        """Tell the tasks of a run to end, on all workers. Return the number of those that are at work."""
        return sum((await self.client.run(end_tasks, run, on_error="ignore")).values())

    async def count_threads(self) -> int:
        """Return the number of threads of all workers."""
        return sum((await self.client.nthreads()).values())


class DaskEngine(Struct, frozen=True):
    """An engine with threads here, and a cluster. See `engine.base.Engine` for its obligations."""

    link: DaskLink
    threads: LocalThreads
    limit: int
    observer: Observer

    def run_tasks(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], away: Away[Task] | None = None
    ) -> Iterator[tuple[Task, Result | BaseException]]:
        """Run `away` on the workers, or else `work` on threads, and yield each task with its outcome."""
        if away is None:
            yield from self.threads.run_tasks(work, tasks)
            return
        flight: _Flight[Task] = _Flight(self.link, away, self.observer)
        try:
            for task in tasks:
                if away.stopping():
                    yield task, TaskStopped()
                    continue
                flight.submit(task)
                while flight.number_at_work >= self.limit:
                    yield from flight.ended_tasks()
            while flight.number_at_work:
                yield from flight.ended_tasks()
        finally:
            flight.close()


class _News(Struct, frozen=True):
    """A message from the loop's thread to the one that iterates: an event of a task, or its end, pickled."""

    number: int
    event: bytes | None = None
    end: bytes | BaseException | None = None


class _Flight(Generic[Task]):
    """The tasks that are submitted and not yet yielded."""

    def __init__(self, link: DaskLink, away: Away[Task], observer: Observer) -> None:
        self._link, self._away, self._observer = link, away, observer
        self._run = secrets.token_hex(8)
        self._shared = pickle.dumps(away.shared)
        self._news: SimpleQueue[_News] = SimpleQueue()
        self._tasks: dict[int, tuple[Task, StartedFuture[None]]] = {}
        self._submitted = 0
        self._workers, self._ending = _WorkerCount(link), _Ending(link, self._run)
        link.listeners[self._run] = self._news

    @property
    def number_at_work(self) -> int:
        return len(self._tasks)

    def submit(self, task: Task) -> None:
        self._submitted += 1
        number = self._submitted
        content = pickle.dumps((self._away.function, self._shared, self._away.message(task)))
        payload = pickle.dumps(AwayTask(self._run, number, content))
        self._tasks[number] = task, self._link.loop.start(self._bring(number, payload))

    async def _bring(self, number: int, payload: bytes) -> None:
        """Have one task done, and put its end into the queue."""
        end: bytes | BaseException
        try:
            key = f"floodmark-{self._run}-{number}"
            future = self._link.client.submit(pickle.loads, payload, key=key, pure=False)
            try:
                end = await future
            finally:
                future.release()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            end = error
        self._news.put(_News(number, end=end))

    def ended_tasks(self) -> list[tuple[Task, Any]]:
        """Wait for at least one task, and return those that ended."""
        ended: list[tuple[Task, Any]] = []
        while not ended:
            if self._away.stopping():
                self._ending.tell()
            lost = self._link.lost() or self._workers.lost(self._observer) or self._end_of_patience()
            if lost is not None:
                return self._give_up(lost)
            ended = self._take(_SECONDS_BETWEEN_LOOKS)
        return ended

    def _take(self, seconds: float) -> list[tuple[Task, Any]]:
        """Return the tasks that ended by now, after a wait for the first news. Pass on events."""
        ended: list[tuple[Task, Any]] = []
        while True:
            try:
                news = self._news.get(timeout=seconds) if seconds else self._news.get_nowait()
            except Empty:
                return ended
            seconds = 0
            if news.number not in self._tasks:  # an event of a task that was done twice
                continue
            if news.event is not None:
                self._observer(pickle.loads(news.event))
            else:
                task, _ = self._tasks.pop(news.number)
                ended.append((task, self._outcome(news.end)))

    def _outcome(self, end: Any) -> Any:
        if isinstance(end, BaseException):
            return engine_error(end, self._link.address)
        done: TaskEnd = pickle.loads(end)
        for event in done.events:
            self._observer(event)
        return done.result if done.error is None else done.error

    def _end_of_patience(self) -> BaseException | None:
        """Return the end of tasks that were told to end, if there is nothing more to wait for."""
        return TaskStopped() if self._ending.is_over(self._workers.is_none) else None

    def _give_up(self, error: BaseException) -> list[tuple[Task, Any]]:
        """Return all tasks with this error. Workers notice by themselves that nobody wants the results."""
        given_up = list(self._tasks.values())
        self._tasks.clear()
        for _, bringing in given_up:
            bringing.cancel()
        return [(task, error) for task, _ in given_up]

    def close(self) -> None:
        """Tell the tasks that are still at work to end, and wait for them."""
        try:
            if self._tasks:
                self._ending.tell()
            while self._tasks and (self._link.lost() or self._end_of_patience()) is None:
                self._take(_SECONDS_BETWEEN_LOOKS)
        finally:
            self._give_up(TaskStopped())
            del self._link.listeners[self._run]


class _Ending:
    """The end of a run of tasks. The workers are told, and asked for the number of tasks that are still at work."""

    def __init__(self, link: DaskLink, run: str) -> None:
        self._link, self._run = link, run
        self._told: float | None = None
        self._asked_at = 0.0
        self._answer: StartedFuture[int] | None = None
        self._idle_since: float | None = None

    def tell(self) -> None:
        if self._told is None:
            self._told = time.monotonic()
            self._ask()

    def is_over(self, nobody: bool) -> bool:
        """Return True if it takes too long, if no task is at work, or if there is `nobody` to end them.

        The results of tasks that just ended can still be on their way.
        """
        if self._told is None:
            return False
        now = time.monotonic()
        if self._answer is not None and self._answer.done():
            self._note(self._answer, now)
        idle = self._idle_since is not None and now > self._idle_since + _SECONDS_ON_THE_WAY
        return nobody or idle or now > self._told + self._link.patience.ends

    def _ask(self) -> None:
        self._asked_at, self._answer = time.monotonic(), self._link.loop.start(self._link.end_tasks(self._run))

    def _note(self, answer: StartedFuture[int], now: float) -> None:
        if answer.cancelled() or answer.exception() is not None or answer.result():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        if now > self._asked_at + _SECONDS_BETWEEN_LOOKS:
            self._ask()


class _WorkerCount:
    """The number of workers, asked for from time to time while tasks are at work."""

    def __init__(self, link: DaskLink) -> None:
        self._link = link
        self._asked_at = time.monotonic()
        self._answer: StartedFuture[int] | None = None
        self._none_since: float | None = None

    @property
    def is_none(self) -> bool:
        """Return True if there was no worker at the last look."""
        return self._none_since is not None

    def lost(self, observer: Observer) -> EngineError | None:
        """Return an error if there has been no worker for too long. Warn as soon as there is no worker."""
        now = time.monotonic()
        if self._answer is None and now > self._asked_at + _SECONDS_BETWEEN_COUNTS:
            self._asked_at, self._answer = now, self._link.loop.start(self._link.count_threads())
        if self._answer is not None and self._answer.done():
            self._note(self._answer, now, observer)
            self._answer = None
        if self._none_since is None or now < self._none_since + self._link.patience.workers:
            return None
        return no_workers(self._link)

    def _note(self, answer: StartedFuture[int], now: float, observer: Observer) -> None:
        if answer.cancelled() or answer.exception() is not None:  # the tasks themselves tell what is wrong
            return
        if answer.result():
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
            observer(Warned(waiting_text(self._link)))


def waiting_text(link: DaskLink) -> str:
    return f"the Dask cluster at {link.address} has no worker; waiting up to {link.patience.workers:.0f} s for one"


def no_workers(link: DaskLink) -> EngineError:
    return EngineError(
        "the Dask cluster has no worker",
        on=link.address,
        why=f"none came within {link.patience.workers:.0f} s",
        hint=f"Start one: dask worker {link.address}",
    )


def engine_error(error: BaseException, address: str) -> EngineError:
    """Return the error for a task that Dask itself gave up."""
    if isinstance(error, KilledWorker):
        number = plural(error.allowed_failures + 1, "worker")
        why = f"{number} died while doing one task"
        hint = "Look at the workers' logs and memory: the system, or Dask itself, kills a worker that uses too much."
        return EngineError("the Dask cluster gave up a task", on=address, why=why, hint=hint)
    if isinstance(error, FutureCancelledError) and error.reason != "scheduler-connection-lost":
        why, hint = "someone cancelled it", "Do not restart the cluster while Floodmark works on it."
        return EngineError("the Dask cluster gave up a task", on=address, why=why, hint=hint)
    if isinstance(error, ModuleNotFoundError):
        hint = "Install the same version of Floodmark on all workers."
        return EngineError("a worker has no Floodmark", on=address, why=type(error).__name__, hint=hint)
    closed = isinstance(error, FutureCancelledError)
    return lost_scheduler(address, "the connection was closed" if closed else type(error).__name__)


def lost_scheduler(address: str, why: str) -> EngineError:
    hint = "See if the scheduler is running, and start the command again. A run continues from its finished chunks."
    return EngineError("lost the Dask scheduler", on=address, why=why, hint=hint)
