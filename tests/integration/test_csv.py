"""`destination.format: csv`: read back by a reader of our own that tells null from the empty string, and held against
what the server gives for each column as text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from isal import igzip

import floodmark
from fix_runs import Nightly
from floodmark.config import ColumnRule, Limits, Secret, TableRule
from floodmark.errors import ConfigError, VerificationFailed
from floodmark.events import ignore_event
from floodmark.objects.csv import RowCounter, fields, split_records, whole_records
from floodmark.source.postgres.connect import pinned_settings
from floodmark.storage.local import LocalStorage
from floodmark.verify.objects import read

FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\n)')
ODD = r"""
    CREATE TABLE odd (id int, "a,""b" text, j jsonb, raw json, t timestamptz, b bytea, l text[], f float8, n numeric);
    INSERT INTO odd VALUES
      (1, '', '{"k": "v,\"\n"}', E'{\n "k": 1}', '2026-07-01 12:00+01', '\x00ff', '{"a,b",NULL,""}', 'NaN', 1.10),
      (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      (3, E'two\nlines\r\n', 'null', 'null', 'infinity', '', '{}', '-Infinity', 'NaN'),
      (4, 'NULL', '"x"', '"y"', '0044-03-15 BC', '\x22', '{{1},{2}}', 1e-300, 123456789012345678901234567890),
      (5, '\.', '[]', '[]', 'epoch', '\x5c', '{\\.}', 0.1, 0), (6, ' x ', '{}', '{}', now(), '\x', '{" "}', -0.0, -1)
"""
PERSON = """
    CREATE TABLE person (id int PRIMARY KEY, name text, note text);
    INSERT INTO person SELECT i, CASE WHEN i % 3 > 0 THEN 'n' || i END, repeat('two' || chr(10), i % 9)
    FROM generate_series(1, 9000) i
"""


def records(data: bytes) -> list[list[str | None]]:
    """All records of a file, the header too; a quoted field is a string, an empty one without quotes a null."""
    return list(_records(data.decode()))


def _records(text: str) -> Iterator[list[str | None]]:
    at, record = 0, list[str | None]()
    while at < len(text):
        found = FIELD.match(text, at)
        assert found is not None, f"no CSV at {at}"
        at = found.end()
        record.append(found[2] or None if found[1] is None else found[1].replace('""', '"'))
        if found[3] == "\n":
            yield record
            record = []
    assert not record


def landed(nightly: Nightly, label: str) -> list[tuple[str | None, ...]]:
    """A table's rows; each object begins with the header, which names the manifest's columns."""
    entry = nightly.entry(label)
    rows: list[tuple[str | None, ...]] = []
    for one in entry.objects:
        assert one.key.endswith(".csv.gz")
        raw = igzip.decompress((nightly.folder / one.key).read_bytes())
        header, *found = records(raw)
        assert header == [column.name for column in entry.columns]
        assert (len(raw), len(found)) == (one.raw_bytes, one.rows)
        rows += map(tuple, found)
    return rows


def truth(nightly: Nightly, table: str, *columns: str) -> list[tuple[str | None, ...]]:
    with psycopg.connect(nightly.database.dsn) as connection:
        connection.execute(pinned_settings(Limits(), connection.info.server_version))
        chosen = ", ".join(f"{column}::text" for column in columns)
        return list(connection.execute(f"SELECT {chosen} FROM public.{table}"))


def test_every_value_comes_back(nightly_any: Nightly) -> None:
    nightly_any.database.execute(ODD)
    nightly_any.run(format="csv")
    columns = ("id", '"a,""b"', "j", "raw", "t", "b", "l", "f", "n")
    expected = truth(nightly_any, "odd", *columns)
    assert landed(nightly_any, "public.odd") == expected and len(expected) == 6


def test_days_in_csv(nightly: Nightly) -> None:
    """The proof is the same; only what changed is written, and each object stands alone."""
    nightly.database.execute(PERSON)
    nightly.run(format="csv")
    chunks = len(nightly.entry("public.person").objects)
    assert chunks > 3 and nightly.outcome("public.person") == ("extracted", "first_run")
    nightly.run(format="csv", audit_share=100.0)
    assert nightly.outcome("public.person") == ("unchanged", "unchanged")
    nightly.database.execute("UPDATE person SET note = NULL WHERE id = 1; INSERT INTO person VALUES (0, '', NULL)")
    nightly.run(format="csv")
    assert nightly.outcome("public.person") == ("extracted", "rows_changed")
    assert 1 <= nightly.extracted_chunks("public.person") < chunks
    assert sorted(landed(nightly, "public.person"), key=str) == sorted(
        truth(nightly, "person", "id", "name", "note"), key=str
    )
    nightly.run()
    assert nightly.outcome("public.person") == ("extracted", "config_changed")
    nightly.require_truth()


def test_the_reader_and_verify_know_csv(nightly: Nightly) -> None:
    """Records with newlines in them, over block after block; what would guess at types refuses."""
    nightly.database.execute(ODD + ";" + PERSON)
    nightly.database.execute("INSERT INTO odd (id, j) SELECT 7, to_jsonb(repeat(E'a\n\"', 200000))")
    nightly.run(format="csv")
    snapshot = floodmark.open(str(nightly.folder)).latest()
    for label in ("public.odd", "public.person"):
        found = [tuple(row.values()) for row in snapshot[label].rows()]
        assert found == landed(nightly, label) and len(found) == nightly.entry(label).rows
        assert len(list(snapshot[label].lines())) == len(found)
    with pytest.raises(ConfigError, match="can't read CSV as typed values"):
        list(snapshot["public.odd"].batches())
    one = nightly.folder / nightly.entry("public.person").objects[0].key
    assert read(LocalStorage(nightly.folder), nightly.entry("public.person").objects[0], bool, ignore_event) is None
    one.write_bytes(igzip.compress(igzip.decompress(one.read_bytes()).replace(b"two\nt", b"two t", 1)))
    with pytest.raises(VerificationFailed):
        list(snapshot["public.person"].rows())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10**6])
def test_records_end_where_they_do_however_the_bytes_come(size: int) -> None:
    raw = b'a,"b\n"""\n1,"x\ny"\n,""\n"""\n""",\n'
    blocks = [raw[at : at + size] for at in range(0, len(raw), size)]
    counter = RowCounter("csv")
    for block in blocks:
        counter.take(block)
    assert counter.rows == 3
    found = [fields(record) for block in whole_records(iter(blocks)) for record in split_records(block)]
    assert found == [["1", "x\ny"], [None, ""], ['"\n"', None]]


def test_what_has_no_row_or_one_column(nightly: Nightly) -> None:
    """A null alone in its row is an empty line: the manifest's count of rows tells that it is one."""
    nightly.database.execute("CREATE TABLE nothing (id int); CREATE TABLE one (a text)")
    nightly.database.execute("INSERT INTO one VALUES (NULL), (''), ('a'), (NULL)")
    nightly.run(format="csv")
    assert (nightly.entry("public.nothing").rows, nightly.entry("public.nothing").objects) == (0, ())
    assert landed(nightly, "public.one") == [(None,), ("",), ("a",), (None,)]


def test_rows_without_a_column(nightly: Nightly) -> None:
    """An empty record is one null where there is a column, and nothing where there is none."""
    nightly.database.execute("CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES; INSERT INTO bare DEFAULT VALUES")
    nightly.run(format="csv")
    bare = floodmark.open(str(nightly.folder)).latest()["bare"]
    assert list(bare.rows()) == [{}, {}] and list(bare.lines()) == [b"", b""] and bare.entry.rows == 2
    nightly.run(format="jsonl")
    assert list(floodmark.open(str(nightly.folder)).latest()["bare"].rows()) == [{}, {}]


def test_rules_hold_in_csv(nightly: Nightly) -> None:
    nightly.database.execute(PERSON)
    rule = TableRule(columns=ColumnRule(exclude=("note",), mask={"name": "redact"}), where="id <= 3")
    nightly.run(format="csv", rules={"public.person": rule})
    assert landed(nightly, "public.person") == [("1", "REDACTED"), ("2", "REDACTED"), ("3", None)]


@pytest.mark.parametrize("mask", [None, "hash"])
def test_sqlite_in_csv(tmp_path: Path, nightly: Nightly, mask: str | None) -> None:
    with sqlite3.connect(tmp_path / "notes.db") as connection:
        connection.execute('CREATE TABLE odd (id INTEGER, "a,b" TEXT, v)')
        rows = [(1, "", b"\x00\xff"), (2, None, 0.1), (3, 'say "hi"\r\n, twice', None), (4, "a", float("-inf"))]
        connection.executemany("INSERT INTO odd VALUES (?, ?, ?)", rows)
    connection.close()
    rules = {} if mask is None else {"odd": TableRule(columns=ColumnRule(mask={"v": "hash"}))}
    nightly.run(url=f"sqlite:///{tmp_path}/notes.db", format="csv", rules=rules, mask_key=Secret("key"))
    found = landed(nightly, "main.odd")
    assert [row[:2] for row in found] == [("1", ""), ("2", None), ("3", 'say "hi"\r\n, twice'), ("4", "a")]
    values = [row[2] for row in found]
    if mask is None:
        assert values == [r"\x00ff", "0.1", None, "-Infinity"]
    else:
        assert values[2] is None and all(value is None or len(value) == 64 for value in values)
