"""A Dask cluster that breaks: workers and schedulers that die, freeze, are missing, or have another Floodmark."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import fix_dask_acts as acts
from fix_command import until
from fix_dask import DaskServers, MakeDask, python_path, require_dask
from fix_ports import closed_port
from floodmark.engine.address import read_address
from floodmark.engine.base import Away, Cluster, TaskStopped
from floodmark.engine.opening import open_engine
from floodmark.errors import ConfigError, EngineError, FloodmarkError, Stopped
from floodmark.events import Event, Observer, Warned, ignore_event
from floodmark.stop import NEVER, Stop


@pytest.fixture(autouse=True)
def dask_is_installed() -> None:
    require_dask()


def away(function: Any, shared: Any = None, stopping: Any = NEVER.is_set) -> Away[Any]:
    return Away(function, shared, lambda task: task, stopping)


def joined(url: str, observer: Observer = ignore_event, **seconds: float) -> Cluster:
    """Open a cluster with other time limits."""
    from floodmark.engine.dask import Patience  # noqa: PLC0415 - Dask can be missing
    from floodmark.engine.dask_cluster import join_scheduler  # noqa: PLC0415

    return join_scheduler(read_address(url), observer, NEVER, Patience(**seconds))


def outcomes(servers: DaskServers, work: Away[Any], tasks: Any, limit: int = 2) -> list[tuple[Any, Any]]:
    with open_engine(servers.url, ignore_event) as cluster:
        ended = cluster.engine(ignore_event, 1, limit).run_tasks(lambda task: task, tasks, work)
        return sorted(ended, key=lambda pair: str(pair[0]))


def test_a_task_whose_worker_is_killed_is_done_by_another(make_dask: MakeDask, tmp_path: Path) -> None:
    servers = make_dask(2)
    found = outcomes(servers, away(acts.deadly, str(tmp_path)), ["first"])
    assert found == [("first", "first")]
    assert [worker.process.poll() is None for worker in servers.workers].count(False) == 1
    assert outcomes(servers, away(acts.doubled, 2), range(5)) == [(task, 2 * task) for task in range(5)]


def test_a_task_that_kills_its_workers_is_an_error(make_dask: MakeDask) -> None:
    servers = make_dask(1, settings={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"})
    ((_, error),) = outcomes(servers, away(acts.deadly, ""), ["first"])
    assert isinstance(error, EngineError) and error.exit_code == 16
    assert error.why == "1 worker died while doing one task"


def test_a_scheduler_that_dies_gives_each_task_an_error(make_dask: MakeDask, tmp_path: Path) -> None:
    servers = make_dask(1)
    with open_engine(servers.url, ignore_event) as cluster:
        engine = cluster.engine(ignore_event, 1, 2)
        running = engine.run_tasks(lambda task: task, range(2), away(acts.waiting, str(tmp_path)))
        threading.Thread(target=lambda: (until((tmp_path / "begun-0").exists), servers.scheduler.kill())).start()
        begun = time.monotonic()
        found = list(running)
    assert sorted(task for task, _ in found) == [0, 1]
    assert all(isinstance(error, EngineError) and error.what == "lost the Dask scheduler" for _, error in found)
    assert time.monotonic() - begun < 10
    until((tmp_path / "ended-0").exists)  # the worker noticed


def test_a_caller_that_is_killed_ends_its_tasks(dask_cluster: DaskServers, tmp_path: Path) -> None:
    code = (
        "import sys, fix_dask_acts as acts\n"
        "from floodmark.engine.base import Away\n"
        "from floodmark.engine.opening import open_engine\n"
        "cluster = open_engine(sys.argv[1], print)\n"
        "work = Away(acts.waiting, sys.argv[2], lambda task: task, lambda: False)\n"
        "list(cluster.engine(print, 1, 2).run_tasks(None, range(4), work))\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code, dask_cluster.url, str(tmp_path)], cwd=Path(__file__).parents[1]
    )
    try:
        until(lambda: (tmp_path / "begun-0").exists() and (tmp_path / "begun-1").exists())
    finally:
        caller.kill()
        caller.wait()
    until(lambda: (tmp_path / "ended-0").exists() and (tmp_path / "ended-1").exists())
    assert not (tmp_path / "begun-2").exists()
    assert outcomes(dask_cluster, away(acts.doubled, 2), range(3)) == [(task, 2 * task) for task in range(3)]


def test_a_worker_that_freezes_holds_nobody_up_for_ever(make_dask: MakeDask, tmp_path: Path) -> None:
    servers, stop = make_dask(1), Stop()

    def freeze() -> None:
        until((tmp_path / "begun-0").exists)
        servers.workers[0].freeze()
        stop.ask(signal.SIGTERM)

    with joined(servers.url, ends=1) as cluster:
        threading.Thread(target=freeze).start()
        work = away(acts.waiting, str(tmp_path), stop.is_set)
        ((_, outcome),) = cluster.engine(ignore_event, 1, 2).run_tasks(lambda task: task, [0], work)
    assert isinstance(outcome, TaskStopped)


def test_a_cluster_without_workers_waits_for_one_and_says_so(make_dask: MakeDask) -> None:
    servers, events = make_dask(0), list[Event]()
    with pytest.raises(EngineError, match="has no worker"):
        joined(servers.url, events.append, workers=0.5)
    assert [event for event in events if isinstance(event, Warned) and "has no worker; waiting" in event.message]

    def observe(event: Event) -> None:
        servers.add_worker(wait=False)

    with open_engine(servers.url, observe) as cluster:
        found = list(cluster.engine(ignore_event, 1, 2).run_tasks(lambda task: task, [1], away(acts.doubled, 2)))
    assert found == [(1, 2)]


def test_all_workers_gone_in_the_middle_is_an_error_after_a_while(make_dask: MakeDask, tmp_path: Path) -> None:
    """A stop does not wait for workers that are gone."""
    servers, events, stop = make_dask(1), list[Event](), Stop()

    def kill() -> None:
        until((tmp_path / "begun-0").exists)
        servers.workers[0].kill()

    with joined(servers.url, workers=1) as cluster:
        threading.Thread(target=kill).start()
        work = away(acts.waiting, str(tmp_path), stop.is_set)
        stopping = cluster.engine(lambda event: stop.ask(signal.SIGTERM), 1, 2)
        ((_, stopped),) = stopping.run_tasks(lambda task: task, [0], work)
        engine, again = cluster.engine(events.append, 1, 2), away(acts.waiting, str(tmp_path))
        ((_, error),) = engine.run_tasks(lambda task: task, [0], again)
    assert isinstance(stopped, TaskStopped)
    assert isinstance(error, EngineError) and error.what == "the Dask cluster has no worker"
    assert any(isinstance(event, Warned) for event in events)


def test_a_stop_ends_the_wait_for_a_worker(make_dask: MakeDask) -> None:
    servers, stop = make_dask(0), Stop()
    with pytest.raises(Stopped):
        open_engine(servers.url, lambda event: stop.ask(signal.SIGINT), stop)


OTHER = "import floodmark, floodmark.version\nfloodmark.version.__version__ = floodmark.__version__ = '0.1.9'\n"


def other_floodmark(folder: Path) -> dict[str, str]:
    """The environment of a worker with another version."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OTHER)
    return python_path(folder)


