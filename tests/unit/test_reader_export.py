"""A table's rows for a pipe: as landed, or as CSV, no more objects than a limit needs, and nothing unverified."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from typing import BinaryIO

import pytest
from msgspec.structs import replace

from fix_canaries import CANARY
from fix_state import entry, point, put
from floodmark.errors import ConfigError, DoesNotFit, ObjectMissing, VerificationFailed
from floodmark.model import Chunk, Column, Encoding, Format, ObjectEntry
from floodmark.objects.csv import fields, split_records
from floodmark.reader.export import exported
from floodmark.reader.reader import Table
from floodmark.storage.memory import MemoryStorage

COLUMNS = (Column("id", "integer", False), Column("t", "text", True), Column("j", "jsonb", True))
LINES = [b'{"id":%d,"t":"row %d","j":{"n": %d}}\n' % (n, n, n) for n in range(7)]
RECORDS = [b'%d,row %d,"{""n"": %d}"\n' % (n, n, n) for n in range(7)]
HEADER = b"id,t,j\n"


class Counting(MemoryStorage):
    """A store that writes down which objects are opened."""

    def __init__(self) -> None:
        super().__init__("memory:lake")
        self.opened: list[str] = []

    def open(self, key: str) -> BinaryIO:
        self.opened.append(key)
        return super().open(key)


def landed(
    objects: Sequence[bytes], columns: tuple[Column, ...] = COLUMNS, row_format: Format = "jsonl"
) -> tuple[Table, Counting]:
    """A table with these objects, each with its rows as they are landed; in CSV with its header."""
    store, entries = Counting(), list[ObjectEntry]()
    for number, raw in enumerate(objects):
        data = gzip.compress(raw)
        rows = raw.count(b"\n") if row_format == "jsonl" else len(list(split_records(raw))) - 1
        digests = hashlib.sha256(data).hexdigest(), hashlib.sha256(raw).hexdigest()
        entries.append(
            ObjectEntry(f"data/{number}", rows, len(raw), len(data), *digests, Chunk("1", number), "extracted")
        )
        put(store, f"data/{number}", data)
    found = entry("t", point(0), *entries, columns=columns, encoding=Encoding(row_format))
    return Table(replace(found, rows=sum(one.rows for one in entries)), "postgresql", store), store


def text(table: Table, store: Counting, wanted: Format | None = None, limit: int | None = None) -> bytes:
    return b"".join(exported(table, store, wanted, limit))


THREE = [b"".join(LINES[:3]), b"".join(LINES[3:5]), b"".join(LINES[5:])]


@pytest.mark.parametrize("wanted", [None, "jsonl"])
def test_json_lines_are_those_that_were_landed_in_their_order(wanted: Format | None) -> None:
    assert text(*landed(THREE), wanted) == b"".join(LINES)


def test_csv_of_json_lines_has_one_header_and_one_record_per_line() -> None:
    assert text(*landed(THREE), "csv") == HEADER + b"".join(RECORDS)


@pytest.mark.parametrize("wanted", [None, "csv"])
def test_csv_that_was_landed_keeps_its_records_and_one_header(wanted: Format | None) -> None:
    objects = [HEADER + b"".join(RECORDS[:3]), HEADER + b"".join(RECORDS[3:])]
    assert text(*landed(objects, row_format="csv"), wanted) == HEADER + b"".join(RECORDS)


@pytest.mark.parametrize("limit", range(1, 9))
@pytest.mark.parametrize("wanted", ["jsonl", "csv"])
def test_a_limit_counts_rows_and_opens_no_object_beyond_it(wanted: Format, limit: int) -> None:
    table, store = landed(THREE)
    rows = LINES[:limit] if wanted == "jsonl" else [HEADER, *RECORDS[:limit]]
    assert text(table, store, wanted, limit) == b"".join(rows)
    assert len(store.opened) == (1 if limit <= 3 else 2 if limit <= 5 else 3)


@pytest.mark.parametrize("limit", range(1, 5))
def test_a_limit_counts_records_and_not_lines(limit: int) -> None:
    records = [b'1,"two\nlines",\n', b'2,"a ""quote""\n\n",\n', b'3,"",\n', b"4,,\n"]
    table, store = landed([HEADER + b"".join(records[:2]), HEADER + b"".join(records[2:])], row_format="csv")
    assert text(table, store, None, limit) == HEADER + b"".join(records[:limit])
    assert len(store.opened) == (1 if limit <= 2 else 2)


def test_nothing_of_a_damaged_object_is_handed_out() -> None:
    """Not even the blocks that come long before the damage."""
    table, store = landed([THREE[0], b"".join(LINES) * 20_000, THREE[2]])
    assert len(list(exported(table, store))) > 10
    data = bytearray(store.get("data/1").data)
    data[-9] ^= 1
    put(store, "data/1", bytes(data))
    got: list[bytes] = []
    with pytest.raises(VerificationFailed) as refusal:
        got.extend(exported(table, store))
    assert b"".join(got) == THREE[0] and "data/1" in refusal.value.sentence
    store.delete("data/0")
    for wanted in ("jsonl", "csv"):  # the header comes with the first rows
        with pytest.raises(ObjectMissing):
            next(exported(table, store, wanted))  # type: ignore[arg-type]


def test_json_lines_of_csv_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"public\.t.*no JSON types"):
        exported(*landed([HEADER + RECORDS[0]], row_format="csv"), "jsonl")


def test_a_table_without_rows() -> None:
    assert [text(*landed([]), wanted) for wanted in ("jsonl", "csv")] == [b"", HEADER]  # type: ignore[arg-type]


def test_a_table_without_columns_has_empty_records() -> None:
    assert text(*landed([b"{}\n{}\n"], ()), "csv") == b"\n\n\n"


VALUES = {
    b"null": None,
    b'""': "",
    b'"a\\nb\\r,\\"q\\" \\u0007\\ud83e\\udd80"': 'a\nb\r,"q" \x07🦀',
    b"12345678901234567890.10": "12345678901234567890.10",
    b"-0": "-0",
    b"true": "true",
    b'"NaN"': "NaN",
    b'"\\\\x00ff"': r"\x00ff",
    b'{"a": "b\\n", "c": [1, null]}': r'{"a": "b\n", "c": [1, null]}',
}


@pytest.mark.parametrize("raw", VALUES)
def test_a_field_is_the_value_without_quotes_and_escapes(raw: bytes) -> None:
    found = text(*landed([b'{"a,\\"b":%s}\n' % raw], (Column('a,"b', "anything", True),)), "csv")
    header, *records = split_records(found)
    assert fields(header) == ['a,"b'] and [fields(one) for one in records] == [[VALUES[raw]]]


@pytest.mark.parametrize("raw", [b'"a string"', b'"half: \\ud800"', b'{"k": "v"}', b"1.0"])
def test_a_value_of_type_json_stays_json(raw: bytes) -> None:
    found = text(*landed([b'{"j":%s}\n' % raw], (Column("j", "json", True),)), "csv")
    assert fields(list(split_records(found))[1]) == [raw.decode()]


@pytest.mark.parametrize(
    "line",
    [
        b'{"t":"%s\\ud800"}\n' % CANARY.encode(),  # half a surrogate pair in a type that has none
        b'{"other":"%s"}\n' % CANARY.encode(),
        b'{"t":%s}\n' % CANARY.encode(),
        b'{"t":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    ],
)
def test_a_line_that_can_t_be_csv_is_an_error_without_its_value(line: bytes) -> None:
    table, store = landed([line], (Column("t", "text", True),))
    assert text(table, store, "jsonl") == line
    with pytest.raises(DoesNotFit, match=r"public\.t") as refusal:
        text(table, store, "csv")
    assert CANARY not in str(refusal.value) and refusal.value.__cause__ is None


def test_a_large_object_comes_in_small_blocks() -> None:
    line = b'{"id":1,"t":"%s","j":null}\n' % (b"x" * 100)
    table, store = landed([line * 50_000])
    for wanted in ("jsonl", "csv"):
        assert max(map(len, exported(table, store, wanted))) < 2**20  # type: ignore[arg-type]
