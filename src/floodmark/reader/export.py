"""The rows of one table as bytes for a pipe: as they were landed, or as CSV made from JSON lines.

Nothing of an object is handed out before the whole object was verified. An object is not read if no row of it is
wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

import msgspec

from floodmark.errors import ConfigError
from floodmark.events import Observer, ignore_event
from floodmark.model import Encoding, Format
from floodmark.objects.csv import record, split_records
from floodmark.objects.verified import verified_blocks
from floodmark.reader.reader import Table
from floodmark.reader.rows import UnreadableValue, not_as_described, too_deep, unreadable_value
from floodmark.reader.texts import Texts, split_texts
from floodmark.storage.base import Storage

_decode_text = msgspec.json.Decoder(str).decode


def exported(
    table: Table,
    data: Storage,
    wanted: Format | None = None,
    limit: int | None = None,
    observer: Observer = ignore_event,
) -> Generator[bytes]:
    """Return the first `limit` rows of a table, or all, in order, in blocks of whole rows.

    JSON lines are those that were landed, byte for byte. CSV begins with one header. If it is made from JSON lines, a
    field is the value in the line without JSON's quotes and escapes, but a value of type json keeps them; a null is
    empty. Raises ConfigError if the table was landed as CSV and JSON lines are wanted. The iterator raises
    VerificationFailed, ObjectMissing, StorageError, and DoesNotFit for a line that can't be CSV.
    """
    landed = _encoding(table).format
    if (landed, wanted) == ("csv", "jsonl"):
        raise ConfigError(
            "can't make JSON lines of CSV",
            on=table.label,
            why="its fields are the source's own text and have no JSON types",
            hint="Use --format csv, or land JSON Lines (destination.format: jsonl).",
        )
    rows = _first_rows(table, data, limit, observer)
    if (wanted or landed) == "jsonl":
        return rows
    return _with_header(table, rows, bytes if landed == "csv" else _csv_converter(table))


def _first_rows(table: Table, data: Storage, limit: int | None, observer: Observer) -> Generator[bytes]:
    """Yield the rows up to a limit, and open no object beyond it."""
    left = sum(one.rows for one in table.objects) if limit is None else limit
    encoding = _encoding(table)
    for one in table.objects:
        if left <= 0:
            return
        with closing(verified_blocks(data, one, encoding, observer)) as found:
            yield from found if one.rows <= left else _cut(found, left, encoding.format)
        left -= one.rows


def _cut(blocks: Iterator[bytes], number: int, row_format: Format) -> Iterator[bytes]:
    """Yield the first rows of blocks of whole rows."""
    for block in blocks:
        split = split_records(block) if row_format == "csv" else iter(block.removesuffix(b"\n").split(b"\n", number))
        rows = list(islice(split, number))
        yield b"\n".join((*rows, b""))
        number -= len(rows)
        if not number:
            return


def _with_header(table: Table, rows: Generator[bytes], converted: Callable[[bytes], bytes]) -> Generator[bytes]:
    """Yield the header together with the first block, so that nothing is handed out if the first object is damaged."""
    before = record(column.name for column in table.columns) + b"\n"
    with closing(rows):
        for block in rows:
            yield before + converted(block)
            before = b""
    if before:
        yield before


def _csv_converter(table: Table) -> Callable[[bytes], bytes]:
    """Return a function that converts whole JSON lines to CSV records."""
    columns = [(column.name, kind.kind == "json") for column, kind in zip(table.columns, table.types(), strict=True)]

    def converted(lines: bytes) -> bytes:
        try:
            return _records(split_texts(lines), columns)
        except UnreadableValue as error:
            raise unreadable_value(table.label, error.column) from None
        except (msgspec.MsgspecError, ValueError, KeyError):
            raise not_as_described(table.label) from None
        except RecursionError:
            raise too_deep(table.label) from None

    return converted


def _records(rows: Sequence[Texts], columns: Sequence[tuple[str, bool]]) -> bytes:
    records = [b",".join([_field(bytes(row[name]), name, as_json) for name, as_json in columns]) for row in rows]
    return b"\n".join((*records, b""))


def _field(value: bytes, column: str, as_json: bool) -> bytes:
    """Return a value's CSV field. Raises UnreadableValue for a text that UTF-8 can't hold.

    Most values need no decoder: a JSON string without a backslash is a quoted CSV field as it is.
    """
    if value == b"null":
        return b""
    if as_json or value[:1] != b'"':
        return record([value.decode("utf-8")]) if b'"' in value or b"," in value else value
    if b"\\" not in value:
        return value if b"," in value or value == b'""' else value[1:-1]
    try:
        return record([_decode_text(value)])
    except msgspec.DecodeError:
        raise UnreadableValue(column) from None


def _encoding(table: Table) -> Encoding:
    return table.entry.encoding or Encoding()
