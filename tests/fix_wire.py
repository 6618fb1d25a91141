"""A proxy in front of a PostgreSQL server that counts the statements of all its connections.

    with Wire(lambda: server.port, after=act) as wire:
        run(settings(url=wire.url_of(database)))
    print(wire.count)

A *statement* is a Query message, or the messages of an extended exchange up to its Sync. It is over when the
server's ReadyForQuery for it arrives, so a COPY TO is one statement. Statements are numbered from 1, over all
connections, in the order in which they arrive.

Hooks, each called with the statement's number, its `Session` and its SQL text (of an extended exchange: the text
of its last Parse, or "" if there was none):

- `before` runs while the statement is held back: the server has seen nothing of it.
- `after` runs while the ReadyForQuery is held back: the client does not know yet that the statement is over.

While a hook runs, no message of any connection passes in either direction. The server can still be executing what it
received earlier on another connection; with `serial=True` it never is, because then a statement waits until the one
before it is over, whoever sent it. (So what a session does after statement n and what it does before statement n + 1
are then the same to the database.) A hook must use connections of its own, which do not go through the proxy.

`edit` may change the text of a Query before it is sent; the hooks are given the text as it is sent. These three and
`choose` can be replaced at any time. `reported` are parameters that the server is made to report with other values,
such as its version. What a hook raises is kept in `errors`, all connections are cut, and the end of the `with` block
(or `check`) raises the first of them, in preference to what came of the cut.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

_CANCEL, _TLS, _GSS = 80877102, 80877103, 80877104
# Messages that only gather work until a Sync, or a Flush, is sent.
_GATHERED = b"PBDEC"
_BLOCK = 1 << 16
_PATIENCE = 10


class Session:
    """One client's connection: `number` counts them from 1, `pid` is the server process that serves it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.parameters: dict[str, str] = {}


Hook = Callable[[int, Session, str], None]
Edit = Callable[[Session, str], str]


class Located(Protocol):
    """A database, as the superuser or as a role of its own."""

    @property
    def url(self) -> str: ...


