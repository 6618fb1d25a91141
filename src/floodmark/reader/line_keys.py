"""Rows as JSON lines, each with its key: the members of the primary key as they are in the line, or the whole line.

Keys are equal if their JSON text is. The lines of two snapshots that were made in the same way write one value in one
way, so equal values have equal texts. A CSV record becomes a JSON line whose values are texts or null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from floodmark.objects.csv import fields, split_records
from floodmark.reader.rows import is_odd_name
from floodmark.reader.texts import split_texts

# A row: its key, and its line without the newline.
KeyedLine = tuple[bytes, bytes]
Keyed = Callable[[bytes], Iterable[KeyedLine]]


def keyed_lines(key: Sequence[str]) -> Keyed:
    """Return a function that splits a block of JSON lines into rows with their keys. Without `key`, a line is its key.

    A key is a JSON object of the key's members. The function raises msgspec's errors, ValueError and KeyError for
    lines that are not JSON objects with these members, and RecursionError.
    """
    if not key:
        return lambda block: ((line, line) for line in _lines(block))
    patient, joined = _patient_members(key), _joined(key)
    quick = patient if any(map(is_odd_name, key)) else _quick_members(key)

    def keyed(block: bytes) -> Iterator[KeyedLine]:
        try:
            found = quick(block)
        except msgspec.DecodeError:  # perhaps half a surrogate pair in a value
            found = patient(block)
        return zip(map(joined, found), _lines(block), strict=True)

    return keyed


def csv_lines(block: bytes, names: Sequence[str]) -> bytes:
    """Return a block of CSV records as JSON lines. Raises ValueError for records that do not have these columns."""
    encode = msgspec.json.encode
    records = (fields(one) if names or one else [] for one in split_records(block))
    return b"".join(encode(dict(zip(names, one, strict=True))) + b"\n" for one in records)


def changed_members(old: bytes, new: bytes) -> tuple[str, ...]:
    """Return the names of the members whose text differs between two lines of the same columns. Raises as above."""
    before, now = split_texts(old)[0], split_texts(new)[0]
    return tuple(name for name, value in now.items() if bytes(value) != bytes(before[name]))


def _lines(block: bytes) -> list[bytes]:
    return block.removesuffix(b"\n").split(b"\n")


_Members = Callable[[bytes], Iterable[Sequence[Raw | bytes]]]


def _quick_members(key: Sequence[str]) -> _Members:
    labels = [f"k{number}" for number in range(len(key))]
    renamed = dict(zip(labels, key, strict=True))
    row = msgspec.defstruct("KeyMembers", [(label, Raw) for label in labels], rename=renamed, gc=False)
    decode = msgspec.json.Decoder(row).decode_lines
    return lambda block: map(astuple, decode(block))


def _patient_members(key: Sequence[str]) -> _Members:
    return lambda block: (tuple(row[name] for name in key) for row in split_texts(block))


def _joined(key: Sequence[str]) -> Callable[[Sequence[Raw | bytes]], bytes]:
    """Return a function that makes a JSON object of the members' values."""
    names = [msgspec.json.encode(name) + b":" for name in key]
    if len(names) == 1:
        before = b"{" + names[0]
        return lambda values: before + bytes(values[0]) + b"}"
    return lambda values: b"{%b}" % b",".join([name + bytes(one) for name, one in zip(names, values, strict=True)])
