"""One measurement: run a program, and take its wall time and its peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

MIB = 1024**2


class Sample(Struct, frozen=True):
    """What one run of a program took. `peak_bytes` is the resident memory of the process and no other."""

    seconds: float
    peak_bytes: int


class Failed(Exception):
    """A program that was to be measured did not do what it should."""


def timed(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[Sample, bytes]:
    """Run a program in a folder; its sample and what it wrote to stdout. Raises Failed on any exit code but 0.

    stderr goes to a file, so that a chatty program can neither block nor be helped by a terminal.
    """
    output, talk = folder / "stdout", folder / "stderr"
    with output.open("wb") as out, talk.open("wb") as err:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end = talk.read_text(errors="replace")[-500:]
        raise Failed(f"{Path(command[0]).name} ended with {process.returncode}: {end}")
    return Sample(seconds, usage.ru_maxrss * 1024), output.read_bytes()


class Series(Struct, frozen=True):
    """The samples of one contestant, in the order they were taken."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        return median(sample.seconds for sample in self.samples)

    @property
    def span(self) -> tuple[float, float]:
        """The fastest and the slowest run."""
        return min(s.seconds for s in self.samples), max(s.seconds for s in self.samples)

    @property
    def peak_bytes(self) -> int:
        return max(sample.peak_bytes for sample in self.samples)


def paired_ratio(ours: Series, peer: Series) -> float:
    """The median of the ratios round by round: a machine that is slow for a while is slow for both."""
    pairs = zip(ours.samples, peer.samples, strict=True)
    return median(a.seconds / b.seconds for a, b in pairs)
