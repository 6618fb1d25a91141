"""A COPY whose stream is cut, ends too early, fails, or stays silent: with libpq called directly, and with psycopg.

The server is invented: it sends what a test tells it to.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.errors import AdminShutdown, QueryCanceled

from fix_encoder import copied
from floodmark.native import is_built, load_encoder
from floodmark.source.postgres import native_rows
from floodmark.source.postgres.connect import close_quietly
from floodmark.source.postgres.native_rows import LineWriter, _receive_messages, _WrongMessage, find_libpq

pytestmark = pytest.mark.skipif(not is_built(), reason="the native encoder is not built")

HEADER, END = native_rows._HEADER, native_rows._END
SECRET = "a row's value"


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(content) + 4) + content


def data(content: bytes) -> bytes:
    return message(b"d", content)


def problem(kind: bytes, severity: str, state: str) -> bytes:
    fields = (b"S" + severity.encode(), b"V" + severity.encode(), b"C" + state.encode(), b"M" + SECRET.encode())
    return message(kind, b"\0".join(fields) + b"\0\0")


def row(number: int, name: str = SECRET) -> bytes:
    return copied(struct.pack(">i", number), name.encode())


def line(number: int, name: str = SECRET) -> bytes:
    return b'{"id":%d,"name":"%s"}\n' % (number, name.encode())


READY, DONE, COMPLETE = message(b"Z", b"I"), message(b"c"), message(b"C", b"COPY 3\0")
GREETING = [message(b"R", bytes(4)), message(b"S", b"client_encoding\0UTF8\0"), message(b"K", bytes(8)), READY]
BEGIN = message(b"H", struct.pack(">bhhh", 1, 2, 1, 1))
ROWS = [data(HEADER + row(1)), data(row(2)), data(row(3))]
WHOLE = [*ROWS, data(END), DONE, COMPLETE, READY]
LINES = line(1) + line(2) + line(3)


class CopyServer:
    """A server of one statement. It sends the pieces one after the other, and then closes the connection.

    A piece that is an event is awaited.
    """

    def __init__(self, pieces: Sequence[bytes | threading.Event]) -> None:
        self._pieces, self._listener = pieces, socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.recv(10_000)
                client.sendall(b"".join(GREETING))
                client.recv(10_000)
                client.sendall(BEGIN)
                for piece in self._pieces:
                    if isinstance(piece, bytes):
                        client.sendall(piece)
                    else:
                        piece.wait(30)
        self._listener.close()


@contextmanager
def copying(pieces: Sequence[bytes | threading.Event]) -> Iterator[tuple[psycopg.Copy, psycopg.Cursor[Any]]]:
    where = (
        f"host=127.0.0.1 port={CopyServer(pieces).port} user=u sslmode=disable gssencmode=disable connect_timeout=10"
    )
    with (
        psycopg.connect(where, autocommit=True) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copy,
    ):
        yield copy, cursor


def encoder_of(native: ModuleType) -> Any:
    return native.Encoder([("id", "int4"), ("name", "text")], "jsonl")


def received(pieces: Sequence[bytes | threading.Event]) -> tuple[bytes, int, int]:
    """Return the lines, their number, and the server's count."""
    native, blocks = load_encoder(), bytearray()
    lines = LineWriter(lambda block: blocks.extend(block))
    with copying(pieces) as (copy, cursor):
        _receive_messages(native, copy, encoder_of(native), lines)
        counted = cursor.rowcount
    lines.flush()
    return bytes(blocks), lines.number, counted


