r"""Conversion of lines to the JSON text of each value.

PostgreSQL's json keeps half a surrogate pair as written (`"\ud800"`), which UTF-8 can't hold. msgspec calls all lines
malformed if one has it. Python's own scanner treats it as a character, so it parses such a line instead. This is slow,
and the other lines do not pay for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

# A line's values by name, each as its JSON text.
Texts = Mapping[str, Raw | bytes]

_MARK = re.compile(r"[ \t\r\n]*[{:,]?[ \t\r\n]*")
# Numbers stay text, because Python refuses to parse a very long int.
_scanner = json.JSONDecoder(parse_int=str, parse_float=str)
_decoder = msgspec.json.Decoder(dict[str, Raw])


def split_texts(lines: bytes) -> Sequence[Texts]:
    """Return the values of each line. Raises msgspec.DecodeError or ValueError for non-JSON, RecursionError."""
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
    if type(_scanner.decode(text)) is not dict:  # the code below relies on it
        raise ValueError("a line that is not a JSON object")
    at = _after_mark(text, 0)
    while text[at] != "}":
        name, end = _scanner.raw_decode(text, at)
        start = _after_mark(text, end)
        _, end = _scanner.raw_decode(text, start)
        found[name], at = text[start:end].encode("utf-8"), _after_mark(text, end)
    return found


def _after_mark(text: str, at: int) -> int:
    """Return the position of the token that follows a brace, a colon or a comma."""
    found = _MARK.match(text, at)
    return at if found is None else found.end()
