"""The memory case. The peak must not depend on the number of rows or tables. A wide row costs a few times itself."""

from __future__ import annotations

from collections.abc import Callable

from bench import data
from bench.contest import Bench, Contestant, Expected, rounds
from bench.measure import MIB, Sample, Series
from bench.outcome import Finding, Outcome
from bench.session import Session

MEMORY_BUDGET = 256 * MIB
WIDE = "memory-wide"
FEW_ROWS = 1_000_000
WIDE_ROWS, WIDE_BYTES = 6, 50 * MIB
TABLES = 5_000
# "Plus a few times the widest row": libpq, the driver, the compressor and the spool hold copies of one row at a time.
TIMES_A_ROW = 6


def outcomes(session: Session) -> list[Outcome]:
    """Run each case once, because memory hardly varies."""
    for database in (data.TALL, data.WIDE, data.MANY):
        session.database(database)
    return [_tall(session.bench, session.options.memory_rows), _wide(session.bench), _many(session.bench)]


def _tall(bench: Bench, rows: int) -> Outcome:
    def grow(first: int, last: int) -> Callable[[], None]:
        def make() -> None:
            with bench.connect(data.TALL) as connection:
                data.make_tall(connection, first, last)

        return make

    few = _one(bench, f"floodmark run ({FEW_ROWS:,} rows)", data.TALL, grow(1, FEW_ROWS))
    many = _one(bench, f"floodmark run ({rows:,} rows)", data.TALL, grow(FEW_ROWS + 1, rows))
    findings = (_peak(f"peak with {FEW_ROWS:,} rows", few), _peak(f"peak with {rows:,} rows", many))
    return Outcome("memory-rows", "memory: many rows", (few, many), findings)


def _wide(bench: Bench) -> Outcome:
    def make() -> None:
        with bench.connect(data.WIDE) as connection:
            data.make_wide(connection, WIDE_ROWS, WIDE_BYTES)

    series = _one(bench, f"floodmark run ({WIDE_ROWS} rows of {WIDE_BYTES // MIB} MiB)", data.WIDE, make)
    budget = (MEMORY_BUDGET + TIMES_A_ROW * WIDE_BYTES) / MIB
    finding = Finding(f"peak with rows of {WIDE_BYTES // MIB} MiB", series.peak_bytes / MIB, "MiB", budget)
    return Outcome(WIDE, "memory: wide rows", (series,), (finding,))


def _many(bench: Bench) -> Outcome:
    def make() -> None:
        with bench.connect(data.MANY) as connection:
            data.make_small(connection, TABLES)

    landing = bench.new_folder("many")
    first = Expected(extracted=TABLES)
    same = Expected(unchanged=TABLES, wrote=False)
    series = rounds(
        [
            Contestant("floodmark run (first)", lambda: bench.floodmark(data.MANY, landing, first), before=make),
            Contestant("floodmark run (unchanged)", lambda: bench.floodmark(data.MANY, landing, same)),
        ],
        1,
        bench.say,
    )
    findings = tuple(_peak(f"peak, {one.name}", one) for one in series)
    return Outcome("memory-tables", f"memory: {TABLES:,} tables", tuple(series), findings)


def _one(bench: Bench, name: str, database: str, make: Callable[[], None]) -> Series:
    def turn() -> Sample:
        return bench.floodmark(database, bench.new_folder("memory"), Expected(extracted=1))

    return rounds([Contestant(name, turn, before=make)], 1, bench.say)[0]


def _peak(what: str, series: Series) -> Finding:
    return Finding(what, series.peak_bytes / MIB, "MiB", MEMORY_BUDGET / MIB)
