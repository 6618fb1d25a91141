"""The native encoder at work: the choice of who makes the lines, and the receiver of binary rows.

The compiled module makes the lines without the interpreter's lock, in memory that it uses again.
"""

from __future__ import annotations

import os
import select
import struct
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from psycopg import pq
from psycopg.errors import OperationalError, error_from_result
from psycopg.pq import ExecStatus

from floodmark.errors import SnapshotLost
from floodmark.model import Chunk, Format
from floodmark.native import VARIABLE, EncoderName, is_built, load_encoder
from floodmark.observed import Part
from floodmark.source.base import LineMaker, Write
from floodmark.source.postgres.coordinator import Connection
from floodmark.source.postgres.copying import BLOCK_BYTES, CopiedRows
from floodmark.source.postgres.statements import (
    PgTable,
    copy_binary_groups,
    copy_binary_rows,
    marks_frozen_rows,
    reads_by_groups,
)
from floodmark.source.postgres.versions import TESTED_UP_TO, is_newer

if TYPE_CHECKING:  # the module itself is imported by need: it can be missing
    from psycopg import Copy
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGconn, PGresult

    from floodmark.native.encoder import Encoder, Libpq

# The functions that the statements call and that the server's own lines do not need. A role can be denied any of them.
_FUNCTIONS = (
    "record_send(record)",
    "string_agg(bytea, bytea)",
    "to_json(anyelement)",
    'format(text, "any")',
    'charout("char")',
)
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flag, and no extension of the header
_END = b"\xff\xff"
_NOTHING = memoryview(b"")
_GROUP = struct.Struct(">hi")  # the number of values, and the length of the first one
_COUNTS = struct.Struct(">iqiq")
_WORTH_A_CALL = BLOCK_BYTES // 4
_LONGEST_WAIT = 1000  # milliseconds


def choose_line_maker(connection: Connection, chosen: EncoderName) -> LineMaker:
    """Return the maker of a server's lines. Raises psycopg.Error.

    No test ran on a newer server, which could print a value in another way. There, the server makes the lines.
    """
    if chosen == "server":
        return LineMaker("server", f"{VARIABLE} is server" if is_built() else "the native encoder was not built")
    version = connection.info.server_version
    if is_newer(version):
        return LineMaker("server", f"PostgreSQL {version // 10000} is newer than {TESTED_UP_TO}, the last one tested")
    denied = next(_denied(connection), None)
    if denied is not None:
        return LineMaker("server", f"the role may not call pg_catalog.{denied.partition('(')[0]}")
    load_encoder()
    return LineMaker("native")


def _denied(connection: Connection) -> Iterator[str]:
    may = ", ".join(f"pg_catalog.has_function_privilege('pg_catalog.{one}', 'EXECUTE')" for one in _FUNCTIONS)
    row = connection.execute(f"SELECT {may}").fetchone()
    assert row is not None
    return (function for function, allowed in zip(_FUNCTIONS, row, strict=True) if not allowed)


class LineWriter:
    """A collector of lines that passes them on in blocks that are worth a call."""

    def __init__(self, write: Write) -> None:
        self._write, self._waiting, self.number = write, bytearray(), 0

    def take(self, lines: memoryview, number: int) -> None:
        """Pass lines on, or keep a copy of a few. They are valid only during the call."""
        self.number += number
        if len(lines) >= _WORTH_A_CALL:
            self.flush()
            self._write(lines)
            return
        self._waiting += lines
        if len(self._waiting) >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._write(self._waiting)
            self._waiting.clear()

    def wait(self) -> None:
        """Pass nothing on, so that the consumer can end the read while the server is silent."""
        self._write(_NOTHING)