class Wire:
    """Listens on `port`; `choose` gives the port of the server that the next connection is led to."""

    def __init__(
        self,
        choose: Callable[[], int],
        *,
        before: Hook | None = None,
        after: Hook | None = None,
        edit: Edit | None = None,
        serial: bool = False,
        reported: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.reported = reported
        self.choose, self.before, self.after, self.edit, self.serial = choose, before, after, edit, serial
        self.count = 0
        self.errors: list[BaseException] = []
        self._world = threading.Lock()  # held by whoever sends a message on, or runs a hook
        self._turn = threading.Lock()  # held from a statement's arrival to its end, if `serial`
        self._links: set[_Link] = set()
        self._sessions = 0
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url_of(self, database: Located) -> str:
        """A database's URL, led through here."""
        address, slash, rest = database.url.rpartition("/")
        return f"{address.rpartition(':')[0]}:{self.port}{slash}{rest}"

    def check(self) -> None:
        """Raise what a hook raised first, if any did."""
        if self.errors:
            raise self.errors[0]

    def close(self) -> None:
        """Cut every connection and end every thread. Does not raise what hooks raised."""
        self._closing = True
        _shut(self._listener)
        self._thread.join(_PATIENCE)
        self._listener.close()
        links = list(self._links)
        self.cut()
        for link in links:
            link.join()

    def cut(self) -> None:
        """Break every connection that there is now."""
        for link in list(self._links):
            link.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self.check()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                self._sessions += 1
                link = _Link(self, client, Session(self._sessions))
                self._links.add(link)
                link.start()

    # What links call

    def arrived(self, link: _Link, message: bytes, text: str) -> None:
        """A whole statement arrived: number it, run the hook, and send it to the server."""
        if self.serial:
            self._turn.acquire()
            link.has_turn = True
        with self._world:
            self.count += 1
            statement = (self.count, text)
            self._run(self.before, link, statement)
            link.under_way.append(statement)
            link.server.sendall(message)

    def over(self, link: _Link, data: bytes) -> None:
        """A statement's ReadyForQuery arrived, at the front of `data`: run the hook, and send it to the client."""
        statement = link.under_way.popleft()
        with self._world:
            self._run(self.after, link, statement)
            link.client.sendall(data)
        self.give_up_turn(link)

    def pass_on(self, target: socket.socket, data: bytes) -> None:
        if data:
            with self._world:
                target.sendall(data)

    def give_up_turn(self, link: _Link) -> None:
        if link.has_turn:
            link.has_turn = False
            self._turn.release()

    def gone(self, link: _Link) -> None:
        self.give_up_turn(link)
        self._links.discard(link)

    def _run(self, hook: Hook | None, link: _Link, statement: tuple[int, str]) -> None:
        if hook is None or self._closing or self.errors:
            return
        try:
            hook(statement[0], link.session, statement[1])
        except BaseException as error:
            self.errors.append(error)
            self.cut()
            raise ConnectionAbortedError from error


class _Link:
    """A client's connection and the one to the server that belongs to it, each read by a thread."""

    def __init__(self, wire: Wire, client: socket.socket, session: Session) -> None:
        self.wire, self.client, self.session = wire, client, session
        self.server = socket.socket()
        self.under_way: deque[tuple[int, str]] = deque()
        self.has_turn = False
        self._threads = [threading.Thread(target=self._client_side, daemon=True)]

    def start(self) -> None:
        self._threads[0].start()

    def cut(self) -> None:
        _shut(self.client)
        _shut(self.server)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _client_side(self) -> None:
        """Lead the client to the server, and pass on what it says until it ends."""
        answers = threading.Thread(target=self._server_side, daemon=True)
        try:
            with suppress(OSError):
                if self._connected():
                    self._threads.append(answers)
                    answers.start()
                    self._pass_statements()
        finally:
            # The server ends the connection in its turn: a client that leaves first is still served to the end.
            with suppress(OSError):
                self.server.shutdown(socket.SHUT_WR)
            if answers.ident is not None:
                answers.join()
            self.client.close()
            self.server.close()
            self.wire.gone(self)

    def _connected(self) -> bool:
        """Answer what comes before the startup packet, and send that one on. False if no session comes of it."""
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while packet := _startup_packet(self.client):
            (code,) = struct.unpack("!i", packet[4:8])
            if code in (_TLS, _GSS):
                self.client.sendall(b"N")
                continue
            self.server.close()
            self.server = socket.create_connection(("127.0.0.1", self.wire.choose()))
            self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if code == _CANCEL:
                self.server.sendall(packet)
                self.server.recv(1)  # the server closes once it has sent the signal
                return False
            words = packet[8:].decode(errors="replace").split("\0")
            self.session.parameters.update(zip(words[::2], words[1::2], strict=False))
            self.server.sendall(packet)
            return True
        return False

    def _pass_statements(self) -> None:
        gathered, text = b"", ""
        for message in _messages(self.client):
            kind = message[:1]
            if kind == b"Q":
                message, text = self._edited(message)
            elif kind == b"P":
                text = message[5:].split(b"\0")[1].decode(errors="replace")
            gathered += message
            if kind in (b"Q", b"S"):
                self.wire.arrived(self, gathered, text)
                text = ""
            elif kind not in _GATHERED:
                self.wire.pass_on(self.server, gathered)
            else:
                continue
            gathered = b""

    def _edited(self, message: bytes) -> tuple[bytes, str]:
        text = message[5:-1].decode(errors="replace")
        edited = self.wire.edit(self.session, text) if self.wire.edit is not None else text
        if edited == text:
            return message, text
        body = edited.encode() + b"\0"
        return b"Q" + struct.pack("!i", len(body) + 4) + body, edited

    def _server_side(self) -> None:
        try:
            with suppress(OSError):
                self._pass_answers()
        finally:
            self.wire.give_up_turn(self)
            _shut(self.client)

    def _pass_answers(self) -> None:
        """Pass on what the server says as it comes, but stop at the end of each statement."""
        buffer = bytearray()
        while data := self.server.recv(_BLOCK):
            buffer += data
            passed = end = 0
            over = False  # whether the part not yet passed begins with the end of a statement
            while (size := _size(buffer, end)) and end + size <= len(buffer):
                kind = buffer[end : end + 1]
                if kind == b"K":
                    (self.session.pid,) = struct.unpack_from("!i", buffer, end + 5)
                elif kind == b"S" and self.wire.reported:
                    message = self._reported(bytes(buffer[end : end + size]))
                    buffer[end : end + size] = message
                    size = len(message)
                elif kind == b"Z" and self.under_way:
                    self._pass(bytes(buffer[passed:end]), over)
                    passed, over = end, True
                end += size
            self._pass(bytes(buffer[passed:end]), over)
            del buffer[:end]

    def _reported(self, message: bytes) -> bytes:
        name, value = (part.decode() for part in message[5:].split(b"\0")[:2])
        body = f"{name}\0{self.wire.reported.get(name, value)}\0".encode()
        return b"S" + struct.pack("!i", len(body) + 4) + body

    def _pass(self, data: bytes, over: bool) -> None:
        if over:
            self.wire.over(self, data)
        else:
            self.wire.pass_on(self.client, data)


def _size(buffer: bytearray, at: int) -> int:
    """The size of the message that begins there, with its kind; 0 if its head is not whole."""
    if len(buffer) - at < 5:
        return 0
    size: int = struct.unpack_from("!i", buffer, at + 1)[0]
    return size + 1


def _messages(stream: socket.socket) -> Iterator[bytes]:
    """The whole messages that come, one by one, until the stream ends."""
    buffer = bytearray()
    while data := stream.recv(_BLOCK):
        buffer += data
        while (size := _size(buffer, 0)) and size <= len(buffer):
            yield bytes(buffer[:size])
            del buffer[:size]


def _startup_packet(stream: socket.socket) -> bytes:
    """A packet without a kind, as they come first; empty if the stream ends."""
    head = stream.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return b""
    return head + stream.recv(struct.unpack("!i", head)[0] - 4, socket.MSG_WAITALL)


def _shut(stream: socket.socket) -> None:
    """End a stream in both directions, and wake who waits for it."""
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
