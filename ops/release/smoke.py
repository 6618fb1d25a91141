"""Try an installed Floodmark: land an SQLite file in a folder, verify it, and read it back.

    python ops/release/smoke.py native|server

Run it with the Python of the environment. The argument says which encoder `floodmark --version` must name.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path


def command(folder: Path, *arguments: str) -> str:
    """Run `floodmark` as the console script of this environment, and return its stdout."""
    script = Path(sys.executable).with_name("floodmark")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FLOODMARK_", "PYTHON"))}
    done = subprocess.run(
        [script, *arguments], cwd=folder, env=kept, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        sys.exit(f"floodmark {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def try_it(folder: Path) -> None:
    rows = [(1, "chair", 19.5), (2, 'ta"ble', None)]
    with closing(sqlite3.connect(folder / "shop.db")) as database, database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL)")
        database.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
    places = ("--source", "sqlite:///shop.db", "--destination", "./lake")
    for status in ("extracted", "unchanged"):
        manifest = json.loads(command(folder, "run", *places, "--output", "json"))
        assert [one["status"] for one in manifest["tables"]] == [status], manifest
    assert json.loads(command(folder, "verify", "--deep", "--destination", "./lake", "--output", "json"))["ok"]
    assert rows == [tuple(row.values()) for row in read(folder / "lake")]


def read(lake: Path) -> list[dict[str, object]]:
    import floodmark  # noqa: PLC0415  # the environment under test has it

    return list(floodmark.open(str(lake)).latest()["main.item"].rows())


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="floodmark-smoke-") as folder:
        version = command(Path(folder), "--version")
        assert version.endswith(f"encoder: {sys.argv[1]}\n"), version
        try_it(Path(folder))
    print(f"{' '.join(version.split())}: landed, verified and read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
