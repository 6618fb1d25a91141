"""Numbers that common JSON readers refuse, made strings. Pure.

Many readers keep an integer in 64 bits. Given one that does not fit, they give up on the whole file, or read another
number; pandas does both. PostgreSQL's numeric has up to 131,072 digits, and jsonb may hold any. `numbers: quote-large`
makes a string of such a number, wherever in a line it stands; every other byte stays as it is.
"""

from __future__ import annotations

import re

# The digits of a signed integer of 64 bits; every number of fewer digits fits.
DIGITS = 19
_MOST = {False: b"9223372036854775807", True: b"9223372036854775808"}

# A table and a search take a twentieth of the time of a regular expression.
_ZEROS, _MANY = bytes.maketrans(b"123456789", b"000000000"), b"0" * DIGITS
# Strings come first, so that digits within them are passed by. Possessive: a string may have 50 MiB.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|(-?)(\d++)(?:\.\d++)?+(?:[eE][+-]?\d++)?+')


def quote_large(lines: bytes) -> bytes:
    """Whole JSON lines, each number in quotes whose integer part lies outside of [-2^63, 2^63 - 1].

    The integer part is what stands before the point and the exponent: readers stumble over it alone.
    """
    if not _may_hold_one(lines):
        return lines
    return b"".join(map(_quoted, lines.splitlines(keepends=True)))


def most_bytes(size: int) -> int:
    """How many bytes `quote_large` makes of so many at most: two quotes for each 19 digits and what parts them."""
    return size + 2 * (size // (DIGITS + 1))


def _quoted(line: bytes) -> bytes:
    return _TOKEN.sub(_token, line) if _may_hold_one(line) else line


def _may_hold_one(data: bytes) -> bool:
    return _MANY in data.translate(_ZEROS)


def _token(found: re.Match[bytes]) -> bytes:
    sign, digits = found[1], found[2]
    if digits is None or (len(digits), digits) <= (DIGITS, _MOST[bool(sign)]):
        return found[0]
    return b'"%s"' % found[0]
