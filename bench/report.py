"""The report of a benchmark run: tables for people (on stdout and as Markdown), and JSON for later comparison."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.cases import Finding, Outcome
from bench.measure import MIB, Sample
from floodmark.version import __version__
from floodmark.wording import iso_time, plural


class Machine(Struct, frozen=True):
    """The machine and the versions of a benchmark run. `load` is the one-minute load average at its start."""

    cpus: int
    cpu: str
    memory_bytes: int
    load: float
    python: str
    floodmark: str
    postgresql: str


class SeriesRecord(Struct, frozen=True):
    name: str
    median_seconds: float
    median_cpu_seconds: float
    peak_bytes: int
    samples: tuple[Sample, ...]


class CaseRecord(Struct, frozen=True):
    case: str
    title: str
    series: tuple[SeriesRecord, ...]
    findings: tuple[Finding, ...]


class Report(Struct, frozen=True):
    """A benchmark run. `rows` and `table_bytes` describe the generated large table. Both are 0 if no case used it."""

    format: str
    at: str
    machine: Machine
    rows: int
    table_bytes: int
    runs: int
    cases: tuple[CaseRecord, ...]
    overall: tuple[Finding, ...]


def machine(postgresql: str) -> Machine:
    return Machine(
        cpus=os.cpu_count() or 1,
        cpu=_cpu(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        floodmark=__version__,
        postgresql=postgresql,
    )


def report(
    on: Machine, rows: int, table_bytes: int, runs: int, outcomes: list[Outcome], overall: list[Finding]
) -> Report:
    cases = tuple(
        CaseRecord(
            outcome.case,
            outcome.title,
            tuple(SeriesRecord(s.name, s.seconds, s.cpu_seconds, s.peak_bytes, s.samples) for s in outcome.series),
            outcome.findings,
        )
        for outcome in outcomes
    )
    at = iso_time(datetime.now(UTC), "seconds")
    return Report("floodmark.bench", at, on, rows, table_bytes, runs, cases, tuple(overall))


def write(result: Report, folder: Path) -> Path:
    """Write <date>.json and <date>.md. A later run of the same day replaces them. Return the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.at[:10]}.md"
    path.write_text(markdown(result))
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return path


def markdown(result: Report) -> str:
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Report) -> Iterator[str]:
    on = result.machine
    yield f"# Benchmark of {result.at}"
    yield ""
    yield (
        f"Floodmark {on.floodmark}, PostgreSQL {on.postgresql}, Python {on.python}; {on.cpus} × {on.cpu}, "
        f"{on.memory_bytes / 1024**3:.0f} GiB; load {on.load} at the start. "
        f"Medians of {plural(result.runs, 'round')} in turn. Processor time covers client and server."
    )
    if result.rows:
        yield f"The large table: {result.rows:,} rows, {result.table_bytes / 1e6:.0f} MB."
    for case in result.cases:
        yield from ("", f"## {case.title}", "", "| program | seconds | fastest to slowest | cpu seconds | peak MiB |")
        yield "| --- | ---: | ---: | ---: | ---: |"
        yield from (_series_row(series) for series in case.series)
        yield from _finding_rows(case.findings)
    yield from ("", "## All cases")
    yield from _finding_rows(result.overall)


def _series_row(series: SeriesRecord) -> str:
    times = [sample.seconds for sample in series.samples]
    span = f"{min(times):.2f} to {max(times):.2f}"
    cpu = f"{series.median_cpu_seconds:.2f}"
    return f"| {_cell(series.name)} | {series.median_seconds:.2f} | {span} | {cpu} | {series.peak_bytes / MIB:.0f} |"


def _finding_rows(findings: tuple[Finding, ...]) -> Iterator[str]:
    yield from ("", "| finding | value | budget | kept |", "| --- | ---: | ---: | --- |")
    for finding in findings:
        budget = "" if finding.budget is None else f"≤ {finding.budget:g} {finding.unit}"
        kept = {None: "", True: "yes", False: "**no**"}[finding.kept]
        yield f"| {_cell(finding.what)} | {finding.value:.2f} {finding.unit} | {budget} | {kept} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
