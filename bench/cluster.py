"""The case `cluster`: the large table, extracted by threads of one process and by two workers of a Dask cluster.

All of it shares one machine, so the cluster can't win. The budget limits what it costs.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from bench import data
from bench.contest import Contestant, Expected, own_environment, rounds
from bench.measure import Failed, Sample, all_cpu, paired, process_clock, wall
from bench.outcome import Finding, Outcome, Skipped
from bench.session import Session

WORKERS, THREADS = 2, 2
# Else Dask samples the stacks of busy threads a hundred times a second (docs/scale.md).
QUIET = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
# A cluster must have at least 0.9 of the speed, so it can take 1 / 0.9 of the time.
BUDGET = round(1 / 0.9, 2)


def outcomes(session: Session) -> list[Outcome]:
    """Measure full extractions in pairs."""
    if importlib.util.find_spec("distributed") is None:
        raise Skipped("the extra dask is not installed")
    size = session.large_bytes
    with _cluster(session) as (url, pids):
        threads, workers = rounds(
            [
                Contestant("floodmark run", lambda: _run(session, None, ())),
                Contestant(f"floodmark run --engine, {WORKERS} workers", lambda: _run(session, url, pids)),
            ],
            session.options.runs,
            session.say,
        )
    about = f"{session.options.rows:,} rows, {size / 1e6:.0f} MB in the database. Each worker has {THREADS} threads."
    found = (
        Finding("workers against threads", paired(workers, threads, wall), "×", BUDGET),
        Finding("workers against threads, processor time of all", paired(workers, threads, all_cpu), "×"),
        Finding("workers minus threads", workers.seconds - threads.seconds, "s"),
    )
    return [Outcome("cluster", "two workers of a Dask cluster", (threads, workers), found, (about,))]


def _run(session: Session, engine: str | None, pids: Sequence[int]) -> Sample:
    """Measure one run. The processor time of the processes `pids` counts as its own."""
    landing, before = session.bench.new_folder("cluster"), sum(map(process_clock, pids))
    sample = session.bench.floodmark(data.LARGE, landing, Expected(extracted=1), engine=engine)
    return replace(sample, cpu_seconds=sample.cpu_seconds + sum(map(process_clock, pids)) - before)


@contextmanager
def _cluster(session: Session) -> Iterator[tuple[str, list[int]]]:
    """Start a scheduler and its workers, and yield the address and the processes."""
    folder, port = session.bench.new_folder("dask"), _free_port()
    place = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["worker", place, "--no-nanny", "--no-dashboard", "--nthreads", str(THREADS), "--memory-limit", "0"]
    worker += ["--local-directory", str(folder)]
    started = [_start(folder / "scheduler.log", scheduler, {})]
    source = {"FLOODMARK_SOURCE": session.bench.server.url(data.LARGE), **QUIET}
    started += [_start(folder / f"worker-{number}.log", worker, source) for number in range(WORKERS)]
    try:
        for number in range(WORKERS):
            _wait(folder / f"worker-{number}.log")
        yield f"dask://127.0.0.1:{port}", [process.pid for process in started]
    finally:
        for process in reversed(started):  # a worker whose scheduler is gone waits for it
            _end(process)


def _start(log: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as talk:
        command = [sys.executable, "-m", "dask", *arguments]
        return subprocess.Popen(command, stdout=talk, stderr=talk, env=own_environment(environment))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(log: Path) -> None:
    end = time.monotonic() + 60
    while b"Registered to" not in log.read_bytes():
        if time.monotonic() > end:
            raise Failed(f"no worker: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
