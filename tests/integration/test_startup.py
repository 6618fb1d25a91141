"""The modules that a nightly run loads: on an unchanged day, starting costs as much time as looking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fix_postgres import PgDatabase

# Each takes as long to load as a million rows take to scan, or serves what this run has no use for.
HEAVY = (
    *("boto3", "botocore", "sqlalchemy", "prometheus_client", "zstandard", "sqlite3", "floodmark.demo"),
    *("apprise", "floodmark.notify", "floodmark.topics"),
)
RUN = """
import sys
from floodmark.cli.main import main
code = main(["run", "--source", sys.argv[1], "--destination", sys.argv[2], "--output", "json"])
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def test_a_run_from_postgresql_to_a_folder_loads_nothing_it_does_not_use(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute("CREATE TABLE person AS SELECT 1 AS id")
    command = [sys.executable, "-c", RUN, pg.url, str(tmp_path / "out")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLOODMARK_", "COV"))}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    code, *loaded = done.stderr.splitlines()[-1].split(" ")
    assert code == "0"
    assert "psycopg" in loaded
    assert [name for name in HEAVY if name in loaded] == []
