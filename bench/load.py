"""The case `load`: `floodmark load` into DuckDB, compared with DuckDB's read_json of the same files.

DuckDB's reader gets explicit types. It does less than Floodmark: it verifies no digest, and turns numbers inside jsonb
into doubles.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench import data
from bench.contest import Contestant, Expected, own_environment, rounds
from bench.measure import Failed, Sample, paired_cpu_ratio, paired_ratio, timed
from bench.outcome import Finding, Outcome, Skipped
from bench.session import Session

LOAD_BUDGET = 1.1

_COLUMNS = """{id: 'BIGINT', reference: 'UUID', person_id: 'BIGINT', happened_at: 'TIMESTAMPTZ',
    recorded_at: 'TIMESTAMPTZ', kind: 'VARCHAR', note: 'VARCHAR', amount: 'DECIMAL(12,2)', active: 'BOOLEAN',
    detail: 'JSON', score: 'DOUBLE', due: 'DATE'}"""
_READ_JSON = """
import duckdb, sys
with duckdb.connect(sys.argv[1], config={"memory_limit": "192MiB", "preserve_insertion_order": False}) as connection:
    connection.execute(
        f"CREATE TABLE event AS SELECT * FROM read_json('{sys.argv[2]}', format='newline_delimited',"
        f" columns={sys.argv[3]})"
    )
"""
_COUNT = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print(connection.execute(f"SELECT count(*) FROM {sys.argv[2]}").fetchone()[0])
"""


def outcomes(session: Session) -> list[Outcome]:
    if find_spec("duckdb") is None:
        raise Skipped("it needs DuckDB, from the extra duckdb")
    assert session.full_bytes
    landing = session.bench.new_folder("landing")
    session.bench.floodmark(data.FULL, landing, Expected(extracted=1, rows=session.options.full_rows))
    folder = session.bench.new_folder("load")
    ours, theirs = folder / "ours.duckdb", folder / "theirs.duckdb"
    load = ["-m", "floodmark", "load", "--into", f"duckdb:{ours}", "--destination", str(landing)]
    read = ["-c", _READ_JSON, str(theirs), f"{landing}/data/**/*.jsonl.gz", _COLUMNS]
    series = rounds(
        [
            Contestant("floodmark load", lambda: _python(load, folder), lambda: ours.unlink(missing_ok=True)),
            Contestant("duckdb read_json", lambda: _python(read, folder), lambda: theirs.unlink(missing_ok=True)),
            Contestant("floodmark load (unchanged)", lambda: _python(load, folder)),
        ],
        session.options.runs,
        session.say,
    )
    for file, table in ((ours, "public.event"), (theirs, "event")):
        _require_rows(file, table, folder, session.options.full_rows)
    shutil.rmtree(landing)
    shutil.rmtree(folder)
    findings = (
        Finding("floodmark load against read_json", paired_ratio(series[0], series[1]), "×", LOAD_BUDGET),
        Finding("the same, processor time", paired_cpu_ratio(series[0], series[1]), "×"),
    )
    note = f"{session.options.full_rows:,} rows of 12 columns."
    return [Outcome("load", "load into DuckDB", tuple(series), findings, (note,))]


def _require_rows(file: Path, table: str, folder: Path, expected: int) -> None:
    _, found = _timed(["-c", _COUNT, str(file), table], folder)
    if int(found) != expected:
        raise Failed(f"{file.name} has {int(found):,} rows instead of {expected:,}")


def _python(arguments: Sequence[str], folder: Path) -> Sample:
    return _timed(arguments, folder)[0]


def _timed(arguments: Sequence[str], folder: Path) -> tuple[Sample, bytes]:
    return timed([sys.executable, *arguments], own_environment({"HOME": str(folder)}), folder, lambda: 0.0)
