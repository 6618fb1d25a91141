"""Random histories of a MariaDB database: after every run, every table is held against another session's reading.

Acts happen between runs and while one is at work: changes of rows and keys, transactions left open, every kind of
migration, killed connections. The oracle photographs all tables at the moment of each snapshot, in its own session.
What lands must be what it saw then, and a table that nothing touched must be proven, not read again.

`make soak` goes on for SOAK_MINUTES; SEED=n plays one history again.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from fix_mariadb import MyDatabase
from fix_mysql import ALL_RIGHTS, reader
from fix_runs import Nightly
from floodmark.errors import SourceError
from floodmark.events import ChunkDone, Event, RunStarted, StepStarted, TableDecided
from floodmark.source.mysql import moment

COLUMNS = "(id int, a varchar(40), n decimal(10,2), PRIMARY KEY (id)) CHARACTER SET utf8mb4"
TABLES = ("one", "two", "three", "parts", "keyless")
NIGHTS = 6


class Oracle:
    """Another session's reading of all tables, taken whenever a snapshot was taken and before anything else happens."""

    def __init__(self, my: MyDatabase) -> None:
        self._my = my
        self.tables: dict[str, list[tuple[Any, ...]]] = {}

    def look(self) -> None:
        with self._my.connect() as session, session.cursor() as cursor:
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            self.tables = {}
            for table in TABLES:
                with suppress(pymysql.Error):  # it is dropped at the moment
                    cursor.execute(f"SELECT * FROM {table}")
                    self.tables[table] = sorted((tuple(map(text, row)) for row in cursor.fetchall()), key=repr)


def text(value: Any) -> str | None:
    return None if value is None else str(value)


