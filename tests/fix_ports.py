"""Ports of 127.0.0.1 that stay what they are: one's own until a server listens there, or one where nobody does.

A port that was found free and let go again can be another's by the time it is used: the kernel gives each one out to
whoever asks for any, and the suite has several processes that start servers.
"""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
# Below those that the kernel gives out by itself (/proc/sys/net/ipv4/ip_local_port_range).
_OURS = range(10_000, 32_000)
_held: list[socket.socket] = []


def own_port() -> int:
    """A port that is free, and that no other process of these tests is given until this one ends."""
    while True:
        port = random.SystemRandom().choice(_OURS)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0floodmark-port-{port}")  # in no file system: it goes with the process, however that ends
        except OSError:
            name.close()
            continue
        _held.append(name)
        if _is_free(port):
            return port


def closed_port() -> int:
    """A port at which a connection is refused: it is taken, and nobody listens."""
    taken = socket.socket()
    taken.bind((HOST, 0))
    _held.append(taken)
    port: int = taken.getsockname()[1]
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
