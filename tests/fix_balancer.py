"""A TCP proxy in front of several servers, as a balancer or a failover address is: each connection goes where it
is told to at that moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest


class Balancer:
    """`port` listens; `choose` gives the port that the next connection is led to."""

    def __init__(self, choose: Callable[[], int]) -> None:
        self.choose = choose
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._sockets: list[socket.socket] = [self._listener]
        self._thread.start()

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.choose()))
                self._sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def balancer() -> Iterator[Callable[[Callable[[], int]], Balancer]]:
    """Make balancers: `balancer(lambda: server.port)`."""
    made: list[Balancer] = []

    def make(choose: Callable[[], int]) -> Balancer:
        made.append(Balancer(choose))
        return made[-1]

    yield make
    for one in made:
        one.close()
