"""Secrets and rows that are known by a word, and the search for that word wherever it must not be.

Put `CANARY` (or what is made of it here) into passwords, keys and rows; `require_none` looks for it in text, in
files and in folders, as it is and as something would have encoded it.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from isal import igzip

CANARY = "c4n4ry"
# With what has to be escaped in a URL, so that a half-parsed one shows.
PASSWORD = f"{CANARY}-p@ss:w/rd%#?' \\"
MASK_KEY = f"{CANARY}-key-of-masks"
ROW = f"{CANARY}-of-a-row"
SQL_PASSWORD = "'" + PASSWORD.replace("'", "''") + "'"
URL_PASSWORD = urllib.parse.quote(PASSWORD, safe="")

# Tables whose rows, constraints and conversions all hold the word: what a server says of them repeats it.
TABLES = f"""
CREATE TABLE person (id int PRIMARY KEY, name text CONSTRAINT named CHECK (name <> ''));
INSERT INTO person SELECT n, '{ROW} ' || n FROM generate_series(1, 2000) n;
CREATE TABLE sick (id int, name text, born text);
INSERT INTO sick VALUES (1, '{ROW}', '{ROW}');
"""


def traces(data: bytes) -> list[str]:
    """Where the word stands in some bytes, however it was encoded: a few letters around each."""
    found = []
    lowered = data.lower()
    for form in _forms():
        at = lowered.find(form)
        if at >= 0:
            found.append(data[max(0, at - 40) : at + 60].decode(errors="replace"))
    return found


def require_none(*places: str | bytes | Path) -> None:
    """Nothing of the word in texts, in files, or in any file below a folder (compressed ones are opened)."""
    for place in places:
        for name, data in _contents(place):
            assert not traces(data), f"{name}: {traces(data)}"


def _forms() -> Iterator[bytes]:
    word = CANARY.encode()
    yield word
    yield word.hex().encode()
    for shift in range(3):  # base64 of a text that holds it, at any place
        whole = base64.b64encode(b"\0" * shift + word)
        yield whole[-(-shift * 8 // 6) : (shift + len(word)) * 8 // 6].lower()


def _contents(place: str | bytes | Path) -> Iterator[tuple[str, bytes]]:
    if isinstance(place, bytes):
        yield "bytes", place
    elif isinstance(place, str):
        yield "text", place.encode()
    elif place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.is_file():
                yield from _contents(path)
    else:
        data = place.read_bytes()
        yield str(place), igzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
