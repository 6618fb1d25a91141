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
    *("apprise", "floodmark.notify", "floodmark.topics", "rich", "yaml", "pyarrow", "pyiceberg"),
)
RUN = """
import sys
from floodmark.cli.main import main
code = main(["run", "--source", sys.argv[1], "--destination", sys.argv[2], "--output", "json"])
print(code, *sorted(sys.modules), file=sys.stderr)
"""
VERSION = """
import sys
sys.argv = ["floodmark", "--version"]
from floodmark.__main__ import main
code = main()
print(code, *sorted(sys.modules), file=sys.stderr)
"""
# Each is needed by some command, and takes at least a tenth of a start.
SLOW = ("msgspec", "psycopg", "yaml", "asyncio", "ssl", "argparse", "hashlib", "inspect", "rich", *HEAVY)


def modules_of(program: str, *arguments: str, folder: Path) -> tuple[str, list[str]]:
    """The exit code of a program, and the modules that it loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLOODMARK_", "COV"))}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    code, *loaded = done.stderr.splitlines()[-1].split(" ")
    return code, loaded


def test_the_version_loads_next_to_nothing(tmp_path: Path) -> None:
    code, loaded = modules_of(VERSION, folder=tmp_path)
    assert code == "0" and "floodmark.version" in loaded
    assert [name for name in SLOW if name in loaded] == []
    assert not [name for name in loaded if name.startswith("floodmark.") and name.count(".") > 2]


def test_a_run_from_postgresql_to_a_folder_loads_nothing_it_does_not_use(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute("CREATE TABLE person AS SELECT 1 AS id")
    code, loaded = modules_of(RUN, pg.url, str(tmp_path / "out"), folder=tmp_path)
    assert code == "0"
    assert "psycopg" in loaded
    assert [name for name in HEAVY if name in loaded] == []
