"""The division of a table into ranges of its key, found again in every run so that nothing of it must be stored.

A change in one place must not move the later boundaries, or every chunk after it would be new. So an integer key that
is dense enough is cut by a fixed grid, and any other key where a hash of the key says so. The sizes are powers of two
and seldom change. Boundaries are keys of rows: they stay in memory, and the manifest has only the number of a range.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct
from sqlalchemy import and_, or_
from sqlalchemy.sql import ColumnElement

from floodmark.source.sql.facts import KeyColumn

Bound = Sequence[Any]
Key = tuple[ColumnElement[Any], KeyColumn]
Bind = Callable[[KeyColumn, Any], ColumnElement[Any]]
# An integer key is cut by a grid if at least one of this many integers in its range is a key.
_SPARSEST = 8
# A range between two hashes has at least and at most this share of the rows that it should have.
_LEAST, _MOST = 0.25, 4


class Division(Struct, frozen=True):
    """The first keys of all ranges but the first, in order. `rows` are the rows of each range, if they were counted."""

    bounds: tuple[Bound, ...] = ()
    rows: tuple[int, ...] = ()


def rows_in_range(rows: int, size: int, chunk_bytes: int) -> int:
    """Return how many rows a chunk should have: a power of two. `size` is the size of `rows` rows in bytes."""
    width = max(1, size // max(1, rows))
    return _power_of_two(chunk_bytes // width)


def is_dense(least: int, greatest: int, rows: int) -> bool:
    """Return True if the integers in a key's range are keys often enough for a grid."""
    return greatest - least + 1 <= rows * _SPARSEST


def grid(least: int, greatest: int, rows: int, per_range: int) -> Division | None:
    """Cut an integer key at the multiples of a power of two, or return None if the key is too sparse for that."""
    if not is_dense(least, greatest, rows):
        return None
    span = greatest - least + 1
    step = _power_of_two(per_range * span // max(1, rows))
    cells = range(least // step + 1, greatest // step + 1)
    return Division(tuple((cell * step,) for cell in cells))


def cut_by_hash(keys: Iterable[Sequence[Any]], per_range: int) -> Division:
    """Cut before each key whose hash says so. `keys` are those of all rows, in order."""
    least, most = max(1, int(per_range * _LEAST)), per_range * _MOST
    bounds: list[Bound] = []
    counts: list[int] = []
    count = 0
    for key in keys:
        if count >= most or (count >= least and _hash(key) % per_range == 0):
            bounds.append(tuple(key))
            counts.append(count)
            count = 0
        count += 1
    return Division(tuple(bounds), (*counts, count))


def conditions(keys: Sequence[Key], bounds: Sequence[Bound], bind: Bind) -> Iterator[ColumnElement[bool]]:
    """Yield a condition for each range. Every row without NULL in its key fulfils exactly one of them."""
    if not bounds:
        return
    yield _before(keys, bounds[0], bind)
    for first, end in pairwise(bounds):
        yield and_(_from(keys, first, bind), _before(keys, end, bind))
    yield _from(keys, bounds[-1], bind)


def _before(keys: Sequence[Key], bound: Bound, bind: Bind) -> ColumnElement[bool]:
    """Compare the first column first, so that an index serves the comparison."""
    (column, key), value = keys[0], bind(keys[0][1], bound[0])
    less, up_to = (column > value, column >= value) if key.descending else (column < value, column <= value)
    return less if len(keys) == 1 else and_(up_to, or_(less, _before(keys[1:], bound[1:], bind)))


def _from(keys: Sequence[Key], bound: Bound, bind: Bind) -> ColumnElement[bool]:
    (column, key), value = keys[0], bind(keys[0][1], bound[0])
    more, since = (column < value, column <= value) if key.descending else (column > value, column >= value)
    return since if len(keys) == 1 else and_(since, or_(more, _from(keys[1:], bound[1:], bind)))


def _hash(key: Sequence[Any]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for value in key:
        text = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(b"%d:%s," % (len(text), text))
    return int.from_bytes(digest.digest())


def _power_of_two(number: int) -> int:
    """Return the greatest power of two that is not above the number, at least 1."""
    return 1 << max(0, number.bit_length() - 1)
