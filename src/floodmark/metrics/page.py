"""An HTML page that takes long to make: kept, made again at most once a minute, and served to browsers."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from msgspec import Struct

from floodmark.metrics.exposition import accepts_gzip

# Seconds: the age at which a page is made again, and the longest wait for a page that is being made.
_LIFETIME = 60.0
_WAIT = 20.0
_BLOCK = 64 * 1024
_GZIP = 31  # zlib's number for gzip's own header
_LEVEL = 6
_SECURITY = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_NOT_YET = b"The report is not ready yet. This page loads again by itself.\n"
_FAILED = b"The report can't be made. The log of the exporter says why.\n"

Headers = list[tuple[str, str]]


class Document(Struct, frozen=True):
    """An HTML page, and the Content-Security-Policy that fits it."""

    html: bytes
    policy: str


class _Page(Struct, frozen=True):
    """A page as it is kept: compressed. `size` is its own, and `made` a time in whole seconds, as HTTP has it."""

    packed: bytes
    size: int
    policy: str
    digest: str
    made: datetime


class KeptPage:
    """A page that `make` makes when someone asks for it, and at most once a minute.

    A request waits a while for a new page, and then gets the page before. `on_failure` receives the error if the page
    can't be made.
    """

    def __init__(self, make: Callable[[], Document], on_failure: Callable[[Exception], None]) -> None:
        self._make, self._on_failure = make, on_failure
        self._lock = threading.Lock()
        self._page: _Page | None = None
        self._tried: float | None = None
        self._working: threading.Event | None = None

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request for the page."""
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Type", "text/plain")])
            return [b"Use GET or HEAD\n"]
        page = self._current()
        if page is None:
            failed = self._working is None
            again: Headers = [] if failed else [("Refresh", "5")]
            headers = [("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "60" if failed else "5")]
            start_response("503 Service Unavailable", [*headers, *again, *_SECURITY])
            return [_FAILED if failed else _NOT_YET]
        return _served(page, environ, start_response)

    def _current(self) -> _Page | None:
        """Return the page, after a new one is made if it is old. Several requests wait for the same page."""
        with self._lock:
            if self._working is None and (self._tried is None or time.monotonic() - self._tried >= _LIFETIME):
                self._working = threading.Event()
                threading.Thread(target=self._work, args=(self._working,), daemon=True, name="report").start()
            working = self._working
        if working is not None:
            working.wait(_WAIT)
        return self._page

    def _work(self, done: threading.Event) -> None:
        try:
            self._page = _kept(self._make())
        except Exception as error:  # no request may fail for it, and the metrics are served all the same
            self._on_failure(error)
        with self._lock:
            self._tried, self._working = time.monotonic(), None
        done.set()


def text_front(text: str) -> WSGIApplication:
    """Return a front page that is a short text."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), *_SECURITY])
        return [text.encode()]

    return answer


def _kept(document: Document) -> _Page:
    digest = hashlib.sha256(document.html).hexdigest()[:32]
    packed = gzip.compress(document.html, _LEVEL, mtime=0)
    return _Page(packed, len(document.html), document.policy, digest, datetime.now(UTC).replace(microsecond=0))


def _served(page: _Page, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    compressed = accepts_gzip(environ)
    headers: Headers = [
        ("ETag", f'"{page.digest}{"-gzip" if compressed else ""}"'),
        ("Last-Modified", format_datetime(page.made, usegmt=True)),
        ("Cache-Control", "private, no-cache"),
        ("Vary", "Accept-Encoding"),
        ("Content-Security-Policy", f"{page.policy}; frame-ancestors 'none'"),
        *_SECURITY,
    ]
    if _is_known(page, environ):
        size = len(page.packed) if compressed else page.size
        start_response("304 Not Modified", [*headers, ("Content-Length", str(size))])
        return []
    headers.append(("Content-Type", "text/html; charset=utf-8"))
    if compressed:
        start_response("200 OK", [*headers, ("Content-Encoding", "gzip")])
        return [page.packed]
    start_response("200 OK", headers)
    return _unpacked(page.packed)


def _is_known(page: _Page, environ: WSGIEnvironment) -> bool:
    """Return True if the client has this page already, as its conditions say."""
    tags = environ.get("HTTP_IF_NONE_MATCH")
    if tags is not None:
        return page.digest in tags or tags.strip() == "*"
    try:
        since = parsedate_to_datetime(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    except (TypeError, ValueError, OverflowError):
        return False
    return since.tzinfo is not None and page.made <= since


def _unpacked(packed: bytes) -> Iterable[bytes]:
    opener = zlib.decompressobj(wbits=_GZIP)
    blocks = [opener.decompress(packed[at : at + _BLOCK]) for at in range(0, len(packed), _BLOCK)]
    return [*filter(None, blocks), opener.flush()]
