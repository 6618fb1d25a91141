"""The obligations of every engine (`floodmark.engine.base.Engine`), on threads and on a real Dask cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fix_dask_acts as acts
from fix_command import until
from fix_dask import DaskServers
from fix_engine import PickledThreads
from floodmark.engine.base import Away, Engine, TaskStopped
from floodmark.engine.local import ThisProcess
from floodmark.engine.opening import open_engine
from floodmark.errors import ConfigError, FloodmarkError, StorageDenied
from floodmark.events import Event
from floodmark.stop import NEVER


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture(params=["threads", "pickled", "dask"])
def engine(request: pytest.FixtureRequest, events: list[Event]) -> Iterator[Engine]:
    """An engine that does two tasks at once."""
    if request.param == "threads":
        yield ThisProcess().engine(events.append, 2)
    elif request.param == "pickled":
        yield PickledThreads(2, events.append)
    else:
        servers: DaskServers = request.getfixturevalue("dask_cluster")
        with open_engine(servers.url, events.append) as cluster:
            yield cluster.engine(events.append, 2, 2)


def away(function: Any, shared: Any = None, stopping: Any = NEVER.is_set) -> Away[Any]:
    return Away(function, shared, lambda task: task, stopping)


def local(function: Any, shared: Any = None) -> Any:
    """The same work for threads of this process, where no message is made."""
    from floodmark.engine.base import WorkerWatch  # noqa: PLC0415

    return lambda task: function(shared, task, WorkerWatch(lambda event: None, NEVER))


def test_each_task_is_yielded_once_with_its_result(engine: Engine) -> None:
    found = list(engine.run_tasks(local(acts.doubled, 3), range(50), away(acts.doubled, 3)))
    assert sorted(found) == [(task, 3 * task) for task in range(50)]


def test_no_task_is_no_work(engine: Engine) -> None:
    assert list(engine.run_tasks(local(acts.doubled, 3), [], away(acts.doubled, 3))) == []


def test_work_without_away_runs_on_threads_of_this_process(engine: Engine) -> None:
    seen = {found for _, found in engine.run_tasks(lambda task: threading.current_thread().name, range(4))}
    assert all(isinstance(name, str) and name.startswith("floodmark") for name in seen)


def test_a_task_is_taken_only_when_it_can_start_soon(engine: Engine) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    running = engine.run_tasks(local(acts.doubled, 2), endless(), away(acts.doubled, 2))
    for number in range(1, 20):
        next(running)
        assert taken <= number + 4
    running.close()  # type: ignore[attr-defined]
    assert taken < 25


def test_the_error_of_a_task_is_yielded(engine: Engine) -> None:
    ((task, error),) = engine.run_tasks(local(acts.refused), ["one"], away(acts.refused))
    assert task == "one"
    assert isinstance(error, StorageDenied)
    assert (error.what, error.on, error.why) == ("can't put an object", "s3://b/k", "AccessDenied")
    assert error.hint is not None and error.hint.startswith("Allow s3:PutObject.")


def test_a_caller_that_stops_iterating_waits_for_the_tasks_at_work(engine: Engine, tmp_path: Path) -> None:
    tasks = iter(range(100))
    running = engine.run_tasks(local(acts.marked, str(tmp_path)), tasks, away(acts.marked, str(tmp_path)))
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    assert next(tasks) < 10


def test_an_error_of_the_caller_ends_the_tasks_and_is_not_hidden(engine: Engine) -> None:
    with pytest.raises(KeyError):
        for _ in engine.run_tasks(local(acts.doubled, 2), range(10), away(acts.doubled, 2)):
            raise KeyError


def test_stopping_yields_the_other_tasks_as_stopped(dask_cluster: DaskServers, tmp_path: Path) -> None:
    stopping = threading.Event()

    def tasks() -> Iterator[int]:
        for number in range(6):
            if number == 3:
                until(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
                stopping.set()
            yield number

    begun = time.monotonic()
    with open_engine(dask_cluster.url, lambda event: None) as cluster:
        engine = cluster.engine(lambda event: None, 1, 10)
        work = away(acts.waiting, str(tmp_path), stopping.is_set)
        found = list(engine.run_tasks(local(acts.doubled, 2), tasks(), work))
    assert sorted(task for task, _ in found) == list(range(6))
    assert all(isinstance(outcome, TaskStopped) for _, outcome in found)
    assert not (tmp_path / "begun-3").exists()
    assert time.monotonic() - begun < 20  # the caller did not have to give them up


def test_events_arrive_while_the_task_runs_and_counts_with_its_end(
    dask_cluster: DaskServers, events: list[Event], tmp_path: Path
) -> None:
    go = tmp_path / "go"

    def observe(event: Event) -> None:
        events.append(event)
        go.touch()  # the task waits for it

    with open_engine(dask_cluster.url, observe) as cluster:
        found = list(cluster.engine(observe, 1, 2).run_tasks(local(acts.doubled, 2), [7], away(acts.telling, str(go))))
    assert found == [(7, 7)]
    assert [type(event).__name__ for event in events] == ["Retried", "StepAdvanced"]


def test_never_more_tasks_at_once_than_the_limit(dask_cluster: DaskServers, tmp_path: Path) -> None:
    with open_engine(dask_cluster.url, lambda event: None) as cluster:
        for limit in (1, 2):
            engine = cluster.engine(lambda event: None, 1, limit)
            work = away(acts.marked, str(tmp_path))
            most = max(found for _, found in engine.run_tasks(local(acts.doubled, 2), range(8), work))
            assert most == limit


@pytest.mark.parametrize("function", [acts.failing, acts.unpicklable])
def test_an_unexpected_error_returns_class_and_place_but_no_text(dask_cluster: DaskServers, function: Any) -> None:
    with open_engine(dask_cluster.url, lambda event: None) as cluster:
        ((_, error),) = cluster.engine(lambda event: None, 1, 1).run_tasks(lambda task: task, [1], away(function))
    assert type(error) is FloodmarkError
    assert acts.ROW not in f"{error} {error.args} {error.__dict__}"
    assert error.hint is not None and "tcp://127.0.0.1" in error.hint
    assert acts.ROW not in "".join(worker.log for worker in dask_cluster.workers)


def test_a_worker_without_an_extra_is_told_apart(dask_cluster: DaskServers) -> None:
    with open_engine(dask_cluster.url, lambda event: None) as cluster:
        ((_, error),) = cluster.engine(lambda event: None, 1, 1).run_tasks(lambda task: task, [1], away(acts.lacking))
    assert isinstance(error, ConfigError) and error.why == "there is no module pyarrow"
    assert "tcp://127.0.0.1" in str(error)


def test_a_stop_does_not_wait_for_tasks_that_never_began(dask_cluster: DaskServers, tmp_path: Path) -> None:
    """Other callers keep all workers busy."""
    others, own, stop = tmp_path / "others", tmp_path / "own", threading.Event()
    others.mkdir()
    own.mkdir()

    def keep_busy() -> None:
        with open_engine(dask_cluster.url, lambda event: None) as cluster:
            list(
                cluster.engine(lambda event: None, 1, 2).run_tasks(
                    lambda task: task, range(2), away(acts.waiting, str(others))
                )
            )

    busy = threading.Thread(target=keep_busy)
    busy.start()
    until(lambda: (others / "begun-0").exists() and (others / "begun-1").exists())
    with open_engine(dask_cluster.url, lambda event: None) as cluster:
        threading.Timer(0.2, stop.set).start()
        begun = time.monotonic()
        work = Away(acts.waiting, str(own), lambda task: task, stop.is_set)
        ((_, stopped),) = cluster.engine(lambda event: None, 1, 2).run_tasks(lambda task: task, [0], work)
    (others / "go").touch()
    busy.join()
    assert isinstance(stopped, TaskStopped) and time.monotonic() - begun < 15
    assert not (own / "begun-0").exists()
