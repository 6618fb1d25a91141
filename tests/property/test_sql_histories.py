"""Random nights of an SQLite service: what is landed is what the database holds, and an idle night writes nothing."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from isal import igzip

from floodmark.config import DestinationSettings, Guards, Secret, Settings, SourceSettings
from floodmark.model import TableEntry
from floodmark.pipeline.job import run

NIGHTS = 14
SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE plain (a, b);
CREATE TABLE numbered (id INTEGER PRIMARY KEY, b);
CREATE TABLE keyed (a TEXT COLLATE NOCASE, b INT, c, PRIMARY KEY (a DESC, b)) WITHOUT ROWID;
"""


class Service:
    """A database, a chance, and a folder that runs land in."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path, self.lake, self.chance = folder / "a.db", folder / "lake", random.Random(seed)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(SCHEMA)

    def work(self) -> None:
        """Some transactions of a day, each of some rows."""
        with closing(sqlite3.connect(self.path)) as connection:
            for _ in range(self.chance.randint(1, 4)):
                self.chance.choice([self.insert, self.insert, self.update, self.delete, self.alter])(connection)
                connection.commit()
            if self.chance.random() < 0.2:
                connection.execute("VACUUM")

    def insert(self, connection: sqlite3.Connection) -> None:
        for _ in range(self.chance.choice([1, 20, 400])):
            number, note = self.chance.randint(-(10**6), 10**6), f"note {self.chance.random()}"
            connection.execute("INSERT INTO plain VALUES (?, ?)", (number, note))
            connection.execute("INSERT OR REPLACE INTO numbered VALUES (?, ?)", (number % 5000, note))
            key = (self.chance.choice(["x", "Y", "z"]) + str(number % 97), number % 31, note)
            connection.execute("INSERT OR REPLACE INTO keyed (a, b, c) VALUES (?, ?, ?)", key)

    def update(self, connection: sqlite3.Connection) -> None:
        for table in ("plain", "numbered", "keyed"):
            connection.execute(f"UPDATE {table} SET b = b + 1000000 WHERE b = (SELECT max(b) FROM {table})")

    def delete(self, connection: sqlite3.Connection) -> None:
        least = self.chance.randint(-(10**6), 10**6)
        connection.execute("DELETE FROM plain WHERE a BETWEEN ? AND ?", (least, least + 10**5))
        connection.execute("DELETE FROM numbered WHERE id % 50 = ?", (least % 50,))
        connection.execute("DELETE FROM keyed WHERE b = ?", (least % 31,))

    def alter(self, connection: sqlite3.Connection) -> None:
        if self.chance.random() < 0.2:
            connection.execute(f"ALTER TABLE keyed ADD COLUMN more_{self.chance.randint(0, 10**9)}")

    def run(self) -> tuple[TableEntry, ...]:
        settings = Settings(
            source=SourceSettings(Secret(f"sqlite:///{self.path}")),
            destination=DestinationSettings(url=str(self.lake)),
            state_url=str(self.lake / "_floodmark"),
            chunk_bytes=4096,
            guards=Guards(None, None, "accept"),
        )
        manifest = run(settings, lambda event: None).manifest
        assert manifest is not None
        for entry in manifest.tables:
            assert self.landed(entry) == self.truth(entry), f"{entry.name} is wrong"
        return manifest.tables

    def landed(self, entry: TableEntry) -> list[str]:
        lines = [line for one in entry.objects for line in self.lines(one.key)]
        return sorted(lines)

    def lines(self, key: str) -> list[str]:
        return igzip.decompress((self.lake / key).read_bytes()).decode().splitlines()

    def truth(self, entry: TableEntry) -> list[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM {entry.name}")
            return sorted(json.dumps(dict(row), separators=(",", ":")) for row in rows)


@pytest.mark.parametrize("seed", range(3))
def test_each_night_lands_what_the_database_holds(tmp_path: Path, seed: int) -> None:
    service = Service(tmp_path, seed)
    service.work()
    most, reused = 0, 0
    for _ in range(NIGHTS):
        tables = service.run()
        most = max(most, *(len(entry.objects) for entry in tables))
        reused += sum(
            one.origin == "reused" for entry in tables for one in entry.objects if entry.status == "extracted"
        )
        again = service.run()
        assert {entry.reason.code for entry in again} == {"identical"}
        assert [[one.key for one in entry.objects] for entry in again] == [
            [one.key for one in entry.objects] for entry in tables
        ]
        service.work()
    assert most > 8 and reused > 20
