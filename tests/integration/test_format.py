"""docs/format.md is enough: a reader made from it alone reads what real runs landed.

The reader in the document is run as it stands there; the one below was written from the document and checks what a
careful consumer would. Neither imports anything of Floodmark's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fix_runs import Nightly, lines_of
from floodmark.config import Flags, load
from floodmark.pipeline.job import run

FORMAT = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")

TABLES = """
CREATE SCHEMA audit;
CREATE TABLE person (id int PRIMARY KEY, "née" text, born date, seen timestamptz, paid numeric, tags text[], doc json);
INSERT INTO person SELECT n, E'line\\nbreak \\u2028\\u0085 ' || n, date '1950-01-01' + n, timestamptz '2026-01-01Z',
    CASE n % 3 WHEN 0 THEN 'NaN' ELSE 12345678901234567890.123456789 + n END, ARRAY['a', NULL], E'{"a":\\n[1,\\r\\n2]}'
    FROM generate_series(1, 6000) n;
CREATE TABLE "empty" (id int);
CREATE TABLE audit."odd name/ü.x" (x bytea);
INSERT INTO audit."odd name/ü.x" VALUES ('\\xdeadbeef');
CREATE TABLE event (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO event SELECT date '2026-01-01' + n % 59, 'event ' || n FROM generate_series(1, 500) n;
CREATE TABLE leaving (id int);
INSERT INTO leaving VALUES (1);
"""
A_DAY = """
UPDATE person SET paid = 1 WHERE id = 5999;
INSERT INTO event VALUES ('2026-02-03', 'late');
DROP TABLE leaving;
"""


class Consumer:
    """Reads a state and its destination as docs/format.md tells, and checks all that can be checked."""

    def __init__(self, state: Path, destination: Path) -> None:
        self.state, self.destination = state, destination
        head = json.loads((state / "head.json").read_bytes())
        assert (head["format"], head["version"]) == ("floodmark.head", 1)
        data = (state / head["manifest"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == head["manifest_sha256"]
        self.manifest = json.loads(data)
        assert (self.manifest["format"], self.manifest["version"]) == ("floodmark.manifest", 1)
        assert all(self.manifest[name] == head[name] for name in ("run_id", "timestamp"))
        assert all(self.manifest["source"][name] == head[name] for name in ("dialect", "system_identifier", "database"))
        self.tables = {(table["schema"], table["name"]): table for table in self.manifest["tables"]}
        assert list(self.tables) == sorted(self.tables)

    def previous(self) -> dict[str, Any]:
        return json.loads((self.state / self.manifest["parent"]).read_bytes())

    def lines(self, table: dict[str, Any]) -> list[bytes]:
        lines: list[bytes] = []
        contents = ""
        for entry in table["objects"]:
            stored = (self.destination / entry["key"]).read_bytes()
            assert (len(stored), hashlib.sha256(stored).hexdigest()) == (entry["stored_bytes"], entry["sha256"])
            raw = gzip.decompress(stored) if table["encoding"]["compression"] == "gzip" else stored
            content = hashlib.sha256(raw).hexdigest()
            assert (len(raw), content) == (entry["raw_bytes"], entry["content_sha256"])
            assert raw.endswith(b"\n") and raw.count(b"\n") == entry["rows"] > 0
            lines += raw.split(b"\n")[:-1]
            contents += content
        assert table["checksum"] == "sha256:" + hashlib.sha256(contents.encode()).hexdigest()
        for field in ("rows", "raw_bytes", "stored_bytes"):
            assert table[field] == sum(entry[field] for entry in table["objects"])
        for line in lines:
            assert list(json.loads(line)) == [column["name"] for column in table["columns"]]
        return lines

    def check_keys(self, default_schema: str) -> None:
        """Keys are as the document says, although no reader needs to know."""
        for table in self.tables.values():
            parts = [table["name"]] if table["schema"] == default_schema else [table["schema"], table["name"]]
            segment = ".".join(
                "".join(chr(b) if re.match(rb"[A-Za-z0-9_-]", bytes([b])) else f"%{b:02X}" for b in part.encode())
                for part in parts
            )
            shape = re.compile(
                rf"data/database_name=[^/]+/table_name={re.escape(segment)}/extraction_timestamp=\d{{14}}Z/"
                rf"{re.escape(segment)}-\d{{5,}}\.jsonl(\.gz)?"
            )
            assert all(shape.fullmatch(entry["key"]) for entry in table["objects"])


def documented_reader(folder: Path, *arguments: str) -> bytes:
    """Run the reader in the document, with the standard library and nothing else."""
    (code,) = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)
    (folder / "reader.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-I", "-S", "reader.py", "landing/_floodmark", "landing", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readers_made_from_the_document_read_a_changed_day(nightly: Nightly) -> None:
    nightly.database.execute(TABLES)
    nightly.run()
    nightly.database.execute(A_DAY)
    nightly.run()
    consumer = Consumer(nightly.folder / "_floodmark", nightly.folder)
    consumer.check_keys("public")
    assert consumer.manifest["consistent"] is True
    outcomes = {name: table["status"] for (_, name), table in consumer.tables.items()}
    assert outcomes == {
        "odd name/ü.x": "unchanged", "empty": "unchanged", "event": "extracted", "leaving": "dropped",
        "person": "extracted",
    }  # fmt: skip

    before = {(table["schema"], table["name"]): table for table in consumer.previous()["tables"]}
    for name, table in consumer.tables.items():
        if table["status"] == "dropped":
            assert table["checksum"] == before[name]["checksum"] and table["watermark"] is None
            continue
        entry = nightly.entry(".".join(name))
        truth = lines_of(nightly.database.dsn, f'"{entry.schema}"."{entry.name}"', entry)
        found = consumer.lines(table)
        assert sorted(line + b"\n" for line in found) == sorted(truth)
        assert documented_reader(nightly.folder.parent, ".".join(name)) == b"".join(line + b"\n" for line in found)
        same = (table["checksum"], table["columns"]) == (before[name]["checksum"], before[name]["columns"])
        assert same == (table["status"] == "unchanged") == (table["changed_by"] != consumer.manifest["run_id"])

    known = {entry["content_sha256"] for entry in before["public", "person"]["objects"]}
    new = [e for e in consumer.tables["public", "person"]["objects"] if e["content_sha256"] not in known]
    assert new == [e for e in consumer.tables["public", "person"]["objects"] if e["origin"] == "extracted"] != []
    listed = documented_reader(nightly.folder.parent).decode().splitlines()
    assert [line.rsplit(" ", 2)[0] for line in listed] == [
        ".".join(n) for n, s in outcomes_of(consumer) if s != "dropped"
    ]


def outcomes_of(consumer: Consumer) -> list[tuple[tuple[str, str], str]]:
    return [(name, table["status"]) for name, table in consumer.tables.items()]


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_readers_made_from_the_document_read_sqlite_too(tmp_path: Path, compression: str) -> None:
    database = sqlite3.connect(tmp_path / "notes.db")
    database.executescript("CREATE TABLE note (id INTEGER, body, ratio); CREATE TABLE bare (a)")
    rows = [(1, "a\nb", 0.5), (2, None, float("inf")), (3, b"\x00\xff", -1.25), (2**62, "", None)]
    database.executemany("INSERT INTO note VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()
    file = tmp_path / "floodmark.yaml"
    file.write_text(f"destination: {{url: {tmp_path}/landing, compression: {compression}}}\n")
    run(load(Flags(config=file), {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/notes.db"}))

    consumer = Consumer(tmp_path / "landing/_floodmark", tmp_path / "landing")
    consumer.check_keys("main")
    found = [tuple(json.loads(line).values()) for line in consumer.lines(consumer.tables["main", "note"])]
    assert found == [(1, "a\nb", 0.5), (2, None, "Infinity"), (3, "\\x00ff", -1.25), (2**62, "", None)]
    assert consumer.lines(consumer.tables["main", "bare"]) == []
    assert documented_reader(tmp_path, "main.note").count(b"\n") == 4


@pytest.mark.parametrize("what", ["an object", "the manifest"])
def test_the_documented_reader_notices_damage(nightly: Nightly, what: str) -> None:
    nightly.database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    result = nightly.run()
    key = nightly.entry("public.t").objects[0].key if what == "an object" else f"_floodmark/{result.manifest_key}"
    path = nightly.folder / key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(AssertionError, match=r"damaged: landing/"):
        documented_reader(nightly.folder.parent, "public.t")
