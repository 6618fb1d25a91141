"""The memory of a SQL source stays the same, whatever a table's size."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from fix_postgres import PgDatabase
from fix_sql import SqlDatabase, duckdb_database, reflected_database, sqlite_database
from floodmark.config import Selection
from floodmark.model import Chunk

ROWS = 20000
MIB = 1024**2


def peak_of(database: SqlDatabase, chunk_bytes: int) -> int:
    """The most memory that Python took to find the ranges of a table of 40 MB and to read all of it."""
    with closing(database.snapshot(chunk_bytes)) as snapshot:
        tracemalloc.start()
        (info,) = snapshot.tables(Selection(), "")
        (part,) = info.parts
        chunks = [Chunk(part.id, i, i + 1) for i in range(part.ranges)] or [Chunk(part.id)]
        lines = sum(snapshot.extract(info, part, chunk, True, len).lines for chunk in chunks)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert lines == ROWS
    return peak


@pytest.mark.parametrize("chunk_bytes", [MIB, 1024 * MIB])
def test_sqlite(tmp_path: Path, chunk_bytes: int) -> None:
    database = sqlite_database(tmp_path / "a.db")
    database.run("CREATE TABLE t (k text PRIMARY KEY, v) WITHOUT ROWID")
    database.run("INSERT INTO t VALUES (?, ?)", [(f"key {number}", "x" * 2000) for number in range(ROWS)])
    assert peak_of(database, chunk_bytes) < 2 * MIB


@pytest.mark.parametrize("chunk_bytes", [MIB, 1024 * MIB])
def test_a_server_by_reflection(pg: PgDatabase, chunk_bytes: int) -> None:
    pg.execute("CREATE TABLE t (k text PRIMARY KEY, v text)")
    pg.execute(f"INSERT INTO t SELECT 'key ' || n, repeat('x', 2000) FROM generate_series(1, {ROWS}) n")
    assert peak_of(reflected_database(pg), chunk_bytes) < 4 * MIB


READ = """
import re, sys
from pathlib import Path
from floodmark.config import Secret, Selection
from floodmark.model import Chunk
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source
snapshot = open_sql_source(SqlOptions(Secret(sys.argv[1]))).snapshot()
(info,) = snapshot.tables(Selection(), "")
(part,) = info.parts
lines = sum(snapshot.extract(info, part, Chunk(part.id, i, i + 1), True, len).lines for i in range(part.ranges))
print(lines, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_duckdb_with_its_own_memory(tmp_path: Path) -> None:
    """DuckDB's memory is not Python's, so a process of its own shows it: 250 MB of lines, in four ranges."""
    database = duckdb_database(tmp_path / "a.duckdb")
    database.run("CREATE TABLE t AS SELECT hash(n) AS k, repeat(n::text, 250) AS v FROM range(200000) r(n)")
    done = subprocess.run(
        [sys.executable, "-c", READ, f"duckdb:///{tmp_path}/a.duckdb"], capture_output=True, text=True, check=True
    )
    lines, mebibytes = map(int, done.stdout.split())
    assert lines == 200000
    assert mebibytes < 256
