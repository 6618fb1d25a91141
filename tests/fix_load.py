"""Two days of a service, and the commands that load what its runs landed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fix_cli import command_streams
from fix_runs import Nightly
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.output.failure import report
from floodmark.errors import FloodmarkError

DAY_1 = """
    CREATE TABLE big (id int, t text) WITH (autovacuum_enabled = off);
    INSERT INTO big SELECT n, repeat('x', 200) FROM generate_series(1, 1500) n;
    CREATE TABLE person (id bigint, name text, born date, doc jsonb, paid numeric(10,2), at timestamptz);
    INSERT INTO person VALUES (1, 'Ada', '1815-12-10', '{"a": 1.10}', 12.50, '2026-07-01 12:00Z'),
                              (2, NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE empty (a int);
    CREATE SCHEMA audit; CREATE TABLE audit.log (a int[]); INSERT INTO audit.log VALUES ('{1,2}')"""
DAY_2 = """
    INSERT INTO big VALUES (0, 'new'); ALTER TABLE person ADD COLUMN note text;
    UPDATE person SET note = 'n' WHERE id = 1;
    DROP TABLE empty; CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (7)"""


class Job:
    """A service's nightly run into a folder, and the command that loads what it landed, in this process."""

    def __init__(self, nightly: Nightly) -> None:
        self._nightly, self.database, self.landing = nightly, nightly.database, nightly.folder
        self.environment = {"FLOODMARK_DESTINATION": str(self.landing)}
        self.night(DAY_1)

    def night(self, sql: str) -> None:
        self._nightly.database.execute(sql)
        self.run_id = self._nightly.run().manifest.run_id

    def csv(self, *only: str) -> None:
        """A night whose tables, all of them or these, are landed as CSV."""
        self.run_id = self._nightly.run(format="csv", only=only).manifest.run_id

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        streams, out, err = command_streams(self.environment)
        try:
            code = call(parse(arguments), streams)
        except FloodmarkError as error:
            code = report(error, streams)
        return code, out.getvalue(), err.getvalue()

    def load(self, into: str, *arguments: str, code: int = 0) -> dict[str, str]:
        """The status of every table."""
        ended, out, err = self.command("load", "--into", into, "--output", "json", *arguments)
        assert ended == code, err
        return {f"{one['schema']}.{one['name']}": one["status"] for one in json.loads(out)["tables"]}

    def refused(self, into: str, *arguments: str, code: int) -> str:
        ended, _, err = self.command("load", "--into", into, *arguments)
        assert ended == code, err
        return err

    def process(
        self, program: str, *arguments: str, before: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A program in a process of its own, where `before` is called first."""
        command, environ = [sys.executable, "-c", program, *arguments], {**os.environ, **self.environment}
        return subprocess.run(command, env=environ, capture_output=True, text=True, preexec_fn=before)

    def hide_data(self) -> Path:
        """Take all data away, so that nothing of it can be read."""
        return (self.landing / "data").rename(self.landing / "hidden")


@pytest.fixture
def job(nightly: Nightly) -> Job:
    return Job(nightly)


FIRST = {"audit.log": "loaded", "public.big": "loaded", "public.empty": "loaded", "public.person": "loaded"}
SECOND = {
    "audit.log": "unchanged",
    "public.big": "loaded",
    "public.empty": "gone",
    "public.fresh": "loaded",
    "public.person": "loaded",
}


def unchanged(of: dict[str, str]) -> dict[str, str]:
    return {label: "unchanged" if status == "loaded" else status for label, status in of.items()}


def ask(file: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(query).fetchall()


# A process that runs a command, and is killed after the first call of a method: `module.Class.method` comes first.
KILLED = """
import os, signal, sys
from floodmark.cli.main import main
from floodmark.load import duckdb, duckdb_history, parquet
from floodmark.storage import local
module, kind, name = sys.argv.pop(1).split(".")
owner = getattr(globals()[module], kind)
whole = getattr(owner, name)
def cut(*arguments, **named):
    whole(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, cut)
main()
"""
