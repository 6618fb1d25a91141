"""A proxy before an S3 server, which writes down each request and can lose, cut, or invent answers."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from msgspec import Struct


class Seen(Struct, frozen=True):
    """A request that came: header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(Struct, frozen=True):
    """What the server said, or what is made of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut_after: int | None = None


Forward = Callable[[Seen], Answer]
Fault = Callable[[Seen, Forward], Answer | None]


def no_answer(seen: Seen, forward: Forward) -> None:
    """The connection breaks before the server hears of the request."""


def lost_answer(seen: Seen, forward: Forward) -> None:
    """The server does what it is asked; its answer is lost."""
    assert forward(seen).status < 300


def cut_answer(seen: Seen, forward: Forward) -> Answer:
    """The connection breaks halfway through the answer's body."""
    answer = forward(seen)
    return Answer(answer.status, answer.headers, answer.body, len(answer.body) // 2)


def short_answer(seen: Seen, forward: Forward) -> Answer:
    """Half of the answer's body is missing, and the headers do not tell."""
    answer = forward(seen)
    if seen.method == "HEAD":
        return answer
    half = answer.body[: len(answer.body) // 2]
    return Answer(answer.status, {**answer.headers, "content-length": str(len(half))}, half)


def flipped_answer(seen: Seen, forward: Forward) -> Answer:
    """One bit of the answer's body is another."""
    answer = forward(seen)
    return Answer(answer.status, answer.headers, _flipped(answer.body))


def short_request(seen: Seen, forward: Forward) -> Answer:
    """Half of the request's body is missing when it arrives, and the headers do not tell."""
    half = seen.body[: len(seen.body) // 2]
    return forward(Seen(seen.method, seen.path, {**seen.headers, "content-length": str(len(half))}, half))


def flipped_request(seen: Seen, forward: Forward) -> Answer:
    """One bit of the request's body is another when it arrives."""
    return forward(Seen(seen.method, seen.path, seen.headers, _flipped(seen.body)))


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def ignored_conditions(seen: Seen, forward: Forward) -> Answer:
    """The server takes no notice of conditions."""
    headers = {name: value for name, value in seen.headers.items() if not name.startswith("if-")}
    return forward(Seen(seen.method, seen.path, headers, seen.body))


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Fault:
    """The server refuses."""
    text = f"<Error><Code>{code}</Code><Message>CANARY</Message></Error>".encode()
    head = {"content-type": "application/xml", "content-length": str(len(text)), **(headers or {})}
    return lambda seen, forward: Answer(status, head, b"" if seen.method == "HEAD" else text)


class S3Proxy:
    """`faults` are used up one a request; `always` meets the requests after those. None passes them on."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.seen: list[Seen] = []
        self.faults: deque[Fault | None] = deque()
        self.always: Fault | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.proxy = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[str]:
        """The methods of all requests, in order."""
        return [seen.method for seen in self.seen]

    def handle(self, seen: Seen) -> Answer | None:
        self.seen.append(seen)
        fault = self.faults.popleft() if self.faults else self.always
        return self.forward(seen) if fault is None else fault(seen, self.forward)

    def forward(self, seen: Seen) -> Answer:
        server = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            server.putrequest(seen.method, seen.path, skip_host=True, skip_accept_encoding=True)
            for name, value in seen.headers.items():
                server.putheader(name, value)
            server.endheaders(seen.body)
            answer = server.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            headers.pop("transfer-encoding", None)
            body = answer.read()
            if seen.method != "HEAD":
                headers["content-length"] = str(len(body))
            return Answer(answer.status, headers, body)
        finally:
            server.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; `seen` holds it all."""

    def _any(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() != "expect"}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        answer = self.server.proxy.handle(Seen(self.command, self.path, headers, body))  # type: ignore[attr-defined]
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: answer.cut_after])
        self.close_connection = answer.cut_after is not None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], S3Proxy]]:
    """Puts a proxy before an endpoint."""
    made: list[S3Proxy] = []

    def make(upstream: str) -> S3Proxy:
        made.append(S3Proxy(upstream))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()
