"""A pooler as far as the first packet goes: it refuses a client that sends startup options, as PgBouncer does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

_REFUSAL = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"

# A pooler hands sessions on as they are. From PostgreSQL 17 on, this gives each of Floodmark's sessions temporary
# tables by the names of all catalog tables and of some types, as if another client had left them there.
SHADOWS = """
    CREATE FUNCTION shadow() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE name pg_catalog.text;
    BEGIN
        IF current_setting('application_name') = 'floodmark' THEN
            FOR name IN
                SELECT relname FROM pg_catalog.pg_class
                WHERE relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND relkind IN ('r', 'v')
                UNION SELECT unnest(ARRAY['text', 'oid', 'xid', 'tid', 'regclass', 'pg_lsn', 'name'])
            LOOP
                EXECUTE format('CREATE TEMP TABLE %I ()', name);
            END LOOP;
        END IF;
    END $$;
    CREATE EVENT TRIGGER shadow ON login EXECUTE FUNCTION shadow()
"""


class Pooler:
    """Listens on `port` before a server. `refused` counts the clients it sent away."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.refused = self.passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            packet = _packet(client)
            while len(packet) == 8:  # asks for TLS or GSS, which there is none of
                client.sendall(b"N")
                packet = _packet(client)
            if b"\0options\0" in packet:
                self.refused += 1
                client.sendall(b"E" + struct.pack("!i", len(_REFUSAL) + 4) + _REFUSAL)
                return
            self.passed += 1
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                server.sendall(packet)
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()


def _packet(stream: socket.socket) -> bytes:
    head = stream.recv(4, socket.MSG_WAITALL)
    return head + stream.recv(struct.unpack("!i", head)[0] - 4, socket.MSG_WAITALL)


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@pytest.fixture
def make_pooler() -> Iterator[Callable[[int], Pooler]]:
    """Puts a pooler before a server's port."""
    made: list[Pooler] = []

    def make(server_port: int) -> Pooler:
        made.append(Pooler(server_port))
        return made[-1]

    yield make
    for pooler in made:
        pooler.close()