class NativeRows:
    """The rows of a table, encoded by Floodmark. Use one for each chunk."""

    def __init__(self, connection: Connection, table: PgTable, row_format: Format) -> None:
        self._connection, self._table, self._format = connection, table, row_format

    def receive(self, part: Part, chunk: Chunk, open_end: bool, write: Write) -> CopiedRows:
        """Run the COPY of a chunk and write its lines; for CSV, after the header. Raises SnapshotLost.

        A row that does not have the planned columns shows that the definition changed after the snapshot. A server that
        sends something else every time ends the tries for its table.
        """
        native = load_encoder()
        try:
            if self._table.where is not None and reads_by_groups(self._table, part):
                return self._receive_groups(native, part, chunk, open_end, write)
            return self._receive_rows(native, part, chunk, open_end, write)
        except (native.MalformedRows, _WrongMessage) as error:
            raise SnapshotLost(
                "can't extract",
                on=self._table.info.table.label,
                why=f"the server sent other rows than its catalog describes ({error})",
                hint=f"If it happens again, set {VARIABLE}=server, and report it.",
            ) from None

    def _receive_rows(self, native: ModuleType, part: Part, chunk: Chunk, open_end: bool, write: Write) -> CopiedRows:
        marked = marks_frozen_rows(self._table, part)
        encoder, lines = self._encoder(native, grouped=False, marked=marked), LineWriter(write)
        statement = copy_binary_rows(self._table, part, chunk, open_end, self._format)
        lines.take(memoryview(encoder.header()), 0)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            _receive_messages(native, copy, encoder, lines)
            rows = cursor.rowcount  # the server's own count
        lines.flush()
        return CopiedRows(lines.number, marked, rows, encoder.marks)

    def _receive_groups(self, native: ModuleType, part: Part, chunk: Chunk, open_end: bool, write: Write) -> CopiedRows:
        encoder, lines = self._encoder(native, grouped=True, marked=False), LineWriter(write)
        rows = frozen = 0
        statement = copy_binary_groups(self._table, part, chunk, open_end, self._format)
        lines.take(memoryview(encoder.header()), 0)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for records, rows_of_group, frozen_of_group in _groups(copy):
                rows += rows_of_group
                frozen += frozen_of_group
                if records is not None:
                    lines.take(*encoder.records(records))
        lines.flush()
        return CopiedRows(lines.number, True, rows, frozen)

    def _encoder(self, native: ModuleType, grouped: bool, marked: bool) -> Encoder:
        fields = [column.field(self._format, grouped) for column in self._table.wire]
        version = self._connection.info.server_version
        made: Encoder = native.Encoder(fields, self._format, server_version=version, marked=marked)
        return made


def _receive_messages(native: ModuleType, copy: Copy, encoder: Encoder, lines: LineWriter) -> None:
    """Encode all messages of a COPY that sends one for each row."""
    libpq = find_libpq(native)
    if libpq is not None:
        _receive_by_libpq(libpq, copy, encoder, lines)
        return
    for messages in _batches(copy):
        lines.take(*encoder.message(messages))


@cache
def find_libpq(native: ModuleType) -> Libpq | None:
    """Return the libpq of psycopg's compiled module, or None. psycopg without such a module calls libpq by ctypes."""
    module = getattr(sys.modules[pq.PGconn.__module__], "__file__", None)
    if pq.__impl__ == "python" or module is None or not hasattr(pq.PGconn, "pgconn_ptr"):
        return None
    try:
        libpq: Libpq = native.Libpq(os.fsencode(module))
    except OSError:
        return None
    return libpq if libpq.version == pq.version() else None


