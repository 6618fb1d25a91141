"""`python -m bench.load`: compare `floodmark load` into DuckDB with DuckDB's read_json of the same files.

DuckDB's reader gets explicit types. It does less than Floodmark: it verifies no digest, and turns numbers inside jsonb
into doubles. The benchmark also measures an unchanged day. It prints one line for each, and the median of the ratios
of all rounds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import data
from bench.__main__ import SERVER, _programs
from bench.contest import Bench, Contestant, Expected, rounds
from bench.measure import MIB, Sample, Series, paired_ratio, timed
from floodmark.demo.server import PostgresServer

_COLUMNS = """{id: 'BIGINT', reference: 'UUID', person_id: 'BIGINT', happened_at: 'TIMESTAMPTZ',
    recorded_at: 'TIMESTAMPTZ', kind: 'VARCHAR', note: 'VARCHAR', amount: 'DECIMAL(12,2)', active: 'BOOLEAN',
    detail: 'JSON'}"""
_READ_JSON = """
import duckdb, sys
with duckdb.connect(sys.argv[1], config={"memory_limit": "192MiB", "preserve_insertion_order": False}) as connection:
    connection.execute(
        f"CREATE TABLE case_event AS SELECT * FROM read_json('{sys.argv[2]}', format='newline_delimited',"
        f" columns={sys.argv[3]})"
    )
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Compare floodmark load with read_json.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="number of rounds (default: %(default)s)")
    options = parser.parse_args(arguments)
    programs, folder = _programs(), Path(tempfile.mkdtemp(prefix="floodmark-bench-"))
    try:
        with PostgresServer.create(programs, settings=SERVER) as server:
            landing = _landed(Bench(server, programs, folder, options.runs, _say), options.rows)
        _report(_measure(landing, folder, options.runs))
    finally:
        shutil.rmtree(folder)
    return 0


def _landed(bench: Bench, rows: int) -> Path:
    with bench.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {data.LARGE}")
    with bench.connect(data.LARGE) as connection:
        data.make_large(connection, rows)
    landing = bench.new_folder("landing")
    bench.floodmark(data.LARGE, landing, Expected(extracted=1))
    return landing


def _measure(landing: Path, folder: Path, runs: int) -> list[Series]:
    ours, theirs = folder / "ours.duckdb", folder / "theirs.duckdb"
    load = ["-m", "floodmark", "load", "--into", f"duckdb:{ours}", "--destination", str(landing)]
    read = ["-c", _READ_JSON, str(theirs), f"{landing}/data/**/*.jsonl.gz", _COLUMNS]
    return rounds(
        [
            Contestant("floodmark load", lambda: _python(load, folder), lambda: ours.unlink(missing_ok=True)),
            Contestant("duckdb read_json", lambda: _python(read, folder), lambda: theirs.unlink(missing_ok=True)),
            Contestant("floodmark load (unchanged)", lambda: _python(load, folder)),
        ],
        runs,
        _say,
    )


def _python(arguments: Sequence[str], folder: Path) -> Sample:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    return timed([sys.executable, *arguments], environment, folder, lambda: 0.0)[0]


def _report(series: Sequence[Series]) -> None:
    for one in series:
        print(f"{one.name:28} {one.seconds:6.2f} s  peak {one.peak_bytes / MIB:5.0f} MiB")
    print(f"load against read_json: {paired_ratio(series[0], series[1]):.2f} ×")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