class History:
    """One database, and a nightly job that is held against the oracle after every run."""

    def __init__(self, my: MyDatabase, folder: Path, chance: random.Random, rights: Sequence[str]) -> None:
        self.my, self.chance = my, chance
        self.job = Nightly(my, folder)  # type: ignore[arg-type]
        self.url = reader(my, *rights)
        self.oracle = Oracle(my)
        self.open: list[Any] = []
        self.touched: set[str] = set(TABLES)
        self.numbers = iter(range(1, 10**6))
        for table in ("one", "two", "three"):
            my.execute(f"CREATE TABLE {table} {COLUMNS}")
            my.execute(f"INSERT INTO {table} SELECT seq, CONCAT('{table} ', seq), seq / 3 FROM seq_1_to_3000")
        my.execute(
            f"CREATE TABLE parts {COLUMNS} PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), "
            "PARTITION p1 VALUES LESS THAN (100000))",
            "INSERT INTO parts SELECT seq, 'part', 1 FROM seq_1_to_500",
            "CREATE TABLE keyless (id int, a varchar(40), n decimal(10,2))",
            "INSERT INTO keyless SELECT seq, 'k', 2 FROM seq_1_to_50",
        )

    def statements(self, table: str) -> list[list[str]]:
        number, low = next(self.numbers), self.chance.randrange(3000)
        other = self.chance.choice([one for one in ("one", "two", "three") if one != table])
        return [
            [f"INSERT IGNORE INTO {table} (id, a) VALUES ({self.chance.randrange(9000)}, 'new {number}')"],
            [f"UPDATE {table} SET a = 'changed {number}' WHERE id BETWEEN {low} AND {low + 9}"],
            [f"UPDATE {table} SET a = NULL, n = n + 1 WHERE id % 97 = {number % 97}"],
            [f"UPDATE IGNORE {table} SET id = id + {self.chance.randrange(50)} WHERE id = {low}"],
            [f"DELETE FROM {table} WHERE id BETWEEN {low} AND {low + self.chance.randrange(30)}"],
            [f"RENAME TABLE {table} TO temporary, {other} TO {table}, temporary TO {other}"],
            [
                f"ALTER TABLE {table} DROP COLUMN n",
                f"ALTER TABLE {table} ADD COLUMN n decimal(10,2)",
            ],
            [f"ALTER TABLE {table} ADD COLUMN c{number} int DEFAULT {number}"],
            [f"ALTER TABLE {table} FORCE"],
            [f"TRUNCATE TABLE {table}", f"INSERT INTO {table} (id, a) SELECT seq, 'again' FROM seq_1_to_200"],
            [f"ALTER TABLE parts EXCHANGE PARTITION p0 WITH TABLE {table} WITHOUT VALIDATION"],
            ["ALTER TABLE parts TRUNCATE PARTITION p0"],
        ]

    def act(self) -> None:
        """Other sessions' work, committed at once or left open, or refused because others are in the way."""
        table = self.chance.choice(TABLES)
        self.touched = set(TABLES)
        if self.open and self.chance.random() < 0.4:
            session = self.open.pop()
            with suppress(pymysql.Error):
                session.query(self.chance.choice(("COMMIT", "ROLLBACK")))
            session.close()
            return
        chosen = self.chance.choice(self.statements(table))
        session = self.my.connect()
        with suppress(pymysql.Error), session.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
            leave_open = (
                len(chosen) == 1 and chosen[0][:6] in ("INSERT", "UPDATE", "DELETE") and self.chance.random() < 0.3
            )
            if leave_open:
                cursor.execute("BEGIN")
            for statement in chosen:
                cursor.execute(statement)
            if leave_open:
                self.open.append(session)
                return
        session.close()

    def kill(self) -> None:
        question = "SELECT id FROM information_schema.processlist WHERE user = 'reader' ORDER BY RAND() LIMIT 1"
        for (number,) in self.my.query(question):
            with suppress(pymysql.Error):
                self.my.execute(f"KILL {number}")

    def run(self, disturbed: bool) -> None:
        """Run, and hold what landed against the oracle."""
        untouched = set(TABLES) - self.touched
        self.touched = set()

        def observe(event: Event) -> None:
            early = isinstance(event, RunStarted | StepStarted)
            busy = early or isinstance(event, ChunkDone | TableDecided)
            if disturbed and busy and self.chance.random() < (0.5 if early else 0.1):
                self.kill() if self.chance.random() < 0.1 else self.act()

        try:
            self.job.run_observed(observe, url=self.url, connections=3, lock_timeout=2, chunk_bytes=16384)
        except SourceError:
            assert disturbed
            return
        self.require_truth()
        if not disturbed:
            for table in untouched:
                entry = self.job.entry(f"{self.my.name}.{table}")
                keyless = "no primary key" in entry.reason.detail  # it has got the name by a rename
                assert keyless or entry.status == "dropped" or entry.reason.code == "unchanged", entry.reason

    def require_truth(self) -> None:
        assert self.job.last is not None
        moment_of_run = self.job.last.source.snapshot.taken_at
        for entry in self.job.last.tables:
            if entry.status in ("extracted", "unchanged"):
                assert entry.as_of == moment_of_run
                rows = [json.loads(line, parse_float=str) for line in self.job.landed(entry.table.label)]
                found = sorted((tuple(map(text, row.values())) for row in rows), key=repr)
                assert found == self.oracle.tables[entry.name], f"{entry.name} is wrong"

    def close(self) -> None:
        for session in self.open:
            session.close()


def play(my: MyDatabase, folder: Path, number: int, monkeypatch: pytest.MonkeyPatch, nights: int = NIGHTS) -> None:
    chance = random.Random(number)
    history = History(my, folder, chance, chance.choice((ALL_RIGHTS, ALL_RIGHTS[:2], ())))
    start: Callable[..., Any] = moment.start_shared

    def start_and_look(connections: Sequence[Any], *others: Any) -> Any:
        shared = start(connections, *others)
        if len(connections) > 1:  # one is only for the comparison of definitions, at a run's end
            history.oracle.look()
        return shared

    with monkeypatch.context() as patch:
        patch.setattr(moment, "start_shared", start_and_look)
        for _ in range(nights):
            for _ in range(chance.randrange(4)):
                history.act()
            history.run(disturbed=chance.random() < 0.6)
            history.run(disturbed=False)
    history.close()


@pytest.mark.parametrize("number", range(3))
def test_a_random_history(my: MyDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    play(my, tmp_path / "landing", int(os.environ.get("SEED", number)), monkeypatch, nights=3)


@pytest.mark.soak
def test_many_random_histories(mariadb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "30"))
    number = int(os.environ.get("SEED", time.time_ns() % 10**6))
    while time.monotonic() < end:
        print(f"SEED={number}")
        database = mariadb.database()
        play(database, tmp_path / str(number), number, monkeypatch)
        database.drop()
        number += 1
