"""Each kind's values in a line of JSON and in a field of CSV, as PostgreSQL writes them.

tests/property/test_encoder_types.py compares the same values, and random ones, with servers.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import pytest

from fix_encoder import OIDS, copied, numeric, record
from fix_encoder_values import EXPECTED, MOST64, Value, int4, interval
from floodmark.objects.csv import record as record_of_csv
from floodmark.objects.numbers import quote_large

encoder = pytest.importorskip("floodmark.native.encoder", reason="the native encoder is not built")


def lines(kind: str, data: bytes | None, row_format: str, **options: object) -> bytes:
    found, rows = encoder.Encoder([("a", kind)], row_format, **options).message(copied(data))
    assert rows == 1
    return bytes(found)


@pytest.mark.parametrize("value", EXPECTED, ids=lambda value: f"{value.kind}-{value.in_csv[:30]!a}")
def test_a_value_in_each_format(value: Value) -> None:
    assert lines(value.kind, value.data, "jsonl").decode() == f'{{"a":{value.in_json}}}\n'
    assert lines(value.kind, value.data, "csv").decode() == f"{value.in_csv}\n"


def test_every_kind_has_a_value_here() -> None:
    scalars = {kind for kind in encoder.KINDS if not kind.startswith("array:")}
    assert {value.kind for value in EXPECTED} >= scalars


@pytest.mark.parametrize("kind", sorted(encoder.KINDS))
def test_a_null_of_each_kind(kind: str) -> None:
    assert lines(kind, None, "jsonl") == b'{"a":null}\n'
    assert lines(kind, None, "csv") == b"\n"


def test_older_servers_write_two_kinds_in_another_way() -> None:
    assert lines("char", b"\xe9", "jsonl", server_version=140000) == b'{"a":"\xe9"}\n'
    assert lines("char", b"\xe9", "jsonl", server_version=150000) == b'{"a":"\\\\351"}\n'
    greatest = interval(MOST64, 2**31 - 1, 2**31 - 1)
    assert lines("interval", greatest, "csv", server_version=160000) == (
        b"P178956970Y7M2147483647DT2562047788H54.775807S\n"
    )


@pytest.mark.parametrize("mark", ['"', "\\", "\n", "\x00", "\x1f", " ", "\x7f", "é", ",", "\r"])
def test_a_mark_at_every_place_of_a_text(mark: str) -> None:
    """Texts are read by words of 16 and of 8 bytes and by single bytes."""
    in_json, in_csv = encoder.Encoder([("a", "text")], "jsonl"), encoder.Encoder([("a", "text")], "csv")
    for length in range(50):
        for at in range(length + 1):
            text = "x" * at + mark + "y" * (length - at)
            expected = json.dumps({"a": text}, ensure_ascii=False, separators=(",", ":")) + "\n"
            assert bytes(in_json.message(copied(text.encode()))[0]).decode() == expected
            assert bytes(in_csv.message(copied(text.encode()))[0]) == record_of_csv([text]) + b"\n"


def test_rows_with_several_columns() -> None:
    fields = [("id", "int4", 23), ('a "name",\n', "text", 25), ("naïve", "bool")]
    rows = record((23, int4(1)), (25, b"x,y"), (16, b"\1")) + record((23, int4(2)), (25, None), (16, None))
    found, number = encoder.Encoder(fields, "jsonl").records(rows)
    expected = '{"id":1,"a \\"name\\",\\n":"x,y","naïve":true}\n{"id":2,"a \\"name\\",\\n":null,"naïve":null}\n'
    assert (bytes(found).decode(), number) == (expected, 2)
    table = encoder.Encoder(fields, "csv")
    assert table.header().decode() == 'id,"a ""name"",\n",naïve\n'
    assert bytes(table.records(rows)[0]) == b'1,"x,y",t\n2,,\n'


def test_rows_without_columns() -> None:
    rows = record() + record()
    assert bytes(encoder.Encoder([], "jsonl").records(rows)[0]) == b"{}\n{}\n"
    assert bytes(encoder.Encoder([], "csv").records(rows)[0]) == b"\n\n"
    assert encoder.Encoder([], "csv").header() == b"\n"


def test_only_a_column_of_its_own_quotes_the_end_of_data() -> None:
    pair = encoder.Encoder([("a", "text"), ("b", "text")], "csv")
    assert bytes(pair.message(copied(b"\\.", b"\\."))[0]) == b"\\.,\\.\n"


def test_a_stream_of_copy_with_its_header_and_trailer() -> None:
    rows = encoder.Encoder([("a", "int4")], "jsonl")
    header = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert [bytes(rows.message(part)[0]) for part in (header + copied(int4(1)), copied(int4(2)), b"\xff\xff", b"")] == [
        b'{"a":1}\n', b'{"a":2}\n', b"", b"",
    ]  # fmt: skip
    assert rows.message(header + b"\xff\xff")[1] == 0


def test_a_mark_after_each_row_is_counted_and_not_written() -> None:
    marked = encoder.Encoder([("a", "int4")], "jsonl", marked=True)
    messages = copied(int4(1), None) + copied(int4(2), b"") + copied(int4(3), b"any bytes") + b"\xff\xff"
    lines_of_three, rows = marked.message(messages)
    assert (bytes(lines_of_three), rows, marked.marks) == (b'{"a":1}\n{"a":2}\n{"a":3}\n', 3, 2)
    assert bytes(marked.message(copied(int4(4), b""))[0]) == b'{"a":4}\n'
    assert marked.marks == 3
    assert bytes(marked.records(record((23, int4(5))))[0]) == b'{"a":5}\n'  # which has no marks
    with pytest.raises(encoder.MalformedRows, match="row 1: 1 fields instead of 2"):
        marked.message(copied(int4(6)))
    with pytest.raises(encoder.MalformedRows, match="row 1: the data ends too early"):
        marked.message(copied(int4(6), b"mark")[:-1])


def test_a_view_stays_valid_while_somebody_holds_it() -> None:
    rows = encoder.Encoder([("a", "text")], "jsonl")
    first, _ = rows.message(copied(b"one"))
    second, _ = rows.message(copied(b"another " * 10_000))
    assert bytes(first) == b'{"a":"one"}\n'
    del second
    third, _ = rows.message(copied(b"three"))
    assert (bytes(first), bytes(third)) == (b'{"a":"one"}\n', b'{"a":"three"}\n')
    with pytest.raises(TypeError):
        first[0] = 0


def test_other_threads_run_while_rows_are_encoded() -> None:
    """Without a switch by force, another thread runs only if the encoder gives the interpreter's lock away."""
    rows, text = encoder.Encoder([("a", "text")], "jsonl"), copied(b'"' * 8_000_000)
    turns, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)

    usual = sys.getswitchinterval()
    other = threading.Thread(target=count)
    other.start()
    try:
        sys.setswitchinterval(1000)
        for _ in range(30):
            before = turns[0]
            rows.message(text)
            if turns[0] > before:
                break
        else:
            pytest.fail("no other thread ran")
    finally:
        sys.setswitchinterval(usual)
        stop.set()
        other.join()


