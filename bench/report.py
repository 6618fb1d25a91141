"""The report of results, as Markdown for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.measure import MIB, Series
from bench.memory import MEMORY_BUDGET, WIDE
from bench.outcome import Finding, Outcome
from bench.results import CaseRecord, Results
from floodmark.wording import plural

HEAD = "| program | seconds | fastest to slowest | client CPU s | server CPU s | peak MiB | written MB |"
RULE = "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"


def markdown(results: Results) -> str:
    return "\n".join(_lines(results)) + "\n"


def series_table(series: Iterable[Series]) -> Iterator[str]:
    """Yield the rows of a table of measurements. A series without a sample shows its note instead."""
    yield from (HEAD, RULE)
    for one in series:
        yield _series_row(one) if one.samples else f"| {cell(one.name)} | {cell(one.note)} | | | | | |"
    yield from (f"\n{cell(one.name)}: {one.note}." for one in series if one.samples and one.note)


def finding_table(findings: Iterable[Finding]) -> Iterator[str]:
    yield from ("| finding | value | budget | kept |", "| --- | ---: | ---: | --- |")
    yield from (finding_row(cell(finding.what), finding) for finding in findings)


def finding_row(what: str, finding: Finding) -> str:
    budget = "" if finding.budget is None else f"≤ {finding.budget:g} {finding.unit}"
    kept = {None: "", True: "yes", False: "**no**"}[finding.kept]
    return f"| {what} | {number(finding.value)} {finding.unit} | {budget} | {kept} |"


def number(value: float) -> str:
    """Return a number with about three digits, and never in a form with an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def peak(results: Results) -> Finding | None:
    """Return the peak memory of all runs of Floodmark on rows of usual width."""
    most = max((one.peak_bytes for case in results.cases for one in case.outcomes if one.case != WIDE), default=0)
    name = "peak memory of all floodmark runs except wide rows"
    return Finding(name, most / MIB, "MiB", MEMORY_BUDGET / MIB) if most else None


def _lines(results: Results) -> Iterator[str]:
    yield "# Benchmark results"
    yield ""
    yield "Medians of rounds in turn. Client CPU and server CPU are seconds of processor time."
    for case in results.cases:
        for number_in_case, outcome in enumerate(case.outcomes):
            yield from ("", f"## {outcome.title}", "")
            if number_in_case == 0:
                yield from (_circumstances(case), "")
            yield from _outcome(outcome)
    overall = peak(results)
    if overall is not None:
        yield from ("", "## All cases", "", *finding_table([overall]))


def _circumstances(case: CaseRecord) -> str:
    on = case.machine
    return (
        f"Measured at {case.at}: {on.floodmark}, commit {on.commit or 'unknown'}, PostgreSQL {on.postgresql}, "
        f"Python {on.python}; {on.cpus} × {on.cpu}, {on.memory_bytes / 1024**3:.0f} GiB; load {on.load} at the start; "
        f"{plural(case.runs, 'round')}."
    )


def _outcome(outcome: Outcome) -> Iterator[str]:
    if outcome.notes:
        yield from (" ".join(outcome.notes), "")
    if outcome.series:
        yield from series_table(outcome.series)
        yield ""
    yield from finding_table(outcome.findings)


def _series_row(series: Series) -> str:
    times = [sample.seconds for sample in series.samples]
    span = f"{min(times):.2f} to {max(times):.2f}"
    cpu = f"{series.client_cpu_seconds:.2f} | {series.server_cpu_seconds:.2f}"
    written = f"{series.written_bytes / 1e6:.0f}" if series.written_bytes else ""
    memory = f"{series.peak_bytes / MIB:.0f}" if series.peak_bytes else ""
    return f"| {cell(series.name)} | {series.seconds:.2f} | {span} | {cpu} | {memory} | {written} |"
