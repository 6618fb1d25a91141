"""Truncated and lying rows: the encoder gives lines or MalformedRows, and no error tells a value.

`make fuzz` goes on where this ends, under AddressSanitizer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

import pytest

from fix_encoder import ARRAY_OIDS, OIDS, VALUES, array, copied, numeric, record

encoder = pytest.importorskip("floodmark.native.encoder", reason="the native encoder is not built")

KINDS = list(VALUES)
INT4 = struct.pack(">i", 7)
LIES = (-2, -1, 0, 1, 2**31 - 1, -(2**31))
FORMATS = (("jsonl", False), ("jsonl", True), ("csv", False))


def oid_of(kind: str) -> int:
    return ARRAY_OIDS[kind.removeprefix("array:")] if kind.startswith("array:") else OIDS[kind]


def encoders(kinds: list[str]) -> list[object]:
    fields = [(kind, kind, oid_of(kind)) for kind in kinds]
    return [encoder.Encoder(fields, *way) for way in FORMATS]


def survives(encode: object, data: bytes) -> bool:
    """Encode the data. Return True if it gave lines, False if it was refused."""
    try:
        lines, rows = encode(data)  # type: ignore[operator]
    except encoder.MalformedRows:
        return False
    assert bytes(lines).count(b"\n") >= rows
    return True


def lied(data: bytes) -> Iterator[bytes]:
    """Give the data with other numbers at each place where an int32 can be: a length, a count, an oid."""
    for at in range(len(data) - 3):
        (number,) = struct.unpack_from(">i", data, at)
        for lie in {*LIES, *((number - 1, number + 1) if abs(number) < 2**31 - 1 else ())} - {number}:
            yield data[:at] + struct.pack(">i", lie) + data[at + 4 :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_row_is_refused(kind: str) -> None:
    random = Random(kind)
    samples = [VALUES[kind](random) for _ in range(10)]
    for one in encoders([kind, kind]):
        for value in samples:
            rows = record((oid_of(kind), value), (oid_of(kind), value))
            message = copied(value, value)
            assert survives(one.records, rows) and survives(one.message, message)
            assert not any(survives(one.records, rows[:end]) for end in range(1, len(rows)))
            assert not any(survives(one.message, message[:end]) for end in range(1, len(message)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_lying_number_anywhere_never_crashes(kind: str) -> None:
    random = Random(kind)
    tried = 0
    for one in encoders([kind]):
        for _ in range(10):
            value = VALUES[kind](random)
            for data in lied(record((oid_of(kind), value))):
                survives(one.records, data)
                tried += 1
            for data in lied(copied(value)):
                survives(one.message, data)
                tried += 1
    assert tried > 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_length_of_a_value_is_refused(kind: str) -> None:
    """The row's only value claims another length than it has, with the row's bytes to match or not."""
    value = VALUES[kind](Random(kind))
    for one in encoders([kind]):
        for length in {-2, -(2**31), 2**31 - 1, len(value) + 1}:
            row = struct.pack(">hi", 1, length) + value
            assert not survives(one.message, row)
        if value:
            assert not survives(one.message, struct.pack(">hi", 1, len(value) - 1) + value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool", b"\2"),
        ("int2", b"\0"),
        ("int4", bytes(3)),
        ("int8", bytes(9)),
        ("oid", b""),
        ("float4", bytes(8)),
        ("float8", bytes(4)),
        ("char", b""),
        ("char", b"ab"),
        ("uuid", bytes(15)),
        ("jsonb", b""),
        ("jsonb", b'\2"x"'),
        ("numeric", b""),
        ("numeric", numeric([1], 0, 0) + b"\0"),
        ("numeric", numeric([1, 2], 0, 0)[:-2]),
        ("numeric", numeric([10000], 0, 0)),
        ("numeric", numeric([1], 0, 16384)),
        ("numeric", numeric([1], 0, 0, 0x1234)),
        ("date", struct.pack(">i", -2_451_546)),
        ("date", struct.pack(">i", 2_145_031_949)),
        ("time", struct.pack(">q", -1)),
        ("time", struct.pack(">q", 86_400_000_001)),
        ("timetz", struct.pack(">qi", 0, 57_600)),
        ("timetz", struct.pack(">qi", 0, -(2**31))),
        ("timestamp", struct.pack(">q", -211_813_488_000_000_001)),
        ("timestamptz", struct.pack(">q", 9_223_371_331_200_000_000)),
        ("interval", bytes(12)),
        ("array:int4", b""),
        ("array:int4", array(23, [1], [INT4]) + b"\0"),
        ("array:int4", array(23, [2], [INT4])),
        ("array:int4", array(23, [1], [b"\0"])),
        ("array:int4", array(23, [0], [])),
        ("array:int4", array(23, [-1], [])),
        ("array:int4", array(23, [1] * 7, [INT4])),
        ("array:int4", array(23, [1], [INT4], [2**31 - 1])[:11] + b"\1" + struct.pack(">ii", 2, 2**31 - 1) + bytes(16)),
        ("array:int4", array(23, [2**31 - 1] * 6, [INT4])),
        ("array:int4", struct.pack(">iiI", -1, 0, 23)),
        ("array:int4", struct.pack(">iiI", 0, 7, 23)),
    ],
    ids=lambda part: part if isinstance(part, str) else part.hex()[:24],
)
def test_bytes_that_are_no_value_are_refused(kind: str, value: bytes) -> None:
    for one in [*encoders([kind])]:
        assert not survives(one.message, copied(value))


def test_an_error_tells_the_place_and_the_length() -> None:
    rows = encoder.Encoder([("a", "int4", 23), ("b", "text", 25)], "jsonl")
    good = record((23, INT4), (25, b"x"))
    for data, expected in [
        (record((23, INT4)), "row 1: 1 fields instead of 2"),
        (good + record((23, INT4), (1043, b"x")), "row 2, field 2 (text): another type than expected"),
        (good + record((23, INT4 + b"\0"), (25, b"x")), "row 2, field 1 (int4): 5 bytes instead of 4"),
        (good[:-1], "row 1, field 2 (text): the data ends too early"),
        (good + b"\0", "row 2: the data ends too early"),
        (good[:-5] + struct.pack(">i", -7), "row 1, field 2 (text): a length is wrong"),
    ]:
        with pytest.raises(encoder.MalformedRows) as raised:
            rows.records(data)
        assert str(raised.value) == expected
    assert bytes(rows.records(good)[0]) == b'{"a":7,"b":"x"}\n'  # it works on after an error


def test_an_error_tells_no_value() -> None:
    """Whatever length lies, no error holds a part of a value, as text or as the number that its bytes would be."""
    secret = "correct hörse bättery stäple ÿÿÿÿÿÿÿÿ".encode()
    parts = [secret[at : at + size] for size in (2, 4) for at in range(len(secret) - size)]
    numbers = {str(int.from_bytes(part, "big", signed=signed)) for part in parts for signed in (False, True)}
    row = record((25, secret), (23, INT4), (25, secret))
    rows = encoder.Encoder([("a", "text", 25), ("b", "int4"), ("c", "text")], "jsonl")
    told = set()
    shorter = [row[:8] + struct.pack(">i", length) + row[12:] for length in range(len(secret))]
    cut = [row[:end] for end in range(len(row))] + [row + row[at:] for at in range(len(row))]
    for data in [*lied(row), *shorter, *cut]:
        try:
            rows.records(data)
        except encoder.MalformedRows as error:
            told.add(str(error))
    assert len(told) > 5
    assert not [text for text in told for number in numbers if number in text.replace(" ", "")]
    assert not [text for text in told for part in parts[-len(secret) :] if part.decode("latin-1") in text]


def test_an_array_that_claims_many_elements_takes_no_memory() -> None:
    rows = encoder.Encoder([("a", "array:int4")], "jsonl")
    claim = struct.pack(">iiIii", 1, 0, 23, 2**31 - 2, 1)
    with pytest.raises(encoder.MalformedRows, match="ends too early"):
        rows.message(copied(claim))


def test_what_is_no_buffer_is_refused() -> None:
    rows = encoder.Encoder([("a", "int4")], "jsonl")
    with pytest.raises(TypeError):
        rows.records("text")
    assert rows.records(memoryview(b""))[1] == 0
