"""`python -m bench`: create a private server, generate the data, run the cases, write the results."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench import pages, report, results
from bench.catalogue import CASES
from bench.contest import Bench
from bench.measure import Failed
from bench.outcome import Skipped
from bench.servers import SERVER, programs
from bench.session import Options, Session
from floodmark.demo.server import PostgresServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases. Return 1 if one of them failed."""
    parsed = _parser().parse_args(arguments)
    chosen, path = parsed.only or list(CASES), parsed.results / results.LATEST.name
    where = programs()
    folder = Path(tempfile.mkdtemp(prefix="floodmark-bench-"))
    _say(f"PostgreSQL from {where.parent.name}, {parsed.runs} rounds of: {', '.join(chosen)}")
    try:
        with PostgresServer.create(where, settings=SERVER) as server:
            bench = Bench(server, where, folder, parsed.runs, _say)
            options = Options(**{name: getattr(parsed, name) for name in Options.__struct_fields__})
            failed = _run(Session(bench, where, folder, options, _say), chosen, path)
    finally:
        shutil.rmtree(folder)
    print(report.markdown(results.read(path)), flush=True)
    _say(f"written to {path}")
    if path == results.LATEST:
        pages.write(results.read(path))
    return 1 if failed else 0


def _run(session: Session, chosen: Sequence[str], path: Path) -> list[str]:
    """Run each case and write its record at once. Return the cases that failed."""
    failed = []
    for case in chosen:
        _say(f"{case}:")
        on = results.machine(_version(session.bench))
        try:
            outcomes = CASES[case](session)
        except Skipped as reason:
            _say(f"  skipped: {reason}")
        except Exception as error:  # the other cases still run
            _say(f"  failed: {error}" if isinstance(error, Failed) else traceback.format_exc())
            failed.append(case)
        else:
            record = results.record(case, outcomes, on, session.options.runs)
            results.write(results.merged(results.read(path), record, list(CASES)), path)
    return failed


def _version(bench: Bench) -> str:
    with bench.connect("postgres") as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
    assert row is not None
    return str(row[0]).split(" ")[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare Floodmark with its alternatives.")
    default = Options()
    for name, value, text in (
        ("--rows", default.rows, "rows of the large table"),
        ("--full-rows", default.full_rows, "rows of the table that all peers extract"),
        ("--tables", default.tables, "number of small tables"),
        ("--memory-rows", default.memory_rows, "rows of the memory case's tall table"),
        ("--wal-rows", default.wal_rows, "rows of the largest table for WAL summaries"),
        ("--scale-percent", default.scale_percent, "number of tables of the case scale, in percent of 5,000"),
        ("--runs", default.runs, "rounds per case"),
    ):
        parser.add_argument(name, type=int, default=value, help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--only", type=_cases, metavar="A,B", help=f"cases to run, from {', '.join(CASES)} (default: all)"
    )
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder of the results file")
    return parser


def _cases(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [case for case in chosen if case not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown case {', '.join(unknown)}; choose from {', '.join(CASES)}")
    return [case for case in CASES if case in chosen]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
