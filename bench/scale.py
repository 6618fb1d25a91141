"""The case `scale`: a database of 10 TiB in 5,000 tables, which is invented. Only the coordinator's work is real.

Each step is a process of its own on one state: a first run that is killed halfway, its resumption, a day without
changes, a day on which one chunk in a hundred changed, and the commands that read the state.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.contest import own_environment
from bench.measure import MIB, Sample, Series, timed
from bench.memory import MEMORY_BUDGET
from bench.outcome import Finding, Outcome
from bench.session import Session

_PROGRAM = Path(__file__).parent / "programs" / "scale.py"
# The first run is killed when it has read this many of 42,148 chunks.
KILLED_AFTER = 30_000
# The steps after the first run, with the names that the report gives them.
STEPS = (
    ("floodmark run (unchanged)", "run", 1),
    ("floodmark run (1 % of the chunks changed)", "run", 2),
    ("floodmark status", "status", 2),
    ("floodmark history", "history", 2),
    ("reader: the largest table", "read", 2),
    ("reader: changes of a day", "changes", 2),
    ("floodmark exporter", "exporter", 2),
    ("floodmark verify", "verify", 2),
    ("floodmark prune", "prune", 2),
)
# Not "floodmark run": the memory budget is not for chunks that do not grow.
OLD = "small chunks: "


class Measured(Struct, frozen=True):
    """A step: what it took, and what it counted."""

    name: str
    sample: Sample
    counts: Mapping[str, int]

    @property
    def series(self) -> Series:
        return Series(self.name, (self.sample,))


def outcomes(session: Session) -> list[Outcome]:
    percent = session.options.scale_percent
    grown = [*_steps(session, percent, grows=True)]
    old = [*_steps(session, percent, grows=False)]
    return [
        Outcome("scale", "10 TiB in 5,000 tables", _series(grown), (*_peaks(grown), *_figures(grown)), _NOTES),
        Outcome("scale-old", "10 TiB, cut into chunks of 64 MiB", _series(old), tuple(_figures(old)), _OLD_NOTES),
    ]


_NOTES = (
    "The database is invented and the objects have a few bytes, so the numbers are the coordinator's own work.",
    "Times are the processor's. Chunks grow with the table.",
)
_OLD_NOTES = ("The same with chunks that do not grow, as in a state that release 0.1.0 began.",)


def _steps(session: Session, percent: int, *, grows: bool) -> Iterator[Measured]:
    folder = session.bench.new_folder("scale")

    def step(title: str, what: str, day: int, **more: int) -> Measured:
        name = title if grows else f"{OLD}{title}"
        options = {"day": day, "percent": percent, "grows": int(grows), **more}
        words = [f"{key}={value}" for key, value in options.items()]
        command = [sys.executable, str(_PROGRAM), str(folder), what, *words]
        sample, output = timed(command, own_environment({}), session.bench.new_folder("step"), lambda: 0.0)
        session.say(f"  {name}: cpu {sample.cpu_seconds:.2f} s, {sample.peak_bytes / MIB:.0f} MiB")
        return Measured(name, sample, msgspec.json.decode(output, type=dict[str, int]))

    yield step("floodmark run (first, killed)", "run", 1, kill=KILLED_AFTER * percent // 100)
    yield step("floodmark run (first, resumed)", "run", 1)
    for name, what, day in STEPS:
        yield step(name, what, day)


def _series(steps: list[Measured]) -> tuple[Series, ...]:
    return tuple(one.series for one in steps)


def _peaks(steps: list[Measured]) -> Iterator[Finding]:
    for one in steps:
        yield Finding(f"peak, {one.name}", one.sample.peak_bytes / MIB, "MiB", MEMORY_BUDGET / MIB)


def _figures(steps: list[Measured]) -> Iterator[Finding]:
    """Yield the findings per chunk, and the sizes of documents."""
    killed, first, same, changed = steps[:4]
    (scrape,) = (one.counts["scrape bytes"] for one in steps if "scrape bytes" in one.counts)
    chunks = first.counts["chunks"]
    yield Finding("chunks", chunks, "")
    yield Finding("manifest", first.counts["manifests bytes"] / 1e6, "MB")
    yield Finding("manifest, per chunk", first.counts["manifests bytes"] / chunks, "bytes")
    yield Finding("progress: written until the kill", killed.counts["progress bytes"] / 1e6, "MB")
    yield Finding("looks at objects, 1 % changed", changed.counts["HEAD"], "")
    for one in (same, changed):
        yield Finding(f"{one.name}, per chunk", 1e6 * one.sample.cpu_seconds / chunks, "µs")
        yield Finding(f"{one.name}, memory per chunk", (one.sample.peak_bytes - _BASE) / chunks, "bytes")
    yield Finding("scrape", scrape / 1e6, "MB")


# The memory of a run without tables.
_BASE = 34 * MIB
