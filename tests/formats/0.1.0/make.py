"""Make the folders next to this file again, with release 0.1.0, a real PostgreSQL and SQLite.

    PYTHONPATH=tests:src .venv/bin/python tests/formats/0.1.0/make.py

It needs the venv of `make .venv-0.1.0/.ready`. It works in /golden, since documents name their destination.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import sqlite3
import time
from pathlib import Path

from fix_command import Floodmark, Landing
from fix_old_release import OldRelease
from fix_postgres import BINARIES, DEFAULT_VERSION, Cluster, PgDatabase, Role
from fix_runs import lines_of
from floodmark.state.manifest import Manifest, Progress, decode

HERE = Path(__file__).parent
WORK = Path("/golden")

SERVICE = """
    CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
    CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, score numeric(12, 3), seen timestamptz, about jsonb,
        email email, nino text);
    INSERT INTO person SELECT i, 'person ' || i, i / 7.0, '2026-11-01 12:00Z'::timestamptz + i * interval '1 hour',
        jsonb_build_object('note', repeat('x', 200)), i || '@example.org', 'QQ' || i FROM generate_series(1, 500) i;
    CREATE TABLE visit (id int, day date) PARTITION BY RANGE (id);
    CREATE TABLE visit_a PARTITION OF visit FOR VALUES FROM (0) TO (10);
    CREATE TABLE visit_b PARTITION OF visit FOR VALUES FROM (10) TO (20);
    INSERT INTO visit SELECT i, date '2026-11-01' + i FROM generate_series(1, 19) i;
    CREATE TABLE empty (id int);
    CREATE TABLE gone (id int); INSERT INTO gone VALUES (1);
    CREATE TABLE vault (id int); INSERT INTO vault VALUES (1);
"""
CHANGES = (
    "UPDATE person SET name = 'somebody else' WHERE id = 7; DELETE FROM person WHERE id = 400",
    "INSERT INTO person (id, name) VALUES (501, 'new'); INSERT INTO visit VALUES (0, '2026-12-01'); DROP TABLE gone",
)
RULES = "tables: {rules: {public.person: {columns: {mask: {nino: redact}}}}}\nchunk_size: 64KiB\n"
CURSOR = """
import sys
from floodmark import consume
reader = consume.open(sys.argv[1])
reader.cursor("warehouse").advance(reader.latest())
print("null")
"""


def commit_nights(floodmark: OldRelease, database: PgDatabase) -> None:
    """Three committed nights. A delivery, a load and a cursor take the second one."""
    floodmark.run()
    database.execute(CHANGES[0])
    floodmark.run()
    floodmark("load", "--into", "parquet:/golden/parquet")
    floodmark("deliver", "--to", "/golden/delivered", "--name", "other")
    floodmark.python(CURSOR, "/golden/lake")
    database.execute(CHANGES[1])
    database.execute("REVOKE SELECT ON vault FROM reader")
    floodmark.run(code=3)
    floodmark("prune", "--keep-last", "2", "--grace", "0")


def stop(floodmark: OldRelease, database: PgDatabase) -> None:
    """Stop a run that has finished person, and waits for a table that someone has locked."""
    database.execute("UPDATE person SET name = 'of the night that was stopped' WHERE id = 300")
    session = database.connect()
    session.execute("LOCK TABLE visit_b IN ACCESS EXCLUSIVE MODE")
    before = len(objects())
    process = floodmark.start("run")
    deadline = time.monotonic() + 30
    while len(objects()) == before:
        assert time.monotonic() < deadline, "it wrote no object"
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    session.close()
    floodmark.end(process)
    (progress,) = (WORK / "lake/_floodmark/progress").glob("*.json")
    assert decode(Progress, progress.read_bytes(), "progress").chunks


def objects() -> list[Path]:
    return list((WORK / "lake/data").rglob("*.gz"))


def truth(database: PgDatabase, manifest: Manifest) -> dict[str, str]:
    """The SHA-256 of each table's sorted lines, as PostgreSQL itself makes them."""
    found = {}
    for entry in manifest.tables:
        if entry.name in ("person", "visit", "empty"):
            lines = b"".join(sorted(lines_of(database.dsn, f"public.{entry.name}", entry)))
            masked = re.sub(rb'"nino":"QQ[0-9]+"', b'"nino":"REDACTED"', lines)
            found[entry.table.label] = hashlib.sha256(masked).hexdigest()
    return found


def make_postgres(database: PgDatabase, reader: Role) -> None:
    places = {"FLOODMARK_SOURCE": reader.url, "FLOODMARK_DESTINATION": "/golden/lake"}
    floodmark = OldRelease(Floodmark(WORK / "job", places))
    floodmark.configure(RULES)
    commit_nights(floodmark, database)
    manifest = Landing(WORK / "lake").manifest
    digests = json.dumps(truth(database, manifest), indent=1) + "\n"
    stop(floodmark, database)
    keep("postgres", "lake", "parquet", "delivered")
    (HERE / "postgres/truth.json").write_text(digests)


def make_sqlite() -> None:
    with sqlite3.connect(WORK / "shop.db") as database:
        database.executescript(
            """
            CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL, image BLOB);
            INSERT INTO item VALUES (1, 'chair', 19.5, x'00ff'), (2, 'ta"ble', 1e300, NULL), (3, '', -0.0, x'');
            CREATE TABLE sale (item INTEGER, day TEXT);
            INSERT INTO sale VALUES (1, '2026-11-01'), (3, NULL);
            CREATE TABLE empty (id INTEGER);
            """
        )
    places = {"FLOODMARK_SOURCE": "sqlite:////golden/shop.db", "FLOODMARK_DESTINATION": "/golden/lake"}
    floodmark = OldRelease(Floodmark(WORK / "job", places))
    floodmark.configure("destination: {format: csv, compression: zstd}\n")
    floodmark.run()
    with sqlite3.connect(WORK / "shop.db") as database:
        database.execute("INSERT INTO sale VALUES (2, '2026-11-02')")
    floodmark.run()
    keep("sqlite", "lake", "shop.db")


def keep(name: str, *parts: str) -> None:
    """Move what was made into the repository, and clear the working folder."""
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir()
    for part in parts:
        shutil.move(WORK / part, HERE / name / part)
    for lock in (HERE / name).rglob(".floodmark-lock"):
        lock.unlink()
    shutil.rmtree(WORK)
    WORK.mkdir()


def main() -> None:
    WORK.mkdir()
    make_sqlite()
    with Cluster.create(BINARIES[DEFAULT_VERSION]) as server:
        database = server.database("golden")
        database.execute(SERVICE)
        reader = database.role("reader", "golden")
        database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        make_postgres(database, reader)
    WORK.rmdir()


if __name__ == "__main__":
    main()
