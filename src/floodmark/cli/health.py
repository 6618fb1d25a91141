"""What the image's HEALTHCHECK asks: whether the exporter still answers. Every other command counts as healthy."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

DEFAULT_PORT = 9464
_PATIENCE = 5.0  # seconds
_FIRST_PROCESS = Path("/proc/1/cmdline")


def main() -> int:
    """0 for healthy, 1 otherwise."""
    port = exporter_port(_FIRST_PROCESS.read_bytes())
    return 0 if port is None or answers(port) else 1


def exporter_port(command_line: bytes) -> int | None:
    """The port of the exporter that a process's command line starts; None where it starts something else."""
    words = command_line.decode(errors="replace").split("\0")
    if "exporter" not in words:
        return None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        text = following if word == "--port" else word.removeprefix("--port=")
        if word.startswith("--port") and text.isdecimal():
            return int(text)
    return DEFAULT_PORT


def answers(port: int) -> bool:
    """Whether the exporter at this port says that all is well. No proxy stands between."""
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
