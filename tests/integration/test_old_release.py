"""Upgrades and downgrades: release 0.1.0 reads what this version writes, works upon it, and hands it back."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fix_command import CHUNKS, Done, Floodmark, Landing, entry_of
from fix_journal import enable, install, pass_bucket
from fix_old_release import OldRelease
from fix_postgres import PgDatabase
from fix_runs import lines_of
from fix_summaries import VERSIONS, SummarizingServers, summarize

SERVICE = """
    CREATE DOMAIN email AS text;
    CREATE TABLE person (id int PRIMARY KEY, name text, email email UNIQUE, about jsonb, score numeric(9, 2));
    INSERT INTO person SELECT i, repeat('name ', 40), i || '@example.org', '{"a": [1, 2.50]}', i / 3.0
        FROM generate_series(1, 900) i;
    CREATE TABLE noted (id int PRIMARY KEY, v text); INSERT INTO noted VALUES (1, 'with a journal');
    CREATE TABLE visit (id int, day date) PARTITION BY RANGE (id);
    CREATE TABLE visit_a PARTITION OF visit FOR VALUES FROM (0) TO (10);
    CREATE TABLE visit_b PARTITION OF visit FOR VALUES FROM (10) TO (20);
    INSERT INTO visit SELECT i, date '2026-11-01' + i FROM generate_series(1, 19) i;
    CREATE TABLE gone (id int); INSERT INTO gone VALUES (1);
    COMMENT ON TABLE person IS 'Those who came'; COMMENT ON COLUMN person.name IS 'As they said it'
"""
NOT_APPROVED = "CREATE TABLE still (id int PRIMARY KEY, v text); INSERT INTO still VALUES (1, 'never changes')"
# The fields of this version that the documents of the job below have.
OPTIONAL = (
    *("announces", "audit_carried", "carried_over", "comment", "contract", "drift", "guards", "journal"),
    *("names", "parts", "primary_key", "unique_keys", "uploaded_bytes", "uncommitted", "wal", "wal_reset"),
)
NEW_FILE = f"""{CHUNKS}
tables: {{rules: {{public.noted: {{detect: journal}}}}}}
contract: {{tables: include}}
completion: {{object: destination}}
"""
UNCHANGED = dict.fromkeys(("public.noted", "public.person", "public.still", "public.visit"), "unchanged")
# What 0.1.0's reader gives: of each table the number of its rows, and the digest of its sorted lines.
READER = """
import hashlib, json, sys
from floodmark import consume
snapshot = consume.open(sys.argv[1]).latest()
found = {}
for name in snapshot:
    table = snapshot[name]
    if table.objects:
        lines = b"".join(sorted(line.rstrip(b"\\n") + b"\\n" for line in table.lines()))
        found[name] = [sum(1 for row in table.rows()), hashlib.sha256(lines).hexdigest()]
print(json.dumps(found))
"""


class Job:
    """A service's job, by this version and by 0.1.0 in turns."""

    def __init__(self, database: PgDatabase, folder: Path, old: type[OldRelease]) -> None:
        self.database, self.folder = database, folder
        self.landing = Landing(folder / "lake")
        places = {"FLOODMARK_SOURCE": database.url, "FLOODMARK_DESTINATION": str(self.landing.folder)}
        self.new = Floodmark(folder / "job", places)
        self.old = old(Floodmark(folder / "old-job", places))
        self.new.configure(NEW_FILE)
        self.old.configure(CHUNKS)

    def day(self, statements: str = "") -> None:
        """Let a day pass, at whose end every proof of this version is at hand."""
        if statements:
            self.database.execute(statements)
        pass_bucket(self.database)
        summarize(self.database.server)

    def truth(self) -> dict[str, list[Any]]:
        """What the database holds now, as READER gives it, after a comparison with what landed."""
        found: dict[str, list[Any]] = {}
        for entry in self.landing.manifest.tables:
            if entry.status != "dropped":
                lines = sorted(lines_of(self.database.dsn, f'"{entry.schema}"."{entry.name}"', entry))
                assert sorted(self.landing.lines(entry.table.label)) == lines, entry.table.label
                found[entry.table.label] = [len(lines), hashlib.sha256(b"".join(lines)).hexdigest()]
        return found


@pytest.fixture
def job(summarizing: SummarizingServers, tmp_path: Path, old_release: type[OldRelease]) -> Iterator[Job]:
    """A job that this version ran for some nights, until each kind of proof and each optional field was in use."""
    database = summarizing[VERSIONS[-1]].database()
    database.execute(SERVICE)
    install(database)
    enable(database, "noted")
    job = Job(database, tmp_path, old_release)
    job.new("contract", "write")
    database.execute(NOT_APPROVED)
    for _ in range(3):
        job.day()
        job.new.run()
    job.day("DROP TABLE gone")
    job.new.run()
    job.new.run("--table", "public.noted")
    job.new("run", "--source", "postgresql://nobody@localhost:1/nowhere", code=12)
    yield job
    database.drop()


