"""The results file, bench/results/latest.json: one record per case, replaced whenever the case runs again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from bench.outcome import Finding, Outcome
from floodmark.wording import iso_time

FOLDER = Path(__file__).parent / "results"
LATEST = FOLDER / "latest.json"


class Machine(Struct, frozen=True):
    """The machine, and the versions. `load` is the one-minute load average at the start of a case."""

    cpus: int
    cpu: str
    memory_bytes: int
    load: float
    python: str
    floodmark: str
    commit: str
    postgresql: str


class CaseRecord(Struct, frozen=True):
    """The outcomes of a case, measured together. `runs` is the number of rounds."""

    case: str
    at: str
    machine: Machine
    runs: int
    outcomes: tuple[Outcome, ...]


class Results(Struct, frozen=True, kw_only=True):
    format: Literal["floodmark.bench"] = "floodmark.bench"
    version: Literal[2] = 2
    cases: tuple[CaseRecord, ...] = ()

    def outcome(self, name: str) -> Outcome | None:
        return next((one for case in self.cases for one in case.outcomes if one.case == name), None)

    @property
    def findings(self) -> list[tuple[Outcome, Finding]]:
        """All findings, each with its outcome."""
        return [(one, finding) for case in self.cases for one in case.outcomes for finding in one.findings]


def read(path: Path) -> Results:
    """Return the results in a file, or none if there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def merged(before: Results, new: CaseRecord, order: Sequence[str]) -> Results:
    """Return the results with one case replaced. `order` is the order of the cases."""
    cases = {case.case: case for case in before.cases} | {new.case: new}
    return Results(cases=tuple(sorted(cases.values(), key=lambda case: _place(case.case, order))))


def write(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def record(case: str, outcomes: Iterable[Outcome], machine: Machine, runs: int) -> CaseRecord:
    return CaseRecord(case, iso_time(datetime.now(UTC), "seconds"), machine, runs, tuple(outcomes))


def machine(postgresql: str) -> Machine:
    return Machine(
        cpus=os.cpu_count() or 1,
        cpu=_cpu(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        floodmark=_said([sys.executable, "-m", "floodmark", "--version"]),
        commit=_commit(),
        postgresql=postgresql,
    )


def _commit() -> str:
    """Return the checkout's commit, with a mark if the measured sources differ from it. A changed result does not."""
    git = ["git", "-C", str(FOLDER.parents[1])]
    commit = _said([*git, "rev-parse", "--short", "HEAD"])
    changed = _said([*git, "status", "--porcelain", "--", "src", ":(glob)bench/*.py", "bench/programs"])
    return f"{commit}-dirty" if commit and changed else commit


def _place(case: str, order: Sequence[str]) -> int:
    return order.index(case) if case in order else len(order)


def _said(command: Sequence[str]) -> str:
    """Return the lines of a program's output as one, or nothing if it can't run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ", ".join(done.stdout.splitlines()) if done.returncode == 0 else ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
