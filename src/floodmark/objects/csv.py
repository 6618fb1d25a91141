"""Rows in the bytes of an object: their number, their ends, and the fields of a CSV record, both ways. Pure.

In JSON Lines every newline ends a row. In CSV (docs/format.md) the first record is the header, and a newline between
quotes belongs to a value. A quote in a value is doubled, so a record has ended if the number of quotes so far is even.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from floodmark.model import Format

_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\Z)')
_NEEDS_QUOTES = re.compile(r'\A\Z|[",\r\n]')


class RowCounter:
    """A counter of rows in consecutive blocks, which can be cut anywhere."""

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
        """Return the number of rows that ended so far, without the header."""
        return max(0, self._ends - 1) if self._csv else self._ends


def whole_records(plain: Iterator[bytes]) -> Iterator[bytes]:
    """Yield CSV in blocks that end at the end of a record, without the header.

    An incomplete record at the end comes last, as it is.
    """
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
    """Yield the records of a block of whole records, each without its newline."""
    pieces: list[bytes] = []
    for piece in block.removesuffix(b"\n").split(b"\n"):
        pieces.append(piece)
        if sum(one.count(b'"') for one in pieces) % 2 == 0:
            yield b"\n".join(pieces)
            pieces = []
    if pieces:
        yield b"\n".join(pieces)


def fields(record: bytes) -> list[str | None]:
    """Return a CSV record's values: an empty field is None, an empty quoted one the empty string. Raises ValueError."""
    text, at, values = record.decode("utf-8"), 0, list[str | None]()
    while True:
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError("not a CSV record")
        values.append(found[2] or None if found[1] is None else found[1].replace('""', '"'))
        if not found[3]:
            return values
        at = found.end()


def record(values: Iterable[str | None]) -> bytes:
    """Return a CSV record without its end of line, quoted only if needed, like PostgreSQL's COPY.

    None is an empty field, and the empty string is an empty quoted one.
    """
    return ",".join(map(_field, values)).encode("utf-8")


def _field(value: str | None) -> str:
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if _NEEDS_QUOTES.search(value) else value


def _first_end(data: bytes) -> int:
    """Return the end of the first record, or 0 if it does not end."""
    end = data.find(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.find(b"\n", end) + 1
    return end


def _last_end(data: bytes) -> int:
    """Return the end of the last complete record, or 0 if no record is complete. `data` begins with a record."""
    end = data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end
