"""A namespace's proxy: it takes CONNECT, and is Amazon behind it, with certificates for any name that it is asked for.

The bytes behind TLS go to one server, whatever the name: moto, which knows a bucket by the host name of a request.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

_HELLO = b"\x16"  # the first byte of a TLS connection


class Tunnel:
    """`asked` are the targets of CONNECT, in order. A host in `refused` gets 403. TLS without CONNECT works, too."""

    def __init__(self, upstream: str, folder: Path) -> None:
        place = urlsplit(upstream)
        self._upstream = (place.hostname, place.port)
        self._authority = trustme.CA()
        self.authority = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.authority)
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            name: str | None = "127.0.0.1"
            if client.recv(1, socket.MSG_PEEK) != _HELLO:
                name = self._connected(client)
            if name is not None:
                with self._with_tls(client, name) as inside, socket.create_connection(self._upstream) as server:
                    threading.Thread(target=_relay, args=(server, inside), daemon=True).start()
                    _relay(inside, server)

    def _connected(self, client: socket.socket) -> str | None:
        """Answer CONNECT. Returns the host's name, or None if it is refused."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(4096)
        method, target, _ = head.split(b"\r\n")[0].decode().split()
        assert method == "CONNECT", method
        self.asked.append(target)
        host = target.rpartition(":")[0]
        if host in self.refused:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return None
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return host

    def _with_tls(self, client: socket.socket, name: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(name).configure_cert(context)
        return context.wrap_socket(client, server_side=True)


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def make_tunnel(tmp_path: Path) -> Iterator[Callable[[str], Tunnel]]:
    """Puts a proxy before an endpoint."""
    made: list[Tunnel] = []

    def make(upstream: str) -> Tunnel:
        made.append(Tunnel(upstream, tmp_path))
        return made[-1]

    yield make
    for tunnel in made:
        tunnel.close()
