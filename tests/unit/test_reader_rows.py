"""Lines → values: no digit and no sign is lost, by any way to read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from math import copysign
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.model import Column
from floodmark.reader.arrow import BatchConverter, RowShape
from floodmark.reader.rows import rows_reader
from floodmark.reader.types import ColumnType, Kind, column_type

# The names of columns: the second can't be looked for by msgspec, so a slower way reads it.
NAMES = ["v", 'a"b']


def rows(lines: bytes, kind: ColumnType, name: str) -> list[Any]:
    return [row[name] for row in rows_reader((name,), (kind,))(lines)]


def arrow(lines: bytes, kind: ColumnType, name: str) -> list[Any]:
    return list(BatchConverter(RowShape("public.t", (name,), (kind,))).batch(lines).column(0).to_pylist())


def line(name: str, value: str) -> bytes:
    return b"{%s:%s}\n" % (json.dumps(name).encode(), value.encode())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("read", [rows, arrow])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_zero_keeps_its_sign(kind: Kind, read: Callable[[bytes, ColumnType, str], list[Any]], name: str) -> None:
    lines = b"".join(line(name, text) for text in ("-0", "0", "-1.5", "null", '"NaN"', "-0.0"))
    found = read(lines, ColumnType(kind), name)
    assert [None if value is None else copysign(1, value) for value in found[:4] + found[5:]] == [-1, 1, -1, None, -1]
    assert found[2] == -1.5 and found[4] != found[4]


def test_a_zero_keeps_its_sign_in_the_midst_of_a_line() -> None:
    kinds = (ColumnType("text"), ColumnType("float64"), ColumnType("int32"))
    lines = b'{"a":":-0,","f":-0,"i":-0}\n'
    (row,) = rows_reader(("a", "f", "i"), kinds)(lines)
    assert row == {"a": ":-0,", "f": 0.0, "i": 0} and copysign(1, row["f"]) == -1
    (row,) = BatchConverter(RowShape("public.t", ("a", "f", "i"), kinds)).batch(lines).to_pylist()
    assert row == {"a": ":-0,", "f": 0.0, "i": 0} and copysign(1, row["f"]) == -1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("declared", ["numeric", "numeric(12,2)", "numeric(60,10)", "numeric(39,0)"])
def test_a_numeric_is_a_decimal_whatever_its_precision(declared: str, name: str) -> None:
    texts = ["12345678901234567890123456789012345678901234567890.0123456789", "7", "1.50"]
    lines = b"".join(line(name, text) for text in [*texts, "null", '"NaN"', '"12345678901234567890"'])
    kind = column_type(Column(name, declared, True), "postgresql")
    found = rows(lines, kind, name)
    assert [str(value) for value in found] == [*texts, "None", "NaN", "12345678901234567890"]
    assert {type(value) for value in found} == {Decimal, type(None)}
    if kind.arrow == "string":
        assert arrow(lines, kind, name) == [*texts, None, "NaN", "12345678901234567890"]


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["json", "any"])
@given(text=NUMBERS)
def test_a_number_anywhere_is_the_number_that_is_spelled(kind: Kind, name: str, text: str) -> None:
    (found,) = rows(line(name, f'{{"a":[{text}]}}'), ColumnType(kind), name)
    (number,) = found["a"]
    assert Decimal(repr(number) if isinstance(number, float) else number) == Decimal(text)
    if not isinstance(number, int):
        assert isinstance(number, float) == (Decimal(repr(float(text))) == Decimal(text)), "a float wherever one does"


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_floats_hold_are_floats_and_integers_ints(name: str) -> None:
    (found,) = rows(line(name, "[0.1,1.10,1e300,5,-2.50,12345678901234567890123]"), ColumnType("json"), name)
    assert [(type(one), one) for one in found] == [
        (float, 0.1), (float, 1.1), (float, 1e300), (int, 5), (float, -2.5), (int, 12345678901234567890123),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_exponent_that_nothing_holds_is_an_error_of_the_line(name: str) -> None:
    with pytest.raises(ValueError):
        rows(line(name, "1e9999999999999999999999"), ColumnType("json"), name)
