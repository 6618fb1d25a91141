"""The cases: the programs to compare, and the budgets. bench/README.md lists the budgets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench import data
from bench.contest import Bench, Contestant, Expected, rounds
from bench.measure import MIB, Sample, Series, paired_cpu_ratio, paired_ratio

COUNT = "SELECT count(*), min(age(xmin)) FROM case_event;\n"
MEMORY_BUDGET = 256 * MIB
PER_TABLE_BUDGET = 0.010

FIRST = Expected(extracted=1)
SAME = Expected(unchanged=1, wrote=False)


class Finding(Struct, frozen=True):
    """A number and its budget, if it has one. `value` must be at most `budget`; both are in `unit`."""

    what: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def kept(self) -> bool | None:
        return None if self.budget is None else self.value <= self.budget


class Outcome(Struct, frozen=True):
    """The result of a case: one series per contestant, and the findings."""

    case: str
    title: str
    series: tuple[Series, ...]
    findings: tuple[Finding, ...]

    @property
    def peak_bytes(self) -> int:
        """The peak memory of Floodmark in this case."""
        return max(one.peak_bytes for one in self.series if one.name.startswith("floodmark"))


class Large:
    """The cases on the large table. They share a landing folder with the previous day's run."""

    def __init__(self, bench: Bench, rows: int) -> None:
        self._bench, self._first_rows, self._last = bench, rows, rows
        self._landing: Path | None = None
        self._day = 0

    def full(self) -> Outcome:
        jobs = os.cpu_count() or 1
        series = self._run(
            Contestant("floodmark run (first)", lambda: self._floodmark(self._bench.new_folder("full"), FIRST)),
            Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: self._bench.pg_dump(data.LARGE, jobs)),
            Contestant("psql row_to_json | gzip -1", lambda: self._bench.psql_gzip(data.LARGE)),
        )
        ours, dump, shell = series
        return Outcome(
            "full",
            "full extraction",
            series,
            (
                Finding("against pg_dump", paired_ratio(ours, dump), "×", 1.0),
                Finding("against psql | gzip", paired_ratio(ours, shell), "×"),
                Finding("against pg_dump, processor time", paired_cpu_ratio(ours, dump), "×"),
                Finding("against psql | gzip, processor time", paired_cpu_ratio(ours, shell), "×"),
            ),
        )

    def unchanged(self) -> Outcome:
        landing = self._yesterday()
        series = self._run(
            Contestant("floodmark run (audit off)", lambda: self._floodmark(landing, SAME, audit=False)),
            Contestant("psql count, min(age(xmin))", lambda: self._bench.psql(data.LARGE, COUNT)),
            Contestant("floodmark run (default audit)", lambda: self._floodmark(landing, SAME)),
            Contestant("floodmark --version", self._bench.start),
        )
        quiet, count, audited, start = series
        return Outcome(
            "unchanged",
            "unchanged day",
            series,
            (
                Finding("audit off, against the count", paired_ratio(quiet, count), "×", 1.5),
                Finding("default audit, against the count", paired_ratio(audited, count), "×", 1.5),
                Finding("audit off minus start-up, against the count", _less(quiet, start) / count.seconds, "×"),
                Finding("audit off, against the count, processor time", paired_cpu_ratio(quiet, count), "×"),
            ),
        )

    def appended(self) -> Outcome:
        def append() -> None:
            with self._bench.connect(data.LARGE) as connection:
                self._last += data.append(connection, self._last + 1, self._last + self._first_rows // 100)

        return self._changed("appended", "1 % of rows appended", append)

    def updated(self) -> Outcome:
        def update() -> None:
            self._day += 1
            with self._bench.connect(data.LARGE) as connection:
                data.touch(connection, self._day)

        return self._changed("updated", "1 % of rows updated at random", update)

    def _changed(self, case: str, title: str, change: Callable[[], None]) -> Outcome:
        landing = self._yesterday()
        jobs = os.cpu_count() or 1
        series = self._run(
            Contestant("floodmark run", lambda: self._floodmark(landing, FIRST), before=change),
            Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: self._bench.pg_dump(data.LARGE, jobs)),
        )
        return Outcome(case, title, series, _against_pg_dump(*series))

    def _yesterday(self) -> Path:
        """Bring the landing folder up to date, without measuring it, and return it."""
        if self._landing is None:
            self._landing = self._bench.new_folder("landing")
        self._floodmark(self._landing, Expected(wrote=None))
        return self._landing

    def _floodmark(self, landing: Path, expect: Expected, *, audit: bool = True) -> Sample:
        return self._bench.floodmark(data.LARGE, landing, expect, audit=audit)

    def _run(self, *contestants: Contestant) -> tuple[Series, ...]:
        return tuple(rounds(contestants, self._bench.runs, self._bench.say))


def small(bench: Bench, tables: int) -> Outcome:
    landing = bench.new_folder("landing")
    bench.floodmark(data.SMALL, landing, Expected(extracted=tables))
    count, jobs = data.count_small(tables), os.cpu_count() or 1
    first, same = Expected(extracted=tables), Expected(unchanged=tables, wrote=False)
    series = rounds(
        [
            Contestant("floodmark run (first)", lambda: bench.floodmark(data.SMALL, bench.new_folder("small"), first)),
            Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: bench.pg_dump(data.SMALL, jobs)),
            Contestant("floodmark run (unchanged)", lambda: bench.floodmark(data.SMALL, landing, same)),
            Contestant("psql count per table", lambda: bench.psql(data.SMALL, count)),
        ],
        bench.runs,
        bench.say,
    )
    begin, dump, again, each = series
    return Outcome(
        "small",
        f"{tables:,} small tables",
        tuple(series),
        (
            Finding("first run, per table", 1000 * begin.seconds / tables, "ms", 1000 * PER_TABLE_BUDGET),
            Finding("unchanged day, per table", 1000 * again.seconds / tables, "ms", 1000 * PER_TABLE_BUDGET),
            Finding("first run against pg_dump", paired_ratio(begin, dump), "×"),
            Finding("unchanged day against the counts", paired_ratio(again, each), "×"),
        ),
    )


def _against_pg_dump(ours: Series, dump: Series) -> tuple[Finding, ...]:
    return (
        Finding("against pg_dump", paired_ratio(ours, dump), "×"),
        Finding("against pg_dump, processor time", paired_cpu_ratio(ours, dump), "×"),
    )


def peak(outcomes: list[Outcome]) -> Finding:
    """Return the peak memory of all runs on rows of usual width."""
    most = max(outcome.peak_bytes for outcome in outcomes)
    return Finding("peak memory of all floodmark runs except wide rows", most / MIB, "MiB", MEMORY_BUDGET / MIB)


def _less(series: Series, start: Series) -> float:
    return max(0.0, series.seconds - start.seconds)
