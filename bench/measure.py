"""One measurement of a program: its wall time, its processor time (plus the server's) and its peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

MIB = 1024**2
# Seconds until the server has noticed that its client is gone.
_SETTLE = 0.3
# Seconds after which a program is ended.
_PATIENCE = 1800
_LAUNCH = Path(__file__).parent / "programs" / "launch.py"
# Clocks of /proc count hundredths of a second.
_TICK = 0.01


class Sample(Struct, frozen=True):
    """The time and memory of one run of a program.

    `cpu_seconds` is its processor time, including the programs that it started. `server_cpu_seconds` is the database
    server's processor time during the run. `peak_bytes` is the resident memory of the largest process among the
    program and those that it started. `written_bytes` is the size of its output files.
    """

    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_bytes: int
    written_bytes: int = 0

    @property
    def all_cpu_seconds(self) -> float:
        return self.cpu_seconds + self.server_cpu_seconds


class Failed(Exception):
    """A measured program that did not do what the case expects."""


def server_clock(postmaster: int) -> float:
    """Return the processor seconds of a PostgreSQL server so far, of its live and its ended processes.

    All of them are children of the postmaster, also parallel workers. Linux adds an ended child's time to its parent's.
    """
    before = _times(postmaster)
    while True:
        living = sum(user + system for parent, user, system, *_ in _processes() if parent == postmaster)
        after = _times(postmaster)
        if after[3:] == before[3:]:  # else a process ended meanwhile, and can be counted twice or not at all
            return (living + sum(after[1:])) / os.sysconf("SC_CLK_TCK")
        before = after


def process_clock(pid: int) -> float:
    """Return the processor seconds of one process so far."""
    _, user, system, *_ = _times(pid)
    return (user + system) / os.sysconf("SC_CLK_TCK")


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
    output, talk, times = folder / "stdout", folder / "stderr", folder / "times"
    launcher = [sys.executable, "-I", "-S", str(_LAUNCH), str(times), *command]
    with output.open("wb") as out, talk.open("wb") as err:
        begun = server()
        process = subprocess.Popen(
            launcher, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            start_new_session=True,
        )  # fmt: skip
        code = _waited(process)
    if code != 0:
        end = talk.read_text(errors="replace")[-500:]
        raise Failed(f"{Path(command[0]).name} ended with {code}: {end}")
    time.sleep(_SETTLE)
    spent = server() - begun
    seconds, cpu, peak = times.read_text().split()
    return Sample(float(seconds), float(cpu), spent, int(peak)), output.read_bytes()


def _waited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a program. End it with all that it started if it takes too long, or if this one is ended."""
    try:
        return process.wait(_PATIENCE)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"it did not end within {_PATIENCE} seconds") from None
        raise


class Series(Struct, frozen=True):
    """The samples of one contestant, in the order of the rounds. `note` tells why it has fewer than others, or none."""

    name: str
    samples: tuple[Sample, ...]
    note: str = ""

    @property
    def seconds(self) -> float:
        return median(sample.seconds for sample in self.samples)

    @property
    def cpu_seconds(self) -> float:
        """The processor time of client and server together."""
        return median(sample.all_cpu_seconds for sample in self.samples)

    @property
    def client_cpu_seconds(self) -> float:
        return median(sample.cpu_seconds for sample in self.samples)

    @property
    def server_cpu_seconds(self) -> float:
        return median(sample.server_cpu_seconds for sample in self.samples)

    @property
    def written_bytes(self) -> int:
        return int(median(sample.written_bytes for sample in self.samples))

    @property
    def peak_bytes(self) -> int:
        return max(sample.peak_bytes for sample in self.samples)


def paired(ours: Series, peer: Series, figure: Callable[[Sample], float]) -> float:
    """Return the median of the ratios of all rounds that both took part in.

    A machine that is slow for a while is slow for both.
    """
    pairs = zip(ours.samples, peer.samples, strict=False)
    return median(figure(a) / max(figure(b), _TICK) for a, b in pairs)


def paired_ratio(ours: Series, peer: Series) -> float:
    return paired(ours, peer, wall)


def paired_cpu_ratio(ours: Series, peer: Series) -> float:
    """Return the ratio of the processor times of client and server. Other programs on the machine hardly affect it."""
    return paired(ours, peer, all_cpu)


def wall(sample: Sample) -> float:
    return sample.seconds


def all_cpu(sample: Sample) -> float:
    return sample.all_cpu_seconds


def server_cpu(sample: Sample) -> float:
    return sample.server_cpu_seconds
