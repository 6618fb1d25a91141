"""The parts that cases share: the options, a server, and the large table with its landing folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from bench import data
from bench.contest import Bench


class Options(Struct, frozen=True):
    """The numbers that the command line sets. `runs` is the number of rounds."""

    rows: int = 2_000_000
    full_rows: int = 1_000_000
    tables: int = 1_000
    memory_rows: int = 10_000_000
    wal_rows: int = 10_000_000
    scale_percent: int = 100
    runs: int = 3


class Session:
    """All that a case needs: `options`, `programs` (PostgreSQL's), `folder` (for output), `bench` (a running server).

    A case can make a database of its own on that server, or start another server from `programs`.
    """

    def __init__(self, bench: Bench, programs: Path, folder: Path, options: Options, say: Callable[[str], None]):
        self.bench, self.programs, self.folder, self.options, self.say = bench, programs, folder, options, say
        self.jobs = os.cpu_count() or 1
        self.day = 0  # the number of updates of the large table
        self._databases: set[str] = set()

    def database(self, name: str) -> bool:
        """Create a database, unless a case did it before. Return True if it is new."""
        new = name not in self._databases
        if new:
            self._databases.add(name)
            with self.bench.connect("postgres") as connection:
                connection.execute(f"CREATE DATABASE {name}")
        return new

    @cached_property
    def landing(self) -> Path:
        """The landing folder of the large table."""
        return self.bench.new_folder("landing")

    @cached_property
    def large_bytes(self) -> int:
        """The size of the large table. It is generated on first use."""
        self.say(f"generating {self.options.rows:,} rows")
        self.database(data.LARGE)
        with self.bench.connect(data.LARGE) as connection:
            return data.make_large(connection, self.options.rows)

    @cached_property
    def full_bytes(self) -> int:
        """The size of the table of a full extraction. It is generated on first use."""
        self.say(f"generating {self.options.full_rows:,} rows")
        self.database(data.FULL)
        with self.bench.connect(data.FULL) as connection:
            return data.make_full(connection, self.options.full_rows)