def statuses(done: Done) -> dict[str, str]:
    return {label: status for label, (status, _) in done.outcomes.items()}


def test_release_0_1_0_reads_all_of_it(job: Job) -> None:
    """It ignores the fields that it does not know."""
    text = "".join(path.read_text() for path in (job.landing.folder / "_floodmark").rglob("*.json"))
    assert [name for name in OPTIONAL if f'"{name}"' not in text] == []
    manifest = job.landing.manifest
    assert job.old("show", "--output", "json").json["run_id"] == manifest.run_id
    assert manifest.run_id in job.old("history").out and "unchanged (journal)" in job.old("status").out
    assert job.old("verify", "--deep", "--output", "json").json["manifests"] == 5
    assert '"title": "public.person"' in job.old("schema", "--format", "json-schema").out
    truth, read = job.truth(), job.old.python(READER, str(job.landing.folder))
    assert truth == {label: read[label] for label in UNCHANGED}


def test_a_downgrade_and_an_upgrade_lose_nothing(job: Job) -> None:
    still = entry_of(job.landing.manifest, "public.still").objects
    job.day("UPDATE person SET name = 'first' WHERE id = 7; INSERT INTO visit VALUES (0, '2026-12-01')")
    assert statuses(job.old.run()) == {**UNCHANGED, "public.person": "extracted", "public.visit": "extracted"}
    job.truth()
    job.day("UPDATE person SET name = 'second' WHERE id = 7; UPDATE noted SET v = 'written past 0.1.0'")
    assert statuses(job.new.run()) == {**UNCHANGED, "public.person": "extracted", "public.noted": "extracted"}
    job.truth()
    job.day("DELETE FROM person WHERE id = 9")
    assert statuses(job.new.run()) == {**UNCHANGED, "public.person": "extracted"}
    assert job.truth() == job.old.python(READER, str(job.landing.folder))
    assert [one.key for one in entry_of(job.landing.manifest, "public.still").objects] == [one.key for one in still]
    assert job.new("verify", "--deep", "--output", "json").json["manifests"] == 8
    job.old("prune", "--keep-last", "2", "--grace", "0")
    job.day()
    assert job.new.run().outcomes["public.noted"] == ("unchanged", "journal"), "the proof is back"
    assert job.new("verify", "--deep", "--output", "json").json["manifests"] == 3


def load(turn: Floodmark, into: str, code: int = 0) -> set[str]:
    """Load the current snapshot. Return the names of the tables that were loaded."""
    done = turn("load", "--into", into, "--output", "json", code=code).json
    return {one["name"] for one in done["tables"] if one["status"] == "loaded"}


def test_targets_and_deliveries_change_hands(job: Job) -> None:
    """In a DuckDB file 0.1.0 can't replace a table that carries a comment of the source. This version can again."""
    parquet, duck, delivered = (job.folder / name for name in ("parquet", "lake.duckdb", "delivered"))
    for night, turn in enumerate((job.new, job.old, job.new)):
        job.day(f"UPDATE person SET name = 'night {night}'; INSERT INTO visit VALUES ({night}, NULL)")
        turn.run()
        changed = {"person", "visit"} if night else {"noted", "person", "still", "visit"}
        assert load(turn, f"parquet:{parquet}") == changed
        loaded = load(turn, f"duckdb:{duck}", code=3 if turn is job.old else 0)
        assert loaded == (changed - {"person"} if turn is job.old else changed)
        done = turn("deliver", "--to", str(delivered), "--name", "other", "--output", "json").json
        assert {one["name"] for one in done["deliveries"][0]["tables"] if one["status"] == "delivered"} == changed
    with duckdb.connect(str(duck), read_only=True) as connection:
        for name in ("person", "visit"):
            query = f"SELECT count(*), count(DISTINCT {'name' if name == 'person' else 'day'}) FROM public.{name}"
            assert connection.execute(query).fetchall() == job.database.query(query)


def test_versions_take_turns_on_sqlite(tmp_path: Path, old_release: type[OldRelease]) -> None:
    """This version reads a large table in ranges of its key, and 0.1.0 reads it whole."""
    path = tmp_path / "shop.db"
    places = {"FLOODMARK_SOURCE": f"sqlite:///{path}", "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    new = Floodmark(tmp_path / "job", places)
    new.configure(CHUNKS)
    old, landing = old_release(new), Landing(tmp_path / "lake")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, v TEXT)")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)"
        database.execute(f"INSERT INTO item {numbers} SELECT i, printf('%0200d', i) FROM n")
        database.execute("CREATE TABLE still (id INTEGER)")
        for number, turn in enumerate((new, old, new)):
            database.execute("UPDATE item SET v = ? WHERE id = 700", [f"night {number}"])
            found = statuses(turn.run())
            assert found == {"main.item": "extracted", "main.still": "unchanged" if number else "extracted"}
            rows = [tuple(json.loads(line).values()) for line in landing.lines("main.item")]
            assert sorted(rows) == database.execute("SELECT * FROM item ORDER BY id").fetchall()
    assert new("verify", "--deep", "--output", "json").json["manifests"] == 3
