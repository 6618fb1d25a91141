"""The commands to measure, and the rounds in which they take turns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg
from msgspec import Struct

from bench.measure import Failed, Sample, Series, server_clock, timed
from floodmark.demo.server import SUPERUSER, PostgresServer
from floodmark.state.manifest import Manifest, decode
from floodmark.wording import plural

AUDIT_OFF = "audit: {chunks_per_run: 0}\n"


class Contestant(Struct, frozen=True):
    """A program to measure. `turn` does one measured run, and `before` the unmeasured preparation."""

    name: str
    turn: Callable[[], Sample]
    before: Callable[[], object] = lambda: None


def rounds(contestants: Sequence[Contestant], runs: int, say: Callable[[str], None]) -> list[Series]:
    """Run all contestants in turn, `runs` times: A B C, A B C, …"""
    taken: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
    for number in range(1, runs + 1):
        for contestant in contestants:
            contestant.before()
            sample = contestant.turn()
            taken[contestant.name].append(sample)
            say(f"  round {number}: {contestant.name}: {sample.seconds:.2f} s, cpu {sample.all_cpu_seconds:.2f} s")
    return [Series(name, tuple(samples)) for name, samples in taken.items()]


class Bench:
    """A server with its client programs, and a folder for all output."""

    def __init__(self, server: PostgresServer, programs: Path, folder: Path, runs: int, say: Callable[[str], None]):
        self.server, self.runs, self.say = server, runs, say
        self._programs, self._folder = programs, folder
        self._numbers = iter(range(1_000_000))
        self._postmaster = int((server.data / "postmaster.pid").read_text().split("\n")[0])

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.server.dsn(database), autocommit=True)

    def new_folder(self, name: str) -> Path:
        folder = self._folder / f"{next(self._numbers)}-{name}"
        folder.mkdir()
        return folder

    # The measured programs

    def floodmark(self, database: str, landing: Path, expect: Expected, *, audit: bool = True) -> Sample:
        """Measure `floodmark run` into a folder. Raise Failed if the run did not do what the case expects."""
        work = self.new_folder("run")
        config = work / "floodmark.yaml"
        config.write_text("{}\n" if audit else AUDIT_OFF)
        command = [sys.executable, "-m", "floodmark", "run", "--config", str(config), "--output", "json"]
        command += ["--source", self.server.url(database), "--destination", str(landing)]
        sample, output = self._timed(command, _environment({}), work)
        expect.require(decode(Manifest, output, "the run's output"))
        shutil.rmtree(work)
        return sample

    def pg_dump(self, database: str, jobs: int) -> Sample:
        work = self.new_folder("dump")
        command = [self._program("pg_dump"), "-Fd", f"-j{jobs}", "-Z1", "-f", str(work / "dump")]
        sample, _ = self._timed(command, self._peer(database), work)
        shutil.rmtree(work)
        return sample

    def psql_gzip(self, database: str) -> Sample:
        """Measure one connection and one core of gzip, as in a shell script. Peak memory is that of its shell."""
        work = self.new_folder("psql")
        copy = "COPY (SELECT row_to_json(t) FROM case_event t) TO STDOUT"
        line = f"set -e; '{self._program('psql')}' -X -q -c '{copy}' | gzip -1 > rows.jsonl.gz"
        sample, _ = self._timed(["/bin/sh", "-c", line], self._peer(database), work)
        shutil.rmtree(work)
        return sample

    def psql(self, database: str, statements: str) -> Sample:
        work = self.new_folder("psql")
        script = work / "script.sql"
        script.write_text(statements)
        command = [self._program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)]
        sample, _ = self._timed(command, self._peer(database), work)
        shutil.rmtree(work)
        return sample

    def start(self) -> Sample:
        """Measure the start-up of `floodmark`: the interpreter and the imports."""
        sample, _ = self._timed([sys.executable, "-m", "floodmark", "--version"], _environment({}), self._folder)
        return sample

    def _timed(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[Sample, bytes]:
        return timed(command, environment, folder, lambda: server_clock(self._postmaster))

    def _program(self, name: str) -> str:
        return str(self._programs / name)

    def _peer(self, database: str) -> dict[str, str]:
        return _environment(
            {"PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PGUSER": SUPERUSER, "PGDATABASE": database}
        )


class Expected(Struct, frozen=True):
    """The result that a run must have for its time to count. None accepts any value."""

    unchanged: int | None = None
    extracted: int | None = None
    wrote: bool | None = True

    def require(self, manifest: Manifest) -> None:
        statuses: list[str] = [entry.status for entry in manifest.tables]
        fresh = [o for e in manifest.tables if e.status == "extracted" for o in e.objects if o.origin == "extracted"]
        for status, wanted in (("unchanged", self.unchanged), ("extracted", self.extracted), ("failed", 0)):
            if wanted is not None and statuses.count(status) != wanted:
                raise Failed(f"{plural(statuses.count(status), 'table')} {status} instead of {wanted}")
        if self.wrote is not None and bool(fresh) != self.wrote:
            raise Failed(f"{plural(len(fresh), 'object')} written")


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment without variables that configure a program: FLOODMARK_*, PG*, AWS_*, S3_*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLOODMARK_", "PG", "AWS_", "S3_"))}
    return {**kept, **more}
