"""The parts of documents that come from the results file: `python -m bench.pages` writes them again.

Such a part is between two comments, `<!-- bench: name -->` and `<!-- bench: end -->`. The others are written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import chart, results
from bench.full import BINARY, BY_SERVER
from bench.measure import MIB
from bench.outcome import Outcome
from bench.report import cell, finding_row, markdown, number, peak, series_table
from bench.results import Results

ROOT = Path(__file__).parents[1]
CHART = Path(__file__).parent / "chart.svg"
PAGES = (ROOT / "README.md", ROOT / "bench" / "README.md")
_PART = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- bench: end -->)", re.DOTALL)


def files(found: Results) -> dict[Path, str]:
    """Return the path and text of each file that the results determine, in part or as a whole."""
    full = found.outcome("full")
    drawn = {} if full is None else {CHART: chart.svg(full)}
    pages = {page: filled(page.read_text(encoding="utf-8"), found) for page in PAGES}
    return {results.LATEST.with_suffix(".md"): markdown(found), **drawn, **pages}


def filled(page: str, found: Results) -> str:
    """Return a page with its parts from the results."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]](found)}\n{part[3]}", page)


def write(found: Results) -> None:
    for path, text in files(found).items():
        path.write_text(text, encoding="utf-8")


def _chart(found: Results) -> str:
    """Return the chart for the project's README, with the summary's table next to it."""
    full = found.outcome("full")
    return "" if full is None else "![Bars for the times in the table below](bench/chart.svg)\n"


def _figures(found: Results) -> str:
    """Return the chart and the table of the full extraction."""
    full = found.outcome("full")
    if full is None:
        return ""
    lines = [f"![{_alternative(full)}](chart.svg)", "", *full.notes, "", *series_table(full.series)]
    return "\n".join(lines) + "\n"


def _parts(found: Results) -> str:
    """Return the client's steps of a full extraction, and the rest of the client's processor time."""
    full, parts, start = found.outcome("full"), found.outcome("parts"), found.outcome("start")
    if full is None or parts is None or start is None:
        return "Not measured yet.\n"
    whole, begin = full.series[0].client_cpu_seconds, start.series[0].client_cpu_seconds
    steps = [("starting", begin), *((cell(one.what), one.value) for one in parts.findings)]
    rest = whole - sum(seconds for _, seconds in steps)
    steps += [("not separated: connections, threads that wait for each other, shared caches", rest)]
    rows = [f"| {what} | {number(seconds)} |" for what, seconds in (*steps, ("all of the client", whole))]
    return "\n".join((" ".join(parts.notes), "", "| step of the client | seconds |", "| --- | ---: |", *rows)) + "\n"


def _compression(found: Results) -> str:
    """Return a line per compressor and level, made of a finding for its rate and one for its result."""
    outcome = found.outcome("compression")
    if outcome is None:
        return "Not measured yet.\n"
    pairs = zip(outcome.findings[::2], outcome.findings[1::2], strict=True)
    rows = [
        f"| {rate.what.partition(',')[0]} | {number(rate.value)} | {number(left.value)} % |" for rate, left in pairs
    ]
    return "\n".join(("| compressor | MB of lines a second | stored |", "| --- | ---: | ---: |", *rows)) + "\n"


def _budgets(found: Results) -> str:
    """Return every finding that has a budget."""
    overall = peak(found)
    rows = [finding_row(f"{cell(one.title)}: {cell(f.what)}", f) for one, f in found.findings if f.budget is not None]
    rows += [] if overall is None else [finding_row(overall.what, overall)]
    return "\n".join(("| finding | value | budget | kept |", "| --- | ---: | ---: | --- |", *rows)) + "\n"


def _summary(found: Results) -> str:
    """Return one line per program for the project's README."""
    full = found.outcome("full")
    return "" if full is None else "\n".join(_summary_lines(full)) + "\n"


def _summary_lines(full: Outcome) -> Iterator[str]:
    yield "| program | wall | server CPU | client CPU | peak memory | written |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for one in full.series:
        if one.samples and one.name not in (BY_SERVER, BINARY):
            seconds = (one.seconds, one.server_cpu_seconds, one.client_cpu_seconds)
            times = " | ".join(f"{number(each)} s" for each in seconds)
            sizes = f"{one.peak_bytes / MIB:,.0f} MiB | {one.written_bytes / 1e6:,.0f} MB"
            yield f"| {cell(one.name)} | {times} | {sizes} |"


def _alternative(full: Outcome) -> str:
    """Return the chart in words, for readers who can't see it."""
    shown = [one for one in full.series if one.samples]
    times = ", ".join(f"{one.name} {number(one.seconds)} s" for one in shown).replace("[", "(").replace("]", ")")
    return f"Wall time of a full extraction: {times}"


PARTS: dict[str, Callable[[Results], str]] = {
    "chart": _chart,
    "summary": _summary,
    "figures": _figures,
    "budgets": _budgets,
    "parts": _parts,
    "compression": _compression,
}


if __name__ == "__main__":
    write(results.read(results.LATEST))
    sys.exit(0)