def _receive_by_libpq(libpq: Libpq, copy: Copy, encoder: Encoder, lines: LineWriter) -> None:
    """Encode the messages of a COPY without a turn of Python's for each. psycopg does all that is no row.

    If a call of libpq fails, psycopg repeats it, and raises its own error. No other thread can use the connection
    meanwhile: psycopg holds its lock as long as the COPY lasts, and `close_quietly` leaves a locked connection.
    """
    connection, state = copy.connection, "more"
    while state not in ("end", "cut"):
        pointer = connection.pgconn.pgconn_ptr  # type: ignore[attr-defined]  # its protocol does not list it
        if pointer is None:
            raise OperationalError("the connection is closed")
        view, number, state = encoder.receive(libpq, pointer, BLOCK_BYTES)
        lines.take(view, number)
        if state == "more" and not number:
            lines.wait()
        del view  # so that the encoder uses its memory again
        if state == "refused":
            connection.pgconn.get_copy_data(1)
            raise OperationalError("a message could not be taken")  # and what was taken now would be lost
        if state == "lost":
            connection.pgconn.consume_input()
    if state == "cut":
        raise _ended_early(copy)
    if copy.read():
        raise _WrongMessage("the stream goes on after its end")


def _batches(copy: Copy) -> Iterator[Buffer]:
    """Yield the messages of a COPY, many small ones together. A batch is valid until the next one is asked for.

    What has arrived already is taken from libpq at once, which costs a third of psycopg's own turn for each message.
    psycopg does the rest: it waits, and it finds out how the statement ended. So it has to read what comes after the
    last message, which is PostgreSQL's trailer.
    """
    message: Buffer
    arrived, batch, ended, first = copy.connection.pgconn.get_copy_data, bytearray(), False, True
    while True:
        size, message = (0, _NOTHING) if ended else arrived(1)
        if size < 0:
            raise _ended_early(copy)
        if not size:
            message = copy.read()
            if not message:
                break
        if len(message) >= BLOCK_BYTES:
            yield from (batch, message)
            batch.clear()
            continue
        batch += message
        ended = message == _END or (first and message == _HEADER + _END)
        first = False
        if len(batch) >= BLOCK_BYTES:
            yield batch
            batch.clear()
    if not ended:
        raise _WrongMessage("the stream has no end")
    yield batch


def _ended_early(copy: Copy) -> Exception:
    """Return the server's error that ended a COPY."""
    errors: list[Exception] = []
    try:
        while (result := _next_result(copy.connection.pgconn)) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                errors.append(error_from_result(result, encoding="utf-8"))
    except OperationalError as error:  # the connection ended too
        errors.append(error)
    return errors[0] if errors else _WrongMessage("the stream has no end")


def _next_result(connection: PGconn) -> PGresult | None:
    """Wait for the next result. psycopg's `get_result` would hold the interpreter's lock as long as it waits."""
    arrival = select.poll()
    arrival.register(connection.socket, select.POLLIN)
    while connection.is_busy():
        arrival.poll(_LONGEST_WAIT)
        connection.consume_input()
    return connection.get_result()


class _WrongMessage(Exception):
    """A message that does not belong into the stream. The text holds no byte of it."""


def _groups(copy: Iterable[Buffer]) -> Iterator[tuple[memoryview | None, int, int]]:
    """Yield the groups of a COPY: the rows' records (None: no row in those blocks) and the two counts.

    PostgreSQL sends a message for each group. The first one begins with the stream's header, the last one is its end.
    """
    begun = ended = False
    for message in copy:
        data = memoryview(message)
        if not begun and data[: len(_HEADER)] != _HEADER:
            raise _WrongMessage("the stream has no header")
        data, begun = data[0 if begun else len(_HEADER) :], True
        if ended:
            raise _WrongMessage("the stream goes on after its end")
        ended = data == _END
        if not ended:
            yield _group(data)
    if not ended:
        raise _WrongMessage("the stream has no end")


def _group(data: memoryview) -> tuple[memoryview | None, int, int]:
    try:
        values, length = _GROUP.unpack_from(data)
        end = _GROUP.size + max(length, 0)
        eight, rows, eight_too, frozen = _COUNTS.unpack_from(data, end)
    except struct.error:
        raise _WrongMessage("a group is too short") from None
    if values != 3 or length < -1 or (eight, eight_too) != (8, 8) or len(data) != end + _COUNTS.size:
        raise _WrongMessage("a group is not made of records and two counts")
    return None if length == -1 else data[_GROUP.size : end], rows, frozen