def test_a_worker_with_another_floodmark_is_refused_before_and_after_the_start(
    make_dask: MakeDask, tmp_path: Path
) -> None:
    servers = make_dask(0)
    servers.add_worker()
    with open_engine(servers.url, ignore_event) as cluster:
        servers.add_worker(other_floodmark(tmp_path / "other"))  # it comes late
        servers.workers[0].kill()
        ((_, error),) = cluster.engine(ignore_event, 1, 2).run_tasks(lambda task: task, [1], away(acts.doubled, 2))
    assert isinstance(error, ConfigError) and "has 0.1.9" in (error.on or "") and "0.2.0" in (error.why or "")
    with pytest.raises(ConfigError, match=r"tcp://127.0.0.1:\d+ has 0.1.9: this process has 0.2.0"):
        open_engine(servers.url, ignore_event)


def test_a_worker_without_floodmark_is_refused(make_dask: MakeDask, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['floodmark'] = None\n")
    servers = make_dask(1, {"PYTHONPATH": str(tmp_path)})
    with pytest.raises(ConfigError, match="has none"):
        open_engine(servers.url, ignore_event)


def test_a_scheduler_needs_no_floodmark(make_dask: MakeDask, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['floodmark'] = None\n")
    servers = make_dask(0, settings={"PYTHONPATH": str(tmp_path)})
    servers.add_worker(python_path())
    assert outcomes(servers, away(acts.doubled, 2), [4]) == [(4, 8)]


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_scheduler_that_is_not_there(host: str) -> None:
    with pytest.raises(EngineError) as caught:
        open_engine(f"dask://{host}:{closed_port()}", ignore_event)
    assert caught.value.why == ("the connection was refused" if host[0] == "1" else "the host is unknown")


def test_something_else_that_listens_there_is_no_scheduler() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(EngineError, match=r"it does not answer(.|\n)*dask\+tls"),
    ):
        joined(f"dask://127.0.0.1:{silent.getsockname()[1]}", connect=0.5)


def test_a_client_of_the_program_stays_as_it_is(dask_cluster: DaskServers) -> None:
    from distributed import Client  # noqa: PLC0415

    with Client(dask_cluster.url.replace("dask", "tcp"), set_as_default=False) as client:
        with open_engine(client, ignore_event) as cluster:
            found = list(cluster.engine(ignore_event, 1, 2).run_tasks(lambda task: task, [1], away(acts.doubled, 2)))
        assert found == [(1, 2)]
        assert client.submit(pow, 2, 3).result() == 8
    with pytest.raises(ConfigError, match="neither a URL nor"):
        open_engine(7, ignore_event)  # type: ignore[arg-type]


def test_nothing_is_left_behind(dask_cluster: DaskServers) -> None:
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outcomes(dask_cluster, away(acts.doubled, 2), range(5))
        with pytest.raises(EngineError):
            open_engine(f"dask://127.0.0.1:{closed_port()}", ignore_event)
    assert set(threading.enumerate()) == before


def test_results_are_released(dask_cluster: DaskServers) -> None:
    from distributed import Client  # noqa: PLC0415

    outcomes(dask_cluster, away(acts.doubled, 2), range(20))
    with Client(dask_cluster.url.replace("dask", "tcp"), set_as_default=False) as client:
        until(lambda: not any(client.has_what().values()))


def test_an_error_keeps_its_place(dask_cluster: DaskServers) -> None:
    ((_, error),) = outcomes(dask_cluster, away(acts.failing), [1])
    assert isinstance(error, FloodmarkError) and error.why is not None
    assert error.why.startswith("ValueError in ")
