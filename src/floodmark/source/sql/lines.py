"""Rows as JSON lines or as CSV, with masks applied.

A JSON line is a compact object in column order, with values as `values` gives them. A CSV field holds the same text
without JSON's quotes and escapes. NULL is an empty field, and the empty string is in quotes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import isfinite
from typing import Any

import msgspec

from floodmark.config import Mask, Secret
from floodmark.model import Format
from floodmark.objects.csv import record
from floodmark.source.base import Write
from floodmark.source.masks import key_bytes
from floodmark.source.sql.facts import LineShape
from floodmark.source.sql.values import SIMPLE, plain_value

# Rows are passed on in blocks: large enough that compression and hashing run without the interpreter's lock.
BLOCK_BYTES = 256 * 1024
_AS_THEY_ARE = SIMPLE | {float}
_encode = msgspec.json.Encoder().encode


def write_rows(rows: Iterable[Sequence[Any]], shape: LineShape, row_format: Format, write: Write) -> int:
    """Write each row, in blocks of whole rows; CSV begins with a header. Returns the number of rows.

    One row and one block are in memory at a time.
    """
    as_line: Callable[[Sequence[Any]], bytes] = csv_record
    if row_format == "jsonl":
        as_line = partial(_json_line, shape.names)
    else:
        write(csv_record(shape.names) + b"\n")
    shaped = bool(shape.masks) or any(shape.makers)
    lines = 0
    block: list[bytes] = []
    size = 0
    for row in rows:
        if shaped or _needs_rules(row):
            row = _shaped_row(row, shape)
        line = as_line(row)
        block.append(line)
        size += len(line) + 1
        if size >= BLOCK_BYTES:
            lines += _hand_on(block, write)
            size = 0
    return lines + _hand_on(block, write)


def csv_record(values: Sequence[Any]) -> bytes:
    """Return the values as a CSV record without its end of line."""
    return record(map(_csv_text, values))


def _csv_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _encode(value).decode("utf-8")


def _json_line(names: Sequence[str], row: Sequence[Any]) -> bytes:
    return _encode(dict(zip(names, row, strict=True)))


def _hand_on(block: list[bytes], write: Write) -> int:
    lines = len(block)
    if lines:
        block.append(b"")
        write(b"\n".join(block))
        block.clear()
    return lines


def _needs_rules(row: Sequence[Any]) -> bool:
    """Return True if the encoder does not write each value as `plain_value` would."""
    kinds = {*map(type, row)}
    if not kinds <= _AS_THEY_ARE:
        return True
    return float in kinds and not all(isfinite(value) for value in row if type(value) is float)


def _shaped_row(row: Sequence[Any], shape: LineShape) -> list[Any]:
    values = [
        plain_value(value) if maker is None or value is None else maker(value)
        for value, maker in zip(row, shape.makers, strict=True)
    ]
    for position, mask in shape.masks:
        values[position] = _masked(values[position], mask, shape.key)
    return values


def _masked(value: Any, mask: Mask, key: Secret | None) -> str | None:
    """Return the text that replaces a value. A null stays null under every mask.

    `hash` is HMAC-SHA-256 of the value's text, in hex: the same as PostgreSQL's for the same text and key. The text of
    a value that is no string is its form in a line.
    """
    if value is None or mask == "null":
        return None
    if mask == "redact":
        return "REDACTED"
    assert key is not None
    text = value.encode("utf-8") if isinstance(value, str) else _encode(value)
    return hmac.digest(key_bytes(key), text, hashlib.sha256).hex()
