"""The receiver of a COPY's output, which passes it on in blocks that are worth a call."""

from __future__ import annotations

from msgspec import Struct

from floodmark.source.base import Write
from floodmark.source.postgres.coordinator import Connection

# Rows are passed on in blocks: large enough that compression and hashing run without the interpreter's lock.
BLOCK_BYTES = 256 * 1024


class CopiedRows(Struct, frozen=True):
    """The result of a COPY: its number of lines. If it `counted`, also its number of rows and of rows with xmin 2."""

    lines: int
    counted: bool = False
    rows: int = 0
    frozen: int = 0


class BlockBuffer:
    """A collector that combines a COPY's output into blocks that are worth a call."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def take(self, lines: bytes | bytearray | memoryview) -> None:
        self._waiting.append(lines)
        self._size += len(lines)
        if self._size >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._write(b"".join(self._waiting))
            self._waiting.clear()
            self._size = 0


def receive_rows(connection: Connection, statement: str, write: Write, header: int = 0) -> CopiedRows:
    """Run a COPY with one message for each row, after `header` messages for the header, and write all of it."""
    blocks = BlockBuffer(write)
    number = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for line in copy:
            blocks.take(line)
            number += 1
    blocks.flush()
    return CopiedRows(number - header)


def receive_groups(connection: Connection, statement: str, write: Write) -> CopiedRows:
    """Run a COPY of many lines in one value (None: no line in those blocks) and their counts, and write the lines."""
    blocks = BlockBuffer(write)
    number = rows = frozen = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["bytea", "int8", "int8"])  # the text's bytes as they are
        for lines, rows_of_group, frozen_of_group in copy.rows():
            rows += rows_of_group
            frozen += frozen_of_group
            if lines is not None:
                blocks.take(lines)
                blocks.take(b"\n")
                number += lines.count(b"\n") + 1
    blocks.flush()
    return CopiedRows(number, True, rows, frozen)
