"""Lines → the JSON text of each value.

PostgreSQL's json keeps half a surrogate pair as it was written (`"\\ud800"`), which no UTF-8 holds. msgspec takes all
lines for malformed where one has it. So such a line is taken apart by Python's own scanner, to which it is a
character; this is slow, and the lines beside it do not pay for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

# A line's values by their names, each as the text that is JSON for it.
Texts = Mapping[str, Raw | bytes]

_MARK = re.compile(r"[ \t\r\n]*[{:,]?[ \t\r\n]*")
# Numbers stay text: Python makes no int of one that is very long.
_scanner = json.JSONDecoder(parse_int=str, parse_float=str)
_decoder = msgspec.json.Decoder(dict[str, Raw])


def texts(lines: bytes) -> Sequence[Texts]:
    """The values of each line. Raises msgspec.DecodeError or ValueError for what is not JSON, RecursionError."""
    try:
        return _decoder.decode_lines(lines)
    except msgspec.DecodeError:
        return [_texts(line) for line in lines.removesuffix(b"\n").split(b"\n")]


def _texts(line: bytes) -> Texts:
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError:
        return _scanned(line)


def _scanned(line: bytes) -> Texts:
    text, found = line.decode("utf-8"), dict[str, bytes]()
    if type(_scanner.decode(text)) is not dict:  # what follows relies on it
        raise ValueError("a line that is no object")
    at = _after_mark(text, 0)
    while text[at] != "}":
        name, end = _scanner.raw_decode(text, at)
        start = _after_mark(text, end)
        _, end = _scanner.raw_decode(text, start)
        found[name], at = text[start:end].encode("utf-8"), _after_mark(text, end)
    return found


def _after_mark(text: str, at: int) -> int:
    """Where what follows a brace, a colon or a comma begins."""
    found = _MARK.match(text, at)
    return at if found is None else found.end()
