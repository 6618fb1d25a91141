"""Rows in the bytes of an object: how many there are, where they end, and what a CSV record holds. Pure.

In JSON Lines every newline ends a row. In CSV (docs/format.md) the first record is the header, and a newline between
quotes belongs to a value; a quote in a value is doubled, so a record has ended where the quotes so far are even.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from floodmark.model import Format

_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\Z)')


class RowCounter:
    """Counts rows in blocks as they come, cut anywhere."""

    def __init__(self, row_format: Format) -> None:
        self._csv, self._ends, self._open = row_format == "csv", 0, 0

    def take(self, block: bytes) -> None:
        if not self._csv or not (self._open or b'"' in block):
            self._ends += block.count(b"\n")
            return
        *ended, rest = block.split(b"\n")
        for piece in ended:
            self._open ^= piece.count(b'"') & 1
            self._ends += not self._open
        self._open ^= rest.count(b'"') & 1

    @property
    def rows(self) -> int:
        """Rows that ended so far; the header is none."""
        return max(0, self._ends - 1) if self._csv else self._ends


def whole_records(plain: Iterator[bytes]) -> Iterator[bytes]:
    """CSV in blocks that end where a record does, the header left out. What is no whole record comes last, as it is."""
    held, header = b"", True
    for block in plain:
        held += block
        if header and (end := _first_end(held)):
            held, header = held[end:], False
        if not header and (cut := _last_end(held)):
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def split_records(block: bytes) -> Iterator[bytes]:
    """The records of a block of whole ones, each without its newline."""
    pieces: list[bytes] = []
    for piece in block.removesuffix(b"\n").split(b"\n"):
        pieces.append(piece)
        if sum(one.count(b'"') for one in pieces) % 2 == 0:
            yield b"\n".join(pieces)
            pieces = []
    if pieces:
        yield b"\n".join(pieces)


def fields(record: bytes) -> list[str | None]:
    """A CSV record's values: an empty field is None, an empty one in quotes the empty string. Raises ValueError."""
    text, at, values = record.decode("utf-8"), 0, list[str | None]()
    while True:
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError("not a CSV record")
        values.append(found[2] or None if found[1] is None else found[1].replace('""', '"'))
        if not found[3]:
            return values
        at = found.end()


def _first_end(data: bytes) -> int:
    """Where the first record ends; 0 where it does not."""
    end = data.find(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.find(b"\n", end) + 1
    return end


def _last_end(data: bytes) -> int:
    """Where the last record that ends does; 0 where none does. `data` begins with a record."""
    end = data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end
