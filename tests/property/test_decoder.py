"""Random lines, whole and damaged: the compiled decoder gives the rows that Python gives, or refuses the lines."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fix_decoder import BothWays, line, needs_decoder
from floodmark.reader.types import ColumnType

pytestmark = needs_decoder

NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=9).map(lambda value: f"{value:f}"),
    st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
)
TEXTS = st.tuples(st.text(), st.booleans()).map(lambda drawn: json.dumps(drawn[0], ensure_ascii=drawn[1]))
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MOMENTS = st.datetimes(datetime(1, 1, 1)).map(datetime.isoformat)
VALUES: dict[str, st.SearchStrategy[str]] = {
    **{f"int{size}": st.integers(-(2**size), 2**size).map(str) for size in (16, 32, 64)},
    **dict.fromkeys(("float32", "float64"), NUMBERS),
    "bool": st.sampled_from(["true", "false"]),
    "date": st.dates(date(1, 1, 1)).map(lambda day: f'"{day.isoformat()}"'),
    "timestamp": MOMENTS.map(lambda moment: f'"{moment}"'),
    "timestamptz": MOMENTS.map(lambda moment: f'"{moment}+00:00"'),
    **dict.fromkeys(("json", "any", "digits"), TREES.map(json.dumps) | NUMBERS | TEXTS),
    "bytes": st.binary().map(lambda value: f'"\\\\x{value.hex()}"'),
    **dict.fromkeys(("text", "uuid", "time"), TEXTS),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[ColumnType, str]:
    """A column's type and one of its values, which rarely has another type."""
    kind = draw(st.sampled_from(sorted([*VALUES, "decimal"])))
    value = VALUES[draw(st.sampled_from(sorted(VALUES)))] if draw(st.integers(0, 9)) == 0 else VALUES.get(kind)
    if kind != "decimal":
        assert value is not None
        return ColumnType(kind), draw(st.just("null") | value)  # type: ignore[arg-type]
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    digits = draw(st.integers(-(10**precision), 10**precision))
    number = f"{Decimal(digits).scaleb(-scale):f}" if abs(digits) < 10**28 else str(digits)
    return ColumnType("decimal", precision, scale), draw(st.sampled_from([number, f'"{number}"', "null"]) | NUMBERS)


DAMAGE = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from([*b'"\\,:{}[]0159.eE+-ntu \n\t\x00\x80\xc3\xff', -1]))
)


def damaged(lines: bytes, damage: list[tuple[int, int]]) -> bytes:
    """The lines with some bytes replaced or, for -1, taken out."""
    found = bytearray(lines)
    for place, byte in damage:
        if found:
            place %= len(found)
            found[place : place + 1] = bytes([byte]) if byte >= 0 else b""
    return bytes(found)


@given(st.lists(columns(), min_size=1, max_size=5), DAMAGE, st.booleans(), st.integers(1, 9))
def test_the_decoder_reads_what_python_reads_or_refuses(
    drawn: list[tuple[ColumnType, str]], damage: list[tuple[int, int]], infinite: bool, before: int
) -> None:
    names = [f"c{number}" for number in range(len(drawn))]
    both = BothWays(names, [kind for kind, _ in drawn], infinite)
    nulls = line(names, ["null"] * len(names)) * before
    lines = line(names, [value for _, value in drawn])
    for whole in (lines, damaged(lines, damage)):
        assert both.decoder is not None and both.decoder.take(nulls)
        taken = both.decoder.take(whole)
        found: Any = both.finished()
        assert found == both.expected(nulls + whole if taken else nulls)
