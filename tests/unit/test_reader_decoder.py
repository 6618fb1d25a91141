"""The compiled decoder of lines: it gives the rows that Python gives, or refuses the lines."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fix_decoder import BothWays, bits, line, needs_decoder
from floodmark.reader import arrow
from floodmark.reader.arrow import BatchConverter, RowShape
from floodmark.reader.types import ColumnType, Kind

pytestmark = needs_decoder

# Values that the decoder must take: a table of these is loaded at full speed.
ORDINARY: dict[Kind, list[str]] = {
    "int16": ["0", "-1", "32767", "-32768"],
    "int32": ["7", "2147483647", "-2147483648"],
    "int64": ["9223372036854775807", "-9223372036854775807", "100"],
    "float32": ["1", "0.1", "-3.4028235e+38", "1e-45", "16777216", "-0", '"NaN"', '"Infinity"', '"-Infinity"'],
    "float64": [
        *("0", "-0", "-0.0", "0.1", "2.5", "0.30000000000000004", "1e+22", "1.7976931348623157e+308"),
        *("5e-324", "2.2250738585072014e-308", "9007199254740993", "123456789012345678901234567890"),
        *('"NaN"', '"Infinity"', '"-Infinity"', "8.41", "1e23", "0.000001"),
        *("337130890086167.029", "265755438.050581080", "51700.3934920610890", "4.35", "179.99999999999997"),
    ],
    "bool": ["true", "false"],
    "date": ['"2024-02-29"', '"0001-01-01"', '"9999-12-31"', '"1969-12-31"', '"1900-03-01"', '"2000-02-29"'],
    "timestamp": ['"2024-02-29T23:59:59.999999"', '"1969-12-31T23:59:59.5"', '"0001-01-01T00:00:00"'],
    "timestamptz": ['"2024-02-29T23:59:59.1+00:00"', '"9999-12-31T23:59:59.999999+00:00"'],
    "time": ['"23:59:59.5"', '"24:00:00"'],
    "uuid": ['"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'],
    "json": [
        *('{"a": 1.10, "b": [1, {"c": null}], "a": "\\ud800"}', "[]", "{}", '"x"', "12345678901234567890123.50"),
        *('  {"a":1}  ', "[[[[]]]]", "true", "-0", '{"": "\\u0000\\"}"}', "1e999999"),
    ],
    "bytes": ['"\\\\x"', '"\\\\x00ff7F"'],
    "text": ['""', '"plain"', '"caf\u00e9 \U0001f600\u007f"',
             '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u00e9\\u20ac\\ud83d\\ude00"'],
    "any": ['"text"', '"\\"q\\""', '{"f1":1.0,"f2":[1, 2]}', "[1,null]", "12.50", "true"],
    "digits": ["123456789012345678901234567890123456789012345.5", '"NaN"', '"1"'],
}  # fmt: skip
# Values that Python reads in another way, refuses, or reads as something that the decoder does not know.
UNUSUAL: dict[Kind, list[str]] = {
    "int16": ["32768", "-32769", "1.0", "1e2", '"1"', "01", "-", "-0", "+1", "true", " 1"],
    "int32": ["2147483648", "1 "],
    "int64": ["9223372036854775808", "-9223372036854775808", "99999999999999999999"],
    "float32": ["1e39", "3.4028236e38", '"nan"', "01", ".5", "1.", "16777217", "7.038531e-26"],
    "float64": ["1e400", "-1e400", '"Inf"', '""', "NaN", "1e", "0x10", "1_0"],
    "bool": ["1", '"true"', "tru", "True", "falsE"],
    "date": [
        *('"infinity"', '"-infinity"', '"4714-11-24 BC"', '"10000-01-01"', '"5874897-12-31"', '"0000-01-01"'),
        *('"2023-02-29"', '"1900-02-29"', '"2024-04-31"', '"2024-00-10"', '"2024-13-01"', '"2024-1-01"'),
        '"2024-01-00"',
        *("20240101", '"2024-01-01T00:00:00"', '"2024-01-01 "', '"0000-00-00"'),
    ],
    "timestamp": [
        *('"infinity"', '"2024-01-01T24:00:00"', '"2024-01-01T23:60:00"', '"2024-01-01T23:59:60"', '"2024-01-01"'),
        *('"2024-01-01T00:00:00.1234567"', '"2024-01-01T00:00:00."', '"2024-01-01T00:00:00+00:00"'),
        *('"2024-01-01 00:00:00"', '"294276-12-31T23:59:59.999999"', '"0044-03-15T10:00:00 BC"'),
    ],
    "timestamptz": ['"2024-01-01T00:00:00"', '"2024-01-01T00:00:00+01:00"', '"2024-01-01T00:00:00Z"', '"-infinity"'],
    "time": ["1", "{}"],
    "uuid": ["1", "true"],
    "json": ["{", "[1,]", '{"a"}', "{1:2}", "nul", "[1 2]", '"\\x"', '"\\u12g4"', "]", "[}", '{"a":1,}', "+1", "",
             "["*600 + "]"*600],
    "bytes": ['"x"', '"\\\\x1"', '"\\\\xgg"', '"\\\\x00 11"', '"\\\\\\\\x00"', "1", '"\\\\X00"'],
    "text": ["1", '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\x41"', '"a', '"a\tb"', "{}", '"\ud800"'],
    "any": ['"\\ud800"', "nul", "[", '"\t"'],
    "digits": ['"\\udfff"', "01"],
}  # fmt: skip
DECIMALS = {
    (10, 2): ["0", "-0", "-0.00", "12345678.90", "-99999999.99", "1.5", "100000000", "1.234", "1.230", '"NaN"', "1e2"],
    (38, 10): ["9999999999999999999999999999.0123456789", '"-9223372036854775809"', '"12.5"',
               "99999999999999999999999999999"],
    (38, 0): ["-99999999999999999999999999999999999999", '"99999999999999999999999999999999999999"', "0.0", "1.0"],
    (38, 38): ["0.99999999999999999999999999999999999999", "1", "-0.00000000000000000000000000000000000001"],
    (3, 3): ["0.5", "0.1234", ".5", "00.5", "0.", "-", '"', '"1', '""'],
}  # fmt: skip


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_values_are_decoded_as_python_reads_them(kind: Kind) -> None:
    both = BothWays(["a"], [ColumnType(kind)])
    for value in [*ORDINARY[kind], "null"]:
        lines = line(["a"], [value])
        assert both.decoded(lines) == both.expected(lines) is not None, value
    together = b"".join(line(["a"], [value]) for value in [*ORDINARY[kind], "null"] * 700)
    assert both.decoded(together) == both.expected(together)


@pytest.mark.parametrize("infinite", [False, True])
@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_values_are_left_to_python_or_read_as_it_does(kind: Kind, infinite: bool) -> None:
    both = BothWays(["a", "b"], [ColumnType(kind), ColumnType("text")], infinite)
    for value in UNUSUAL[kind]:
        lines = line(["a", "b"], [value, '"x"'])
        found = both.decoded(lines)
        assert found is None or found == both.expected(lines), value
        taken = infinite and "infinity" in value
        assert (found is not None) == taken, value


@pytest.mark.parametrize("digits", DECIMALS)
def test_decimals_are_exact_or_left_to_python(digits: tuple[int, int]) -> None:
    both = BothWays(["a"], [ColumnType("decimal", *digits)])
    found = {value: both.decoded(line(["a"], [value])) for value in DECIMALS[digits]}
    for value, columns in found.items():
        assert columns is None or columns == both.expected(line(["a"], [value])), value
    assert any(columns is not None for columns in found.values())


LINES = b'{"a":1,"b":"x"}\n'
STRANGE = [
    b'{"b":"x","a":1}\n', b'{"a":1}\n', b'{"a":1,"b":"x","c":2}\n', b'{"a": 1,"b":"x"}\n', b'{"a":1,"b":"x"} \n',
    b'{"a":1,"a":2,"b":"x"}\n', b"{}\n", b"\n", b"", b"[]\n", b'{"A":1,"b":"x"}\n', LINES[:-1], LINES + LINES[:-1],
    LINES + b"\n", b"\xef\xbb\xbf" + LINES, b'{"a":1,"b":"\xff"}\n', b'{"a":1,"b":"\xed\xa0\x80"}\n',
    b'{"a":1,"b":"\xc0\x80"}\n', b'{"a":1,"b":"\xe0\x80\x80"}\n',
    b'{"a":1,"b":"\xf4\x90\x80\x80"}\n', b'{"a":1,"b":"\xe2\x82"}\n', b"\x00" * 20 + b"\n",
]  # fmt: skip


@pytest.mark.parametrize("strange", STRANGE)
def test_lines_of_another_form_are_refused_and_nothing_of_them_is_kept(strange: bytes) -> None:
    both = BothWays(["a", "b"], [ColumnType("int32"), ColumnType("text")])
    assert both.decoded(strange) is None
    assert both.decoder is not None and both.decoder.take(LINES * 9)
    assert both.decoder.take(LINES * 5 + strange) is (strange == b"")
    rows = 9 if strange else 14
    assert both.finished() == [[1] * rows, [b"x"] * rows]


def test_a_refused_block_leaves_no_value_to_the_rows_after_it() -> None:
    kinds = [ColumnType("int32"), ColumnType("text"), ColumnType("bool")]
    both = BothWays(["a", "b", "c"], kinds)
    assert both.decoder is not None
    full, nulls = line(["a", "b", "c"], ["1", '"x"', "true"]), line(["a", "b", "c"], ["null"] * 3)
    assert both.decoder.take(full) and not both.decoder.take(full * 20 + b"{\n") and both.decoder.take(nulls * 20)
    assert both.finished() == both.expected(full + nulls * 20)


def test_lines_that_end_at_any_byte_are_refused() -> None:
    kinds: list[Kind] = ["int64", "float64", "bool", "timestamptz", "bytes", "json", "text", "any"]
    names = [f"c\u00e9{number}" for number in range(len(kinds))]
    both = BothWays(names, [ColumnType(kind) for kind in kinds])
    whole = line(names, [ORDINARY[kind][-1] for kind in kinds])
    assert both.decoded(whole) == both.expected(whole) is not None
    for end in range(len(whole)):
        assert both.decoded(whole[:end]) is None, end
        assert (both.decoded(whole[:end] + b"\n") is None) == (end < len(whole) - 1), end


@pytest.mark.parametrize(
    "name", ['q"uote', "back\\slash", "new\nline", "\x1f", "\x7f", "\u00e9\U0001f600", "", "a.b", "{"]
)
def test_any_name_of_a_column(name: str) -> None:
    both = BothWays([name, "x"], [ColumnType("int32"), ColumnType("int32")])
    lines = line([name, "x"], ["1", "2"])
    assert both.decoded(lines) == both.expected(lines) == [[1], [2]]


def test_rows_can_be_taken_once_and_live_on_without_the_decoder() -> None:
    both = BothWays(["a"], [ColumnType("text")])
    assert both.decoder is not None
    with pytest.raises(ValueError, match="no rows"):
        both.decoder.finish()
    assert both.decoder.take(b'{"a":"x"}\n' * 5000)
    rows = both.decoder.finish()
    del both
    schema = pa.schema([("a", pa.string())])
    batch = pa.record_batch(rows, schema=schema)
    assert batch.column(0).to_pylist() == ["x"] * 5000
    with pytest.raises(ValueError, match="once"):
        pa.record_batch(rows, schema=schema)


def test_a_batch_mixes_decoded_rows_with_those_that_python_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [b'{"a":"2024-01-01"}\n' * 3, b'{"a":"0044-03-15 BC"}\n{"a":null}\n', b'{"a":"2024-01-02"}\n']
    shape = RowShape("public.t", ("a",), (ColumnType("date"),))
    (mixed,) = BatchConverter(shape).batches(blocks)
    read: list[bytes] = []
    converter = BatchConverter(shape)
    whole = converter._record_batch
    monkeypatch.setattr(converter, "_record_batch", lambda lines: read.append(lines) or whole(lines))
    list(converter.batches(blocks))
    assert read == [blocks[1]], "only the unusual block is read in Python"
    monkeypatch.setattr(arrow, "line_decoder", without_decoder)
    (python,) = BatchConverter(shape).batches(blocks)
    assert bits(mixed) == bits(python) and mixed.num_rows == 6


def without_decoder(*_: Any) -> None:
    """An installation without the compiled decoder."""
