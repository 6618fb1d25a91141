"""An HTTP server with /metrics, /health, and a front page."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from floodmark.errors import ConfigError

_SLOW_CLIENT = 30.0  # seconds
_ABOUT = b"Floodmark: see /metrics and /health\n"
_HEALTHY, _UNHEALTHY = b"ok\n", b"the metrics are no longer kept up to date\n"


class MetricsServer:
    """Server that runs on its own threads until it is closed. `port` 0 takes any free port; see `port`.

    `metrics` is the page of the metrics, `healthy` tells if their producer still works, and `front` is the page at `/`.
    Raises ConfigError if the address is not available.
    """

    def __init__(
        self,
        address: str,
        port: int,
        metrics: WSGIApplication,
        healthy: Callable[[], bool] = lambda: True,
        front: WSGIApplication | None = None,
    ) -> None:
        try:
            self._server = _Server(address, port, _application(metrics, healthy, front))
        except (OSError, OverflowError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is not a valid address or port"
            hint = "Choose another port or address."
            raise ConfigError("metrics can't be served", on=f"{address or '*'}:{port}", why=why, hint=hint) from None
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


def _application(
    metrics: WSGIApplication, healthy: Callable[[], bool], front: WSGIApplication | None
) -> WSGIApplication:
    """Return the application: the two pages, and short texts for the other paths."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            return metrics(environ, start_response)
        if environ["PATH_INFO"] == "/" and front is not None:
            return front(environ, start_response)
        status, body = _page(environ["PATH_INFO"], healthy)
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
        return [body]

    return _with_head(answer)


def _page(path: str, healthy: Callable[[], bool]) -> tuple[HTTPStatus, bytes]:
    if path == "/health":
        return (HTTPStatus.OK, _HEALTHY) if healthy() else (HTTPStatus.SERVICE_UNAVAILABLE, _UNHEALTHY)
    return (HTTPStatus.OK if path == "/" else HTTPStatus.NOT_FOUND), _ABOUT


def _with_head(application: WSGIApplication) -> WSGIApplication:
    """Answer HEAD as GET without the body, which prometheus_client's application refuses. Hide the server's version.

    A body in pieces is not joined: it can be large.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
            started.append((status, headers))
            return lambda data: None

        head = environ["REQUEST_METHOD"] == "HEAD"
        body = list(application({**environ, "REQUEST_METHOD": "GET"} if head else environ, keep))
        ((status, headers),) = started
        known = any(name == "Content-Length" for name, _ in headers)  # a 304 has that of the page, and no body
        length = [] if known else [("Content-Length", str(sum(map(len, body))))]
        start_response(status, [*headers, *length, ("Server", "floodmark")])
        return [] if head else body

    return answer


class _Handler(WSGIRequestHandler):
    """A request handler that drops slow clients and writes nothing to stderr."""

    timeout = _SLOW_CLIENT

    def version_string(self) -> str:
        """Return what the answers to requests that are no HTTP say about the server: no version."""
        return "floodmark"

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: a scrape needs no line, and its path is an unknown client's text."""

    def get_stderr(self) -> TextIO:
        """Return a stream that is discarded: a client that disconnects needs no line."""
        return io.StringIO()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # with the default of 5, many browsers at once would delay a scrape by seconds
    block_on_close = False  # a client that never reads its answer delays nobody

    def __init__(self, address: str, port: int, application: WSGIApplication) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind without the look-up of a name for the address, which can wait for a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore an error between requests, such as a reset connection."""
