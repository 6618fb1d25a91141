"""One measurement of a program: its wall time, its processor time (plus the server's) and its peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

MIB = 1024**2
# Seconds until the server has noticed that its client is gone.
_SETTLE = 0.3


class Sample(Struct, frozen=True):
    """The time and memory of one run of a program. `peak_bytes` is the resident memory of this process only.

    `cpu_seconds` is its processor time, including the programs that it started. `server_cpu_seconds` is the database
    server's processor time during the run.
    """

    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_bytes: int

    @property
    def all_cpu_seconds(self) -> float:
        return self.cpu_seconds + self.server_cpu_seconds


class Failed(Exception):
    """A measured program that did not do what the case expects."""


def server_clock(postmaster: int) -> float:
    """Return the processor seconds of a PostgreSQL server so far, of its live and its ended processes."""
    before = _times(postmaster)
    while True:
        living = sum(user + system for parent, user, system, *_ in _processes() if parent == postmaster)
        after = _times(postmaster)
        if after[3:] == before[3:]:  # else a process ended meanwhile, and can be counted twice or not at all
            return (living + sum(after[1:])) / os.sysconf("SC_CLK_TCK")
        before = after


def _processes() -> Iterator[tuple[int, ...]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield _times(int(entry.name))
            except OSError:  # it has just ended, and its parent's times include it
                continue


def _times(pid: int) -> tuple[int, ...]:
    """Return a process's parent, its own user and system ticks, and those of its reaped children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), *(int(field) for field in fields[11:15])


def timed(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, server: Callable[[], float]
) -> tuple[Sample, bytes]:
    """Run a program in a folder. Return its sample and its stdout. Raise Failed unless its exit code is 0.

    stderr goes to a file, so that a full pipe can't block the program and a terminal can't change its output.
    """
    output, talk = folder / "stdout", folder / "stderr"
    with output.open("wb") as out, talk.open("wb") as err:
        server_begun, begun = server(), time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end = talk.read_text(errors="replace")[-500:]
        raise Failed(f"{Path(command[0]).name} ended with {process.returncode}: {end}")
    time.sleep(_SETTLE)
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(seconds, cpu, server() - server_begun, usage.ru_maxrss * 1024), output.read_bytes()


class Series(Struct, frozen=True):
    """The samples of one contestant, in the order of the rounds."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        return median(sample.seconds for sample in self.samples)

    @property
    def cpu_seconds(self) -> float:
        """The processor time of client and server together."""
        return median(sample.all_cpu_seconds for sample in self.samples)

    @property
    def span(self) -> tuple[float, float]:
        """The fastest and the slowest run."""
        return min(s.seconds for s in self.samples), max(s.seconds for s in self.samples)

    @property
    def peak_bytes(self) -> int:
        return max(sample.peak_bytes for sample in self.samples)


def paired_ratio(ours: Series, peer: Series) -> float:
    """Return the median of the ratios of all rounds. A machine that is slow for a while is slow for both."""
    return median(a.seconds / b.seconds for a, b in zip(ours.samples, peer.samples, strict=True))


def paired_cpu_ratio(ours: Series, peer: Series) -> float:
    """Return the same for processor time of client and server. Other programs on the machine hardly affect it."""
    pairs = zip(ours.samples, peer.samples, strict=True)
    return median(a.all_cpu_seconds / max(b.all_cpu_seconds, 0.01) for a, b in pairs)
