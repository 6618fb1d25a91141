"""`python -m bench.wal`: what WAL summaries save on an unchanged day, and on a day with a change in one corner.

For each size, a table is filled, frozen and landed. Then the same day is run in several ways, in turn: with all rows
counted; with summaries that reach the snapshot; with a write elsewhere, by a role that may make a checkpoint, and by
one that may not. At the end one percent of the rows changes, in one corner. The audit is off.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psycopg
from msgspec import Struct

from bench.measure import server_clock
from floodmark.config import DestinationSettings, Secret, Settings, SourceSettings
from floodmark.demo.server import PostgresServer
from floodmark.events import Event, WrittenBlocksRead
from floodmark.pipeline import observe
from floodmark.pipeline.job import run

_SERVER = {
    "summarize_wal": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
}
_FILL = """
    CREATE TABLE person (id int, n int, name text);
    INSERT INTO person SELECT i, i % 97, 'name ' || i || repeat('x', 40) FROM generate_series(1, {rows}) i;
    CREATE TABLE other (i int)"""
_ROLES = """
    CREATE ROLE plain LOGIN PASSWORD 'plain'; CREATE ROLE granted LOGIN PASSWORD 'granted';
    GRANT pg_checkpoint TO granted; GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain, granted"""


class Turn(Struct, frozen=True):
    """One run: its seconds, the processor seconds of both sides, and how many chunks needed no count."""

    seconds: float
    own_seconds: float
    server_seconds: float
    chunks: int
    unwritten: int


class Landed:
    """A landed table of so many rows."""

    def __init__(self, server: PostgresServer, rows: int, folder: Path) -> None:
        self.server, self.rows, self._folder = server, rows, folder
        self._postmaster = int((server.data / "postmaster.pid").read_text().split("\n")[0])
        self._session = psycopg.connect(server.dsn(), autocommit=True)
        self.execute(_FILL.format(rows=rows), _ROLES, "VACUUM (FREEZE, ANALYZE) person", "CHECKPOINT")
        self.turn("plain")
        self.settle()

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self._session.execute(statement)

    def settle(self) -> None:
        """End the summary, and run: the base lies after the last write then."""
        self.execute("CHECKPOINT")
        time.sleep(0.3)
        self.turn("plain")

    def turn(self, role: str) -> Turn:
        found: list[WrittenBlocksRead] = []

        def note(event: Event) -> None:
            if isinstance(event, WrittenBlocksRead):
                found.append(event)

        settings = Settings(
            source=SourceSettings(Secret(self.server.url("postgres", role, role))),
            destination=DestinationSettings(url=str(self._folder)),
            state_url=str(self._folder / "_floodmark"),
            audit=False,
        )
        begun, own, clock = time.monotonic(), time.process_time(), server_clock(self._postmaster)
        run(settings, note)
        seconds, own = time.monotonic() - begun, time.process_time() - own
        spent = server_clock(self._postmaster) - clock
        chunks, unwritten = (found[-1].chunks, found[-1].unwritten) if found else (0, 0)
        return Turn(seconds, own, spent, chunks, unwritten)

    def close(self) -> None:
        self._session.close()


@contextmanager
def _counted() -> Iterator[None]:
    """Let runs count all rows."""
    look = observe._look_for_writes
    observe._look_for_writes = _look_nowhere
    try:
        yield
    finally:
        observe._look_for_writes = look


def _look_nowhere(attempt: object, works: object) -> None:
    """Prove nothing."""


def _count(landed: Landed) -> Turn:
    with _counted():
        return landed.turn("plain")


def _quiet(landed: Landed) -> Turn:
    return landed.turn("plain")


def _elsewhere(landed: Landed, role: str) -> Turn:
    landed.execute("INSERT INTO other VALUES (1)")
    return landed.turn(role)


def _with_checkpoint(landed: Landed) -> Turn:
    return _elsewhere(landed, "granted")


def _without_checkpoint(landed: Landed) -> Turn:
    return _elsewhere(landed, "plain")


DAYS: dict[str, Callable[[Landed], Turn]] = {
    "all rows counted": _count,
    "no transaction since the last checkpoint": _quiet,
    "writes elsewhere, the role may make a checkpoint": _with_checkpoint,
    "writes elsewhere, the role may not": _without_checkpoint,
}


def _corner(landed: Landed, *, counted: bool) -> Turn:
    landed.settle()
    landed.execute(f"UPDATE person SET n = n + 1 WHERE id <= {landed.rows // 100}")
    if not counted:
        return landed.turn("granted")
    with _counted():
        return landed.turn("granted")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    for rows in options.rows:
        with (
            tempfile.TemporaryDirectory(prefix="floodmark-bench-") as folder,
            PostgresServer.create(options.programs, settings=_SERVER) as server,
        ):
            landed = Landed(server, rows, Path(folder, "landing"))
            turns: dict[str, list[Turn]] = {name: [] for name in DAYS}
            for _ in range(options.runs):
                for name, day in DAYS.items():
                    landed.settle()
                    turns[name].append(day(landed))
            turns["one percent changed in a corner, all rows counted"] = [_corner(landed, counted=True)]
            turns["one percent changed in a corner, with summaries"] = [_corner(landed, counted=False)]
            _report(rows, turns)
            landed.close()
    return 0


def _report(rows: int, turns: dict[str, list[Turn]]) -> None:
    for name, found in turns.items():
        seconds = median(one.seconds for one in found)
        own, server = median(one.own_seconds for one in found), median(one.server_seconds for one in found)
        last = found[-1]
        spared = f"{last.unwritten} of {last.chunks} chunks without a count"
        print(
            f"{rows:,} rows, {name}: {seconds:.3f} s, processor {own:.2f} s, server's {server:.2f} s, {spared}",
            flush=True,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.wal", description="Measure the proof by WAL summaries.")
    parser.add_argument("programs", type=Path, help="the folder with the programs of PostgreSQL 17 or later")
    parser.add_argument("--rows", type=int, nargs="+", default=[300_000, 1_000_000, 10_000_000], help="table sizes")
    parser.add_argument("--runs", type=int, default=5, help="number of rounds (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
