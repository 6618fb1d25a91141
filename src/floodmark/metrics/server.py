"""A small HTTP server for /metrics and /health."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType

from floodmark.errors import ConfigError
from floodmark.metrics.exposition import CONTENT_TYPE

_SLOW_CLIENT = 30.0  # seconds


class MetricsServer:
    """Server that runs on its own threads until it is closed. `port` 0 takes any free port; see `port`.

    `metrics` returns the text, and `healthy` tells if its producer still works. Raises ConfigError if the address is
    not available.
    """

    def __init__(
        self, address: str, port: int, metrics: Callable[[], bytes], healthy: Callable[[], bool] = lambda: True
    ) -> None:
        class Handler(_Handler):
            pages = _Pages(metrics, healthy)

        try:
            self._server = _Server(address, port, Handler)
        except (OSError, OverflowError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no address or port"
            raise ConfigError(
                "metrics can't be served",
                on=f"{address or '*'}:{port}",
                why=why,
                hint="Choose another port or address.",
            ) from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="metrics")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that never reads its answer delays nobody

    def __init__(self, address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), handler)

    def server_bind(self) -> None:
        """Bind without the look-up of a name for the address, which can wait for a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Pages:
    def __init__(self, metrics: Callable[[], bytes], healthy: Callable[[], bool]) -> None:
        self.metrics, self.healthy = metrics, healthy

    def of(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return status, content type and body of a page."""
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE, self.metrics()
        if path == "/health":
            fine = self.healthy()
            return (
                (HTTPStatus.OK, "text/plain", b"ok\n")
                if fine
                else (
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "text/plain",
                    b"the metrics are no longer kept up to date\n",
                )
            )
        if path == "/":
            return HTTPStatus.OK, "text/plain", b"Floodmark: see /metrics and /health\n"
        return HTTPStatus.NOT_FOUND, "text/plain", b"see /metrics and /health\n"


class _Handler(BaseHTTPRequestHandler):
    pages: _Pages
    timeout = _SLOW_CLIENT

    def do_GET(self) -> None:
        status, kind, body = self.pages.of(self.path.partition("?")[0])
        packed = len(body) > 1024 and "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body, 1) if packed else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def version_string(self) -> str:
        return "floodmark"

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: a scrape is not worth a line, and its path is a stranger's text."""

    def log_error(self, format: str, *arguments: object) -> None:
        """Log nothing: a client that disconnects is not worth a line."""
