"""The case `wal`: unchanged days proven by WAL summaries, on tables of three sizes, and a change in one corner.

Nothing was written since the last checkpoint, or other databases were written to, as in production. Then the run makes
a checkpoint, which ends the summary. It counts the rows instead if that takes less time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import data
from bench.contest import Bench, Contestant, Expected, rounds
from bench.measure import Failed, Series
from bench.outcome import Finding, Outcome
from bench.servers import SERVER
from bench.session import Session
from floodmark.demo.server import PostgresServer

# Seconds by which a day on the largest table can be longer than on a tenth of it.
GROWTH_BUDGET = 0.1
COUNT = "SELECT count(*), min(age(xmin)) FROM case_event;\n"
# True until the summaries reach the last checkpoint.
BEHIND = """
SELECT coalesce(max(end_lsn) < (SELECT redo_lsn FROM pg_control_checkpoint()), true)
FROM pg_available_wal_summaries()"""
SUMMARY_PATIENCE = 60
UNWRITTEN = Expected(unchanged=1, wrote=False, reason="no block written")
UNCHANGED = Expected(unchanged=1, wrote=False)
FULL = Expected(extracted=1)


def outcomes(session: Session) -> list[Outcome]:
    sizes = [session.options.wal_rows * share // 100 for share in (3, 10, 100)]
    with PostgresServer.create(session.programs, settings={**SERVER, "summarize_wal": "on"}) as server:
        folder = session.bench.new_folder("wal")
        bench = Bench(server, session.programs, folder, session.options.runs, session.say)
        landings = {rows: _made(session, bench, rows) for rows in sizes}
        series = rounds([*_contestants(bench, landings)], session.options.runs, session.say)
        changed = _corner(bench, sizes[-1], landings[sizes[-1]], session)
    return [_unchanged(sizes, series), changed]


def _made(session: Session, bench: Bench, rows: int) -> Path:
    """Generate a table, and run twice: a run leaves the base that the next one needs."""
    session.say(f"generating {rows:,} rows")
    with bench.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {_name(rows)}")
    with bench.connect(_name(rows)) as connection:
        data.make_large(connection, rows, vacuum=False)
        # The first reader of new rows marks their blocks, and with checksums each such block counts as written.
        connection.execute("SELECT count(*) FROM case_event")
        connection.execute("CHECKPOINT")
    landing = bench.new_folder("landing")
    bench.floodmark(_name(rows), landing, FULL)
    bench.floodmark(_name(rows), landing, Expected(wrote=None), audit=False)
    return landing


def _contestants(bench: Bench, landings: dict[int, Path]) -> Iterator[Contestant]:
    for rows, landing in landings.items():
        run = partial(bench.floodmark, _name(rows), landing, audit=False)
        yield Contestant(f"floodmark run, {rows:,} rows", partial(run, UNWRITTEN), before=partial(_end_summary, bench))
        yield Contestant(
            f"floodmark run, {rows:,} rows, writes elsewhere", partial(run, UNCHANGED), before=partial(_write, bench)
        )
        yield Contestant(f"psql count, {rows:,} rows", partial(bench.psql, _name(rows), COUNT))
    yield Contestant("floodmark --version", bench.start)


def _end_summary(bench: Bench) -> None:
    """Make a checkpoint, and wait for the summary that ends there."""
    with bench.connect("postgres") as connection:
        connection.execute("CHECKPOINT")
        end = time.monotonic() + SUMMARY_PATIENCE
        while connection.execute(BEHIND).fetchone() == (True,):
            if time.monotonic() > end:
                raise Failed("the server wrote no summary")
            time.sleep(0.05)


def _write(bench: Bench) -> None:
    """Write to another database than those of the tables."""
    with bench.connect("postgres") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS other (i integer)")
        connection.execute("INSERT INTO other VALUES (1)")


def _unchanged(sizes: list[int], series: list[Series]) -> Outcome:
    quiet, busy, counts, start = series[:-1:3], series[1::3], series[2::3], series[-1]
    more = [days[-1].seconds - days[-2].seconds for days in (quiet, busy)]
    what = f"more time for {sizes[-1]:,} than for {sizes[-2]:,} rows"
    findings = [
        Finding(what, more[0], "s", GROWTH_BUDGET),
        Finding(f"{what}, with writes elsewhere", more[1], "s", GROWTH_BUDGET),
    ]
    for days in (quiet, busy):
        for day, count in zip(days, counts, strict=True):
            net = (day.seconds - start.seconds) / count.seconds
            findings.append(Finding(f"{day.name}: minus start-up, against the count", net, "×"))
            findings.append(Finding(f"{day.name}: processor time of the server", day.server_cpu_seconds, "s"))
    return Outcome("wal", "unchanged day by WAL summaries", tuple(series), tuple(findings), ("The audit is off.",))


def _corner(bench: Bench, rows: int, landing: Path, session: Session) -> Outcome:
    """Change the last 1 % of the largest table before each run."""

    def change() -> None:
        with bench.connect(_name(rows)) as connection:
            connection.execute("UPDATE case_event SET amount = amount + 1 WHERE id > %s", (rows - rows // 100,))

    jobs = os.cpu_count() or 1
    day = Contestant("floodmark run", lambda: bench.floodmark(_name(rows), landing, FULL, audit=False), before=change)
    dump = Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: bench.pg_dump(_name(rows), jobs))
    ours, whole = rounds([day, dump], session.options.runs, session.say)
    findings = (Finding("against pg_dump", ours.seconds / whole.seconds, "×"),)
    return Outcome("wal-corner", f"1 % of {rows:,} rows changed in one corner", (ours, whole), findings)


def _name(rows: int) -> str:
    return f"rows_{rows}"
