"""Lines → the JSON text of each value: the slow way to it, for lines that msgspec refuses, finds the same."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.errors import DoesNotFit
from floodmark.reader.arrow import BatchConverter, RowShape
from floodmark.reader.rows import UnreadableValue, rows_reader
from floodmark.reader.texts import split_texts
from floodmark.reader.types import ColumnType

LONE = b'{"lone":"\\ud800"}\n'
SPACE = st.text(" \t", max_size=2)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def plain(lines: bytes) -> list[dict[str, bytes]]:
    return [{name: bytes(text) for name, text in one.items()} for one in split_texts(lines)]


@given(row=st.dictionaries(st.text(), st.tuples(VALUES, st.booleans(), SPACE, SPACE)))
def test_a_line_is_taken_apart_by_hand_as_msgspec_does(row: dict[str, Any]) -> None:
    """`json` values have their own spaces around them."""
    written = {name: json.dumps(value, ensure_ascii=ascii) for name, (value, ascii, _, _) in row.items()}
    pairs = [f"{json.dumps(name)}:{row[name][2]}{text}{row[name][3]}" for name, text in written.items()]
    inner = ",".join(pairs)
    line = f"{{{inner}}}\n"
    found = plain(line.encode("utf-8"))
    assert found == [{name: text.encode() for name, text in written.items()}]
    (by_hand,) = plain(f'{{"lone":"\\ud800"{"," * bool(row)}{inner}}}\n'.encode())
    assert by_hand == {"lone": b'"\\ud800"', **found[0]}


def test_halves_of_pairs_and_whole_ones() -> None:
    values = [r'"\ud800"', r'"\uDC00x"', r'["\ud800\ud800", "\ud83d\ude00"]', r'{"\udfff" : 1.10}', r'"\ud83d\\ude00"']
    lines = b"".join(b'{"n":%d,"j":%s}\n' % (number, value.encode()) for number, value in enumerate(values))
    assert plain(lines) == [{"n": b"%d" % number, "j": value.encode()} for number, value in enumerate(values)]
    assert plain(b"{}\n" + LONE + b"{}\n") == [{}, {"lone": b'"\\ud800"'}, {}]
    long = b'{"lone":"\\ud800","n":%s}\n' % (b"9" * 5000)
    assert plain(long)[0]["n"] == b"9" * 5000, "more digits than Python makes an int of"


@pytest.mark.parametrize(
    "bad", [b'{"a":1', b'{"a" 1}', b'{"a":1,}', b"[1]", b'{"a":1}}', b'{"a":"\xff"}', b'"\\ud800"']
)
def test_what_is_no_json_stays_an_error(bad: bytes) -> None:
    """Before such a value and after it."""
    for lines in (bad + b"\n" + LONE, LONE + bad + b"\n", bad.replace(b"}", b',"l":"\\ud800"}', 1) + b"\n"):
        names, types = ("a",), (ColumnType("text"),)
        with pytest.raises((msgspec.DecodeError, ValueError)):
            [msgspec.json.decode(one["a"]) for one in split_texts(lines) if "lone" not in one]
        with pytest.raises(DoesNotFit):
            BatchConverter(RowShape("public.t", names, types)).batch(lines)


@pytest.mark.parametrize("name", ["v", 'a"b'])
def test_every_kind_beside_such_a_value_is_read_as_ever(name: str) -> None:
    kinds = ("int32", "decimal", "float64", "bool", "date", "timestamptz", "bytes", "text", "uuid", "any", "json")
    types = tuple(ColumnType(kind, *(10, 2) * (kind == "decimal")) for kind in kinds)
    names = (*kinds[:-1], name)
    line = (
        b'{"int32":1,"decimal":1.50,"float64":-0,"bool":true,"date":"2026-01-01","timestamptz":"2026-01-01T00:00:00+00:00",'
        b'"bytes":"\\\\x00","text":"\\"\\u00e9","uuid":"x","any":{"a": "\\ud800"},%s:%%s}\n' % json.dumps(name).encode()
    )
    plain_ones, lone = line.replace(b"\\ud800", b"-") % b'"s"', line % b'"\\udc00"'
    read = BatchConverter(RowShape("public.t", names, types)).batch
    expected, (found,) = read(plain_ones).to_pylist()[0], read(lone).to_pylist()
    assert repr(found) == repr({**expected, "any": '{"a": "\\ud800"}', name: '"\\udc00"'})
    rows = rows_reader(names, types)
    assert repr(rows(lone)) == repr([{**rows(plain_ones)[0], "any": {"a": "\ud800"}, name: "\udc00"}])


def test_a_row_that_can_not_be_says_which_column_it_is() -> None:
    rows = rows_reader(("a", "b", "c"), (ColumnType("int32"), ColumnType("json"), ColumnType("text")))
    with pytest.raises(UnreadableValue) as refusal:
        rows(b'{"a":1,"b":"\\ud800","c":"x"}\n{"a":1,"b":1e9999999999999999999999,"c":"x"}\n')
    assert refusal.value.column == "b"
    with pytest.raises(DoesNotFit, match=re.escape("public.t, column a")):
        converter = BatchConverter(RowShape("public.t", ("b", "a"), (ColumnType("json"), ColumnType("int32"))))
        converter.batch(b'{"b":"\\ud800","a":"x"}\n')