@pytest.fixture(params=["libpq", "psycopg"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to receive, in turn. psycopg's is for an installation whose libpq can't be found."""
    name: str = request.param
    if name == "psycopg":
        monkeypatch.setattr(native_rows, "find_libpq", lambda native: None)
    elif find_libpq(load_encoder()) is None:
        pytest.skip("this psycopg has no compiled module")
    return name


HUGE = "x" * 3_000_000
GOOD: dict[str, tuple[Sequence[bytes], bytes]] = {
    "all at once": ([b"".join(WHOLE)], LINES),
    "message by message": (WHOLE, LINES),
    "byte by byte": ([bytes([one]) for one in b"".join(WHOLE)], LINES),
    "no row": ([data(HEADER + END), DONE, message(b"C", b"COPY 3\0"), READY], b""),
    "a huge row": ([*ROWS[:2], data(row(3, HUGE)), *WHOLE[3:]], line(1) + line(2) + line(3, HUGE)),
    "a header of its own": ([data(HEADER), data(row(1)), *ROWS[1:], *WHOLE[3:]], LINES),
}


@pytest.mark.parametrize("what", GOOD)
def test_every_row_arrives_once(what: str) -> None:
    pieces, lines = GOOD[what]
    assert received(pieces) == (lines, lines.count(b"\n"), 3)


def test_a_notice_between_rows_is_passed_on_and_is_no_row() -> None:
    native, notices, lines = load_encoder(), [], LineWriter(lambda block: None)
    with copying([*ROWS[:2], problem(b"N", "WARNING", "01000"), *WHOLE[2:]]) as (copy, _):
        copy.connection.add_notice_handler(lambda notice: notices.append(notice.sqlstate))
        _receive_messages(native, copy, encoder_of(native), lines)
    assert (lines.number, notices) == (3, ["01000"])


def some(number: int) -> list[bytes]:
    """More rows than one call takes."""
    return [data(HEADER + row(0)), *(data(row(n, "y" * 1000)) for n in range(number))]


BROKEN: dict[str, tuple[Sequence[bytes], type[Exception]]] = {
    "cancelled": ([*ROWS, problem(b"E", "ERROR", "57014"), READY], QueryCanceled),
    "cancelled after many rows": ([*some(2000), problem(b"E", "ERROR", "57014"), READY], QueryCanceled),
    "the server shuts down": ([*ROWS, problem(b"E", "FATAL", "57P01")], AdminShutdown),
    "cut between messages": (ROWS, psycopg.OperationalError),
    "cut within a message": ([*some(2000), ROWS[1][:9]], psycopg.OperationalError),
    "cut before a row": ([], psycopg.OperationalError),
    "cut after the trailer": (WHOLE[:4], psycopg.OperationalError),
    "no trailer": ([*ROWS, DONE, COMPLETE, READY], _WrongMessage),
    "no message": ([DONE, COMPLETE, READY], _WrongMessage),
    "another count of fields": ([ROWS[0], data(copied(b"")), *WHOLE[3:]], ValueError),
    "a row that is cut": ([ROWS[0], data(row(2)[:-1]), *WHOLE[3:]], ValueError),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_stream_that_is_not_whole_is_an_error_without_a_value(what: str) -> None:
    pieces, kind = BROKEN[what]
    with pytest.raises(kind) as caught:
        received(pieces)
    if not isinstance(caught.value, psycopg.errors.Error) or caught.value.sqlstate is None:  # the others are translated
        assert SECRET not in str(caught.value)


def test_the_caller_gets_a_turn_while_nothing_arrives(way: str) -> None:
    """A signal or a deadline can only be noticed there."""
    if way != "libpq":
        pytest.skip("psycopg has its own way")
    native, silent = load_encoder(), threading.Event()
    libpq, encoder = find_libpq(native), encoder_of(native)
    with copying([*ROWS[:2], silent, *WHOLE[2:]]) as (copy, _):
        pointer, found, states = copy.connection.pgconn.pgconn_ptr, b"", []
        while "end" not in states:
            lines, _, state = encoder.receive(libpq, pointer, 1 << 18)
            found += lines
            states.append(state)
            if found == line(1) + line(2):
                silent.set()
        assert found == LINES and states[0] == "more" and len(states) > 1
        assert not copy.read()


class _Busy:
    """A connection that must not be asked for a result before one is there. `silent` is set as soon as one is not."""

    def __init__(self, pgconn: Any, silent: threading.Event) -> None:
        self._pgconn, self._silent = pgconn, silent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pgconn, name)

    def is_busy(self) -> bool:
        busy: bool = self._pgconn.is_busy()
        if busy:
            self._silent.set()
        return busy

    def get_result(self) -> Any:
        assert not self._pgconn.is_busy(), "all threads would stand still"
        return self._pgconn.get_result()


def test_a_server_that_is_not_ready_after_its_error_stops_no_other_thread() -> None:
    """psycopg waits for a result with the interpreter's lock: no signal would be noticed, and no other table read."""
    silent = threading.Event()
    with copying([problem(b"E", "ERROR", "57014"), silent, READY]) as (copy, _):
        pgconn = copy.connection.pgconn
        while pgconn.get_copy_data(1)[0] == 0:
            pgconn.consume_input()
        busy: Any = SimpleNamespace(connection=SimpleNamespace(pgconn=_Busy(pgconn, silent)))
        assert isinstance(native_rows._ended_early(busy), QueryCanceled)
    assert silent.is_set()


class _Ended(Exception):
    pass


def test_a_consumer_can_end_a_read_that_stands_still(way: str) -> None:
    """A signal or a deadline ends a run although the server is silent in the middle of a COPY."""
    if way != "libpq":
        pytest.skip("psycopg waits")
    native, silent = load_encoder(), threading.Event()

    def write(block: bytes | bytearray | memoryview) -> None:
        silent.set()  # psycopg waits for the end of the COPY that it cancels
        assert not block
        raise _Ended

    with pytest.raises(_Ended), copying([*ROWS[:2], silent, *WHOLE[2:]]) as (copy, _):
        _receive_messages(native, copy, encoder_of(native), LineWriter(write))


def test_a_connection_in_use_is_cut_and_its_memory_stays(way: str) -> None:
    """If it were closed in the middle of a call, libpq's memory would be used after it was freed."""
    native, silent, begun = load_encoder(), threading.Event(), threading.Event()

    class Begun(LineWriter):
        def take(self, lines: memoryview, number: int) -> None:
            begun.set()

    with copying([*ROWS[:2], silent, *WHOLE[2:]]) as (copy, _), ThreadPoolExecutor(1) as thread:
        reading = thread.submit(_receive_messages, native, copy, encoder_of(native), Begun(lambda block: None))
        assert way == "psycopg" or begun.wait(30)
        close_quietly(copy.connection)
        assert copy.connection.pgconn.pgconn_ptr is not None
        assert isinstance(reading.exception(30), psycopg.OperationalError)
        silent.set()


class _RefusesOnce:
    """An encoder that libpq refuses a message once, as for want of memory."""

    def __init__(self, encoder: Any) -> None:
        self._encoder, self._refused = encoder, False

    def receive(self, *arguments: Any) -> tuple[memoryview, int, str]:
        if not self._refused:
            self._refused = True
            return memoryview(b""), 0, "refused"
        found: tuple[memoryview, int, str] = self._encoder.receive(*arguments)
        return found


def test_a_message_that_was_refused_once_is_not_passed_over(way: str) -> None:
    if way != "libpq":
        pytest.skip("psycopg has its own way")
    native, lines = load_encoder(), LineWriter(lambda block: None)
    begun, silent = threading.Event(), threading.Event()
    pieces = [begun, b"".join(ROWS), silent, *WHOLE[3:]]
    with pytest.raises(psycopg.OperationalError, match="could not be taken"), copying(pieces) as (copy, _):
        begun.set()
        assert select.select([copy.connection.fileno()], [], [], 30)[0]
        copy.connection.pgconn.consume_input()
        silent.set()
        _receive_messages(native, copy, _RefusesOnce(encoder_of(native)), lines)  # type: ignore[arg-type]


def test_a_module_without_libpq_is_refused() -> None:
    native = load_encoder()
    for module in (b"/nowhere/pq.so", native.__file__.encode()):
        with pytest.raises(OSError, match="libpq"):
            native.Libpq(module)
