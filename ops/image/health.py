#!/usr/bin/env python3
"""The image's HEALTHCHECK: it asks if the exporter still answers. Every other command counts as healthy."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

DEFAULT_PORT = 9464
_PATIENCE = 5.0  # seconds
_FIRST_PROCESS = Path("/proc/1/cmdline")


def main() -> int:
    """Return 0 for healthy, 1 otherwise."""
    port = exporter_port(_FIRST_PROCESS.read_bytes())
    return 0 if port is None or answers(port) else 1


def exporter_port(command_line: bytes) -> int | None:
    """Return the port of the exporter that a command line starts, or None if it starts something else."""
    words = command_line.decode(errors="replace").split("\0")
    if "exporter" not in words:
        return None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        text = following if word == "--port" else word.removeprefix("--port=")
        if word.startswith("--port") and text.isdecimal():
            return int(text)
    return DEFAULT_PORT


def answers(port: int) -> bool:
    """Return true if the exporter at this port reports that all is well. Uses no proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
