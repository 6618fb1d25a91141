"""The rows of two sides, matched by their keys in bounded memory.

If the rows do not fit into memory, both sides are divided into parts by a hash of the key, each part in a temporary
file. Equal keys are in the same part, so the parts are matched one after the other. A part that is still too large is
divided again. The temporary files have no name, and the system removes them with the process.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import IO, cast
from zlib import crc32

from floodmark.objects.spool import not_written
from floodmark.reader.line_keys import Keyed

# A row that only one side has, or both with different lines: the key, the old line, the new line.
Match = tuple[bytes, bytes | None, bytes | None]
# Memory for the rows of one side. Python needs several times the bytes of a short row, so rows are limited, too.
MOST_BYTES, MOST_ROWS = 32 * 1024**2, 200_000
# A part of 64 at each level has two files, so that all levels together stay far below 1,024 open files.
_BITS, _DEEPEST = 6, 4
_PARTS = 2**_BITS
_BLOCK = 256 * 1024


class RepeatedKey(ValueError):
    """Error for a key that two rows of one side have."""


class RowSide:
    """The rows of one side: blocks of whole JSON lines, and their total size."""

    def __init__(self, blocks: Iterable[bytes], size: int, rows: int) -> None:
        self.blocks, self.size, self.rows = blocks, size, rows

    @property
    def fits(self) -> bool:
        return self.size <= MOST_BYTES and self.rows <= MOST_ROWS


def match_rows(old: RowSide, new: RowSide, keyed: Keyed, *, unique: bool) -> Iterator[Match]:
    """Yield the rows that are only on one side or differ, in no particular order, but the same one each time.

    If `unique`, a key identifies a row on each side. Otherwise a key is the whole line, and a line counts as often as a
    side has it. All blocks of both sides are read before the first row is given. Raises RepeatedKey, StorageError if
    the temporary files can't be written, and what `keyed` raises.
    """
    match = _match_unique if unique else _match_lines
    if old.fits and new.fits:
        old, new = _read(old), _read(new)
    return _match(old, new, keyed, match, 0)


def _read(side: RowSide) -> RowSide:
    return RowSide(list(side.blocks), side.size, side.rows)


_Rows = Iterator[tuple[bytes, bytes]]


def _match(
    old: RowSide, new: RowSide, keyed: Keyed, match: Callable[[_Rows, _Rows], Iterator[Match]], level: int
) -> Iterator[Match]:
    if (old.fits and new.fits) or level == _DEEPEST:
        yield from match(_rows(old, keyed), _rows(new, keyed))
        return
    with ExitStack() as files:
        parts = [_divided(side, keyed, level, files) for side in (old, new)]
        for before, now in zip(*parts, strict=True):
            yield from _match(before.side(), now.side(), keyed, match, level + 1)
            before.close()
            now.close()


def _match_unique(old: _Rows, new: _Rows) -> Iterator[Match]:
    """Match rows by a unique key. A key with the value None was seen on the new side."""
    there: dict[bytes, bytes | None] = {}
    for key, line in old:
        if key in there:
            raise RepeatedKey
        there[key] = line
    for key, line in new:
        before = there.get(key)
        if before is None and key in there:
            raise RepeatedKey
        there[key] = None
        if before != line:
            yield key, before, line
    for key, before in there.items():
        if before is not None:
            yield key, before, None


def _match_lines(old: _Rows, new: _Rows) -> Iterator[Match]:
    there = Counter(line for _, line in old)
    for key, line in new:
        if there[line]:
            there[line] -= 1
        else:
            yield key, None, line
    for line in there.elements():
        yield line, line, None


def _rows(side: RowSide, keyed: Keyed) -> _Rows:
    for block in side.blocks:
        yield from keyed(block)


class _Part:
    """One part of a side in a temporary file, which is made when the first row comes."""

    def __init__(self, files: ExitStack) -> None:
        self._files, self._file = files, cast(IO[bytes] | None, None)
        self._size = self._rows = 0

    def add(self, lines: list[bytes]) -> None:
        lines.append(b"")
        data = b"\n".join(lines)
        try:
            if self._file is None:
                made = tempfile.TemporaryFile(prefix="floodmark-")  # noqa: SIM115 - the stack closes it
                self._file = made
                self._files.callback(self.close)
            self._file.write(data)
        except OSError as error:
            raise not_written(error) from None
        self._size += len(data)
        self._rows += len(lines) - 1

    def side(self) -> RowSide:
        """Return the rows, to be read once."""
        return RowSide(self._blocks(), self._size, self._rows)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # on a full disk, it tries once more to write what is buffered
                self._file.close()

    def _blocks(self) -> Iterator[bytes]:
        if self._file is None:
            return
        try:
            self._file.seek(0)  # writes what is still buffered
        except OSError as error:
            raise not_written(error) from None
        while block := self._file.read(_BLOCK):
            yield block + (b"" if block.endswith(b"\n") else self._file.readline())


def _divided(side: RowSide, keyed: Keyed, level: int, files: ExitStack) -> list[_Part]:
    """Return the parts of a side. Each level uses other bits of the hash."""
    parts = [_Part(files) for _ in range(_PARTS)]
    shift, mask = level * _BITS, _PARTS - 1
    for block in side.blocks:
        found: dict[int, list[bytes]] = {}
        for key, line in keyed(block):
            found.setdefault(crc32(key) >> shift & mask, []).append(line)
        for number, lines in found.items():
            parts[number].add(lines)
    return parts
