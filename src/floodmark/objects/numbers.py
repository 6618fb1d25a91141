"""Numbers that common JSON readers refuse, converted to strings. Pure.

Many readers keep an integer in 64 bits. If a number does not fit, they reject the whole file or read another number;
pandas does both. PostgreSQL's numeric has up to 131,072 digits, and jsonb can hold any number. `numbers: quote-large`
makes a string of such a number anywhere in a line. Every other byte stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Data = bytes | bytearray | memoryview

# The digits of a signed 64-bit integer. Every number with fewer digits fits.
DIGITS = 19
_PIECE = 1024**2
_MOST = {False: b"9223372036854775807", True: b"9223372036854775808"}

# A translation table and a search take a twentieth of the time of a regular expression.
_ZEROS, _MANY = bytes.maketrans(b"123456789", b"000000000"), b"0" * DIGITS
# Strings come first, so that digits within them are skipped. Possessive: a string can have 50 MiB.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|(-?)(\d++)(?:\.\d++)?+(?:[eE][+-]?\d++)?+')


def quote_large(lines: Data) -> Data:
    """Return whole JSON lines with quotes around each number whose integer part lies outside [-2^63, 2^63 - 1].

    The integer part is the part before the point and the exponent. Only that part causes trouble for readers.
    """
    if not any(map(_may_hold_one, _pieces(lines))):
        return lines
    return b"".join(map(_quoted, bytes(lines).splitlines(keepends=True)))


def most_bytes(size: int) -> int:
    """Return the most bytes that `quote_large` makes of `size` bytes: two quotes for each 19 digits and a separator."""
    return size + 2 * (size // (DIGITS + 1))


def _pieces(data: Data) -> Iterator[bytes]:
    """Yield copies of parts of the data, because a line can have 50 MiB. Any DIGITS digits lie in one of them."""
    for at in range(0, len(data), _PIECE):
        yield bytes(data[at : at + _PIECE + DIGITS - 1])


def _quoted(line: bytes) -> bytes:
    return _TOKEN.sub(_token, line) if _may_hold_one(line) else line


def _may_hold_one(data: bytes) -> bool:
    return _MANY in data.translate(_ZEROS)


def _token(found: re.Match[bytes]) -> bytes:
    sign, digits = found[1], found[2]
    if digits is None or (len(digits), digits) <= (DIGITS, _MOST[bool(sign)]):
        return found[0]
    return b'"%s"' % found[0]
