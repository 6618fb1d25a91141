"""The commands to measure, and the rounds in which they take turns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg
from msgspec import Struct
from msgspec.structs import replace

from bench import outputs
from bench.measure import Failed, Sample, Series, server_clock, timed
from floodmark.demo.server import SUPERUSER, PostgresServer
from floodmark.state.manifest import Manifest, decode
from floodmark.wording import plural

# Seconds after which a peer gets no further round.
SLOW = 60.0
AUDIT_OFF = "audit: {chunks_per_run: 0}\n"


class Contestant(Struct, frozen=True):
    """A program to measure. `turn` does one measured run, and `before` the unmeasured preparation.

    A peer that fails, or takes more than `SLOW` seconds, takes no part in later rounds. Floodmark must not fail.
    """

    name: str
    turn: Callable[[], Sample]
    before: Callable[[], object] = lambda: None
    peer: bool = False


def rounds(contestants: Sequence[Contestant], runs: int, say: Callable[[str], None]) -> list[Series]:
    """Run all contestants in turn, `runs` times: A B C, A B C, …"""
    taken: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
    notes: dict[str, str] = {}
    for number in range(1, runs + 1):
        for one in contestants:
            if one.name not in notes:
                notes.update(_turn(one, number, runs, taken[one.name], say))
    return [Series(name, tuple(samples), notes.get(name, "")) for name, samples in taken.items()]


def _turn(one: Contestant, number: int, runs: int, taken: list[Sample], say: Callable[[str], None]) -> dict[str, str]:
    """Add a sample. Return the reason by the contestant's name if this was its last turn."""
    try:
        one.before()
        os.sync()  # so that nobody waits for the disk because of what another one wrote
        sample = one.turn()
    except Failed as error:
        if not one.peer:
            raise
        say(f"  round {number}: {one.name} failed: {error}")
        return {one.name: f"failed in round {number}: {str(error).strip().splitlines()[-1]}"}
    taken.append(sample)
    say(
        f"  round {number}: {one.name}: {sample.seconds:.2f} s, "
        f"cpu {sample.cpu_seconds:.2f} s here and {sample.server_cpu_seconds:.2f} s at the server"
    )
    if one.peer and sample.seconds > SLOW and number < runs:
        return {one.name: f"{plural(number, 'round')} only, because it takes more than a minute"}
    return {}


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

    def floodmark(
        self,
        database: str,
        landing: Path,
        expect: Expected,
        *,
        audit: bool = True,
        encoder: str | None = None,
        engine: str | None = None,
    ) -> Sample:
        """Measure `floodmark run` into a folder. Raise Failed if the run did not do what the case expects."""
        work = self.new_folder("run")
        config = work / "floodmark.yaml"
        config.write_text("{}\n" if audit else AUDIT_OFF)
        command = [sys.executable, "-m", "floodmark", "run", "--config", str(config), "--output", "json"]
        command += ["--source", self.server.url(database), "--destination", str(landing)]
        before = outputs.written_bytes(landing)
        chosen = {} if encoder is None else {"FLOODMARK_ENCODER": encoder}
        chosen |= {} if engine is None else {"FLOODMARK_ENGINE": engine}
        sample, output = self._timed(command, own_environment(chosen), work)
        expect.require(decode(Manifest, output, "the run's output"))
        shutil.rmtree(work)
        return replace(sample, written_bytes=outputs.written_bytes(landing) - before)

    def export(
        self,
        database: str,
        command: Callable[[Path], Sequence[str]],
        environment: Mapping[str, str] | None = None,
        *,
        rows: Callable[[Path], int] | None = None,
        expected: int = 0,
    ) -> Sample:
        """Measure a program that writes into the folder that its command gets. Raise Failed if it lost rows.

        `rows` counts the rows in that folder. Without it nothing is counted.
        """
        work = self.new_folder("export")
        folder = work / "out"
        folder.mkdir()
        known = self._peer(database) | {"HOME": str(work)}  # programs keep files for their user
        try:
            sample, _ = self._timed(command(folder), {**known, **(environment or {})}, work)
            found = expected if rows is None else rows(folder)
            if found != expected:
                raise Failed(f"{found:,} rows written instead of {expected:,}")
            return replace(sample, written_bytes=outputs.written_bytes(folder))
        finally:
            shutil.rmtree(work)

    def pg_dump(self, database: str, jobs: int, rows: int | None = None) -> Sample:
        def command(folder: Path) -> list[str]:
            return [self.program("pg_dump"), "-Fd", f"-j{jobs}", "-Z1", "-f", str(folder / "dump")]

        count = None if rows is None else outputs.dumped_rows
        return self.export(database, command, rows=count, expected=rows or 0)

    def psql(self, database: str, statements: str) -> Sample:
        work = self.new_folder("psql")
        script = work / "script.sql"
        script.write_text(statements)
        command = [self.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)]
        sample, _ = self._timed(command, self._peer(database), work)
        shutil.rmtree(work)
        return sample

    def start(self) -> Sample:
        """Measure the start-up of `floodmark`: the interpreter and the imports."""
        sample, _ = self._timed([sys.executable, "-m", "floodmark", "--version"], own_environment({}), self._folder)
        return sample

    def python(self, program: str) -> Sample:
        """Measure a Python program, for example one that only imports."""
        sample, _ = self._timed([sys.executable, "-c", program], own_environment({}), self._folder)
        return sample

    def program(self, name: str) -> str:
        """Return the path of one of PostgreSQL's client programs."""
        return str(self._programs / name)

    def _timed(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[Sample, bytes]:
        return timed(command, environment, folder, lambda: server_clock(self._postmaster))

    def _peer(self, database: str) -> dict[str, str]:
        return own_environment(
            {"PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PGUSER": SUPERUSER, "PGDATABASE": database}
        )


class Expected(Struct, frozen=True):
    """The result that a run must have for its time to count. None accepts any value."""

    unchanged: int | None = None
    extracted: int | None = None
    wrote: bool | None = True
    rows: int | None = None
    reason: str = ""  # a part of the reason of each table

    def require(self, manifest: Manifest) -> None:
        statuses: list[str] = [entry.status for entry in manifest.tables]
        fresh = [o for e in manifest.tables if e.status == "extracted" for o in e.objects if o.origin == "extracted"]
        for status, wanted in (("unchanged", self.unchanged), ("extracted", self.extracted), ("failed", 0)):
            if wanted is not None and statuses.count(status) != wanted:
                raise Failed(f"{plural(statuses.count(status), 'table')} {status} instead of {wanted}")
        if self.wrote is not None and bool(fresh) != self.wrote:
            raise Failed(f"{plural(len(fresh), 'object')} written")
        for entry in manifest.tables:
            if self.reason not in entry.reason.detail:
                raise Failed(f"the reason is: {entry.reason.detail}")
        found = sum(entry.rows or 0 for entry in manifest.tables)
        if self.rows is not None and found != self.rows:
            raise Failed(f"{found:,} rows written instead of {self.rows:,}")


def own_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment without variables that configure a program: FLOODMARK_*, PG*, AWS_*, S3_*.

    Python keeps the bytecode that it makes. An installed package has it, and a checkout gets it by the first run.
    """
    theirs = ("FLOODMARK_", "PG", "AWS_", "S3_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, **more}