NUMERALS = [
    *("0", "-1", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("9" * 18, "9" * 19, "1" + "0" * 18, "1" + "0" * 19, "-1" + "0" * 30, "1.5e300", "1E+400", "1" * 25 + ".5e-7"),
    *('"99999999999999999999"', '"a\\"99999999999999999999"', "[1,99999999999999999999]", "0.12345678901234567890"),
]


@pytest.mark.parametrize("text", NUMERALS)
def test_large_numbers_are_quoted_like_those_of_other_lines(text: str) -> None:
    expected = quote_large(b'{"a":%s}\n' % text.encode())
    assert lines("json", text.encode(), "jsonl", quote_large=True) == expected
    assert lines("jsonb", b"\1" + text.encode(), "jsonl", quote_large=True) == expected
    assert lines("raw", text.encode(), "jsonl", quote_large=True) == expected


@pytest.mark.parametrize(
    ("digits", "weight", "sign"),
    [
        ([922, 3372, 368, 5477, 5807], 4, 0),
        ([922, 3372, 368, 5477, 5808], 4, 0),
        ([922, 3372, 368, 5477, 5808], 4, 0x4000),
        ([922, 3372, 368, 5477, 5809], 4, 0x4000),
        ([1], 4, 0),
        ([1000], 4, 0),
        ([99], 4, 0x4000),
        ([1], 5, 0),
        ([1], 60, 0x4000),
    ],
)
@pytest.mark.parametrize("scale", [0, 7])
def test_large_numerics_are_quoted_like_those_of_other_lines(
    digits: list[int], weight: int, sign: int, scale: int
) -> None:
    data = numeric(digits, weight, scale, sign)
    assert lines("numeric", data, "jsonl", quote_large=True) == quote_large(lines("numeric", data, "jsonl"))


def test_a_wide_value_needs_no_more_calls() -> None:
    text = ('wide "value"\n' * 1_000_000).encode()
    expected = b'{"a":"' + text.replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"}\n'
    assert lines("text", text, "jsonl") == expected


@pytest.mark.parametrize(
    "arguments", [([("a", "money")], "jsonl"), ([("a", "array:raw")], "csv"), ([("a", "text")], "xml")]
)
def test_an_unknown_kind_or_format_is_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="unknown"):
        encoder.Encoder(*arguments)


def test_the_oids_in_the_tests_are_those_of_the_kinds() -> None:
    assert set(OIDS) <= encoder.KINDS
