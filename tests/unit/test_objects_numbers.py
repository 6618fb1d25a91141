"""`numbers: quote-large`: what does not fit 64 bits becomes a string; every other byte stays."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from floodmark.objects.numbers import _PIECE, DIGITS, most_bytes, quote_large

EXAMPLES = {
    b"9223372036854775807": False, b"9223372036854775808": True, b"-9223372036854775808": False,
    b"-9223372036854775809": True, b"9999999999999999999": True, b"999999999999999999": False,
    b"10000000000000000000": True, b"-12345678901234567890.50": True, b"9223372036854775807.999": False,
    b"9223372036854775808e-3": True, b"0.12345678901234567890123": False, b"1e400": False, b"-1E+30": False,
    b"1234567890123456789e25": False, b"null": False, b'"12345678901234567890"': False,
    b'"a \\" 12345678901234567890 \\\\"': False, b'"\\\\"': False,
}  # fmt: skip


@pytest.mark.parametrize("value", EXAMPLES)
@pytest.mark.parametrize("around", [b"%s", b"[%s]", b'{"a":%s}', b'{"12345678901234567890" : [1, %s ,"x"]}'])
def test_a_number_is_quoted_wherever_it_stands(value: bytes, around: bytes) -> None:
    wanted = b'"%s"' % value if EXAMPLES[value] else value
    before, after = b'{"n":1234567890123456789,"v":', b',"z":"1 2"}\n'
    assert quote_large(before + around % value + after) == before + around % wanted + after


class _Text(str):
    """A number as it is spelled, told from a string."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and str.__eq__(self, other)

    __hash__ = str.__hash__


def _parsed(line: bytes, quoting: bool) -> Any:
    """A line with every number as it is spelled, by Python's own parser; a large one as the string it is to become."""

    def number(text: str) -> str:
        whole = int(text.replace("E", "e").split("e")[0].split(".")[0])
        return str(text) if quoting and not -(2**63) <= whole < 2**63 else _Text(text)

    return json.loads(line, parse_int=number, parse_float=number)


EDGES = st.sampled_from([2**63, 10**18, 10**19, 10**20, 2**64]).flatmap(lambda n: st.integers(n - 2, n + 2))
NUMBERS = st.builds(
    lambda sign, whole, rest: f"{sign}{whole}{rest}",
    st.sampled_from(["", "-"]),
    EDGES | st.integers(0, 10**40),
    st.sampled_from(["", "", ".0", ".5", ".123456789012345678901", "e5", "E-30", "e+7"]),
)
TEXTS = st.text(max_size=9) | st.from_regex(r'[0-9\\"]{18,30}', fullmatch=True)
VALUES = st.recursive(
    NUMBERS | TEXTS.map(json.dumps) | st.sampled_from(["null", "true"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(TEXTS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in items.items()) + "}"
        )
    ),
    max_leaves=8,
)


@given(st.lists(VALUES, min_size=1, max_size=4))
@example(["9223372036854775808", '"\\\\"'])
def test_any_json_says_the_same_with_the_large_ones_as_strings(values: list[str]) -> None:
    lines = [f'{{"v":{value}}}\n'.encode() for value in values]
    quoted = quote_large(b"".join(lines))
    assert len(quoted) <= most_bytes(len(b"".join(lines)))
    found = quoted.splitlines(keepends=True)
    assert [_parsed(line, quoting=False) for line in found] == [_parsed(line, quoting=True) for line in lines]
    for line, now in zip(lines, found, strict=True):
        assert now == line or now.replace(b'"', b"") == line.replace(b'"', b"")


def test_the_bound_on_growth_is_tight() -> None:
    lines = b'{"v":[' + b",".join([b"9" * DIGITS] * 1000) + b"]}\n"
    assert most_bytes(len(lines)) - len(quote_large(lines)) < 2 * DIGITS


WIDE = """
import resource
from floodmark.objects.numbers import quote_large
line = b'{"a":"' + b'x\\\\"1' * 12_000_000 + b'","n":12345678901234567890}\\n'
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert quote_large(line) == line[:-22] + b'"12345678901234567890"}\\n'
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(line) // 1024)
"""


def test_a_string_of_50_mb_takes_no_more_than_a_few_times_its_size() -> None:
    """A regular expression that may go back on itself keeps a place for every character."""
    out = subprocess.run([sys.executable, "-c", WIDE], capture_output=True, text=True, check=True).stdout
    taken, size = map(int, out.split())
    assert taken < 4 * size


def test_a_number_is_found_where_the_search_goes_on() -> None:
    """The search takes a piece at a time."""
    for place in range(_PIECE - DIGITS - 3, _PIECE + 3):
        before = b'{"a":"'.ljust(place - 6, b"x") + b'","n":'
        line = memoryview(before + b"12345678901234567890}\n")
        assert len(before) == place and quote_large(line) == before + b'"12345678901234567890"}\n'


WITHOUT = """
import resource
from floodmark.objects.numbers import quote_large
line = memoryview(b'{"a":"' + b'x\\\\"1' * 12_000_000 + b'"}\\n')
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert quote_large(line) is line
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(line) // 1024)
"""


def test_a_wide_line_without_such_a_number_is_not_copied() -> None:
    out = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    taken, size = map(int, out.split())
    assert taken < size // 4
