"""The cases on the large table, the small tables and the start-up. bench/README.md lists the budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from bench import data
from bench.contest import Contestant, Expected, rounds
from bench.measure import Sample, Series, paired_cpu_ratio, paired_ratio
from bench.outcome import Finding, Outcome
from bench.session import Session

COUNT = "SELECT count(*), min(age(xmin)) FROM case_event;\n"
START_BUDGET = 0.1
UNCHANGED_BUDGET = 1.2
DAYS = 20
# The larger part of an unchanged day's start-up, which `--version` does not need.
IMPORTS = "import floodmark.cli.main, floodmark.cli.commands.run, floodmark.source.postgres.snapshot"
FIRST_BUDGET, AGAIN_BUDGET = 0.002, 0.0005

FIRST = Expected(extracted=1)
SAME = Expected(unchanged=1, wrote=False)


def start(session: Session) -> list[Outcome]:
    """Measure `floodmark --version` more often than other cases, because it is short."""
    bench = session.bench
    contestants = [
        Contestant("floodmark --version", bench.start),
        Contestant("python -c ''", lambda: bench.python("")),
    ]
    ours, python = rounds(contestants, 5 * session.options.runs, session.say)
    findings = (
        Finding("floodmark --version", ours.seconds, "s", START_BUDGET),
        Finding("floodmark --version, processor time", ours.client_cpu_seconds, "s"),
        Finding("of this, the interpreter", python.seconds, "s"),
    )
    return [Outcome("start", "start-up", (ours, python), findings)]


def unchanged(session: Session) -> list[Outcome]:
    """Compare a day without changes with the count of the rows."""
    _yesterday(session)
    quiet, count, audited, begin = _run(
        session,
        Contestant("floodmark run (audit off)", lambda: _floodmark(session, SAME, audit=False)),
        Contestant("psql count, min(age(xmin))", lambda: session.bench.psql(data.LARGE, COUNT)),
        Contestant("floodmark run (default audit)", lambda: _floodmark(session, SAME)),
        Contestant("floodmark --version", session.bench.start),
    )
    findings = (
        Finding("audit off minus start-up, against the count", _net(quiet, begin, count), "×"),
        Finding("default audit minus start-up, against the count", _net(audited, begin, count), "×"),
        Finding("audit off, against the count", paired_ratio(quiet, count), "×"),
        Finding("default audit, against the count", paired_ratio(audited, count), "×"),
        Finding("audit off, against the count, processor time", paired_cpu_ratio(quiet, count), "×"),
    )
    series = (quiet, count, audited, begin)
    return [Outcome("unchanged", "unchanged day", series, findings, _about(session))]


def days(session: Session) -> list[Outcome]:
    """Run twenty unchanged days in a row with the default audit, whose share differs from day to day."""
    _yesterday(session)
    series = rounds(
        [
            Contestant("floodmark run (default audit)", lambda: _floodmark(session, SAME)),
            Contestant("psql count, min(age(xmin))", lambda: session.bench.psql(data.LARGE, COUNT)),
            Contestant("floodmark --version", session.bench.start),
            Contestant("python, with the imports of a run", lambda: session.bench.python(IMPORTS)),
        ],
        DAYS,
        session.say,
    )
    wall = [fmean(one.seconds for one in each.samples) for each in series]
    cpu = [fmean(one.all_cpu_seconds for one in each.samples) for each in series]
    findings = [Finding("mean day minus --version, against the mean count", _day(wall, 2), "×", UNCHANGED_BUDGET)]
    findings += [
        Finding("mean day minus imports, against the mean count", _day(wall, 3), "×"),
        Finding("mean day minus --version, processor time of both", _day(cpu, 2), "×"),
        Finding("mean day minus imports, processor time of both", _day(cpu, 3), "×"),
        Finding("mean day", wall[0], "s"),
        Finding("slowest day", max(one.seconds for one in series[0].samples), "s"),
    ]
    return [Outcome("days", f"{DAYS} unchanged days in a row", tuple(series), tuple(findings), _about(session))]


def _day(means: Sequence[float], start: int) -> float:
    """Return the ratio of a day without the start-up to the count. They are the first two means."""
    return (means[0] - means[start]) / max(means[1], 0.01)


def appended(session: Session) -> list[Outcome]:
    """Add 1 % of the rows before each run."""

    def append() -> None:
        with session.bench.connect(data.LARGE) as connection:
            data.append_more(connection, session.options.rows // 100)

    return _changed(session, "appended", "1 % of rows appended", append)


def updated(session: Session) -> list[Outcome]:
    """Update 1 % of the rows before each run."""

    def update() -> None:
        session.day += 1
        with session.bench.connect(data.LARGE) as connection:
            data.touch(connection, session.day)

    return _changed(session, "updated", "1 % of rows updated at random", update)


def small(session: Session) -> list[Outcome]:
    """Measure a first run and a day without changes on small tables."""
    bench, tables, jobs = session.bench, session.options.tables, session.jobs
    if session.database(data.SMALL):
        with bench.connect(data.SMALL) as connection:
            data.make_small(connection, tables)
    landing = bench.new_folder("landing")
    bench.floodmark(data.SMALL, landing, Expected(extracted=tables))
    count = data.count_small(tables)
    first, same = Expected(extracted=tables), Expected(unchanged=tables, wrote=False)
    begin, dump, again, each = _run(
        session,
        Contestant("floodmark run (first)", lambda: bench.floodmark(data.SMALL, bench.new_folder("small"), first)),
        Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: bench.pg_dump(data.SMALL, jobs)),
        Contestant("floodmark run (unchanged)", lambda: bench.floodmark(data.SMALL, landing, same)),
        Contestant("psql count per table", lambda: bench.psql(data.SMALL, count)),
    )
    findings = (
        Finding("first run, per table", 1000 * begin.seconds / tables, "ms", 1000 * FIRST_BUDGET),
        Finding("unchanged day, per table", 1000 * again.seconds / tables, "ms", 1000 * AGAIN_BUDGET),
        Finding("first run against pg_dump", paired_ratio(begin, dump), "×"),
        Finding("unchanged day against the counts", paired_ratio(again, each), "×"),
    )
    return [Outcome("small", f"{tables:,} small tables", (begin, dump, again, each), findings)]


def _changed(session: Session, case: str, title: str, change: Callable[[], None]) -> list[Outcome]:
    _yesterday(session)
    jobs = session.jobs
    ours, dump = _run(
        session,
        Contestant("floodmark run", lambda: _floodmark(session, FIRST), before=change),
        Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: session.bench.pg_dump(data.LARGE, jobs)),
    )
    findings = (
        Finding("against pg_dump", paired_ratio(ours, dump), "×"),
        Finding("against pg_dump, processor time", paired_cpu_ratio(ours, dump), "×"),
    )
    return [Outcome(case, title, (ours, dump), findings, _about(session))]


def _yesterday(session: Session) -> None:
    """Bring the landing folder of the large table up to date, without measuring it."""
    assert session.large_bytes
    _floodmark(session, Expected(wrote=None))


def _floodmark(session: Session, expect: Expected, *, audit: bool = True) -> Sample:
    return session.bench.floodmark(data.LARGE, session.landing, expect, audit=audit)


def _run(session: Session, *contestants: Contestant) -> list[Series]:
    return rounds(contestants, session.options.runs, session.say)


def _about(session: Session) -> tuple[str, ...]:
    megabytes = session.large_bytes / 1e6
    return (f"{session.options.rows:,} rows of 10 columns at first, {megabytes:.0f} MB in the database.",)


def _net(series: Series, begin: Series, peer: Series) -> float:
    """Return the median of the ratios, without the start-up that this round measured."""
    taken = zip(series.samples, begin.samples, peer.samples, strict=True)
    return median(max(0.0, ours.seconds - start.seconds) / theirs.seconds for ours, start, theirs in taken)
