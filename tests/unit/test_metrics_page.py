"""The exporter's front page: made once a minute at most, served with what browsers expect, in nobody's way."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fix_ports import HOST
from fix_prometheus import get
from fix_state import commit, quick_ledger
from floodmark.cli import report_page
from floodmark.cli.report_page import ReportMaker
from floodmark.errors import FloodmarkError, StorageError
from floodmark.metrics import page as module
from floodmark.metrics.exposition import registry_page
from floodmark.metrics.page import Document, KeptPage, text_front
from floodmark.metrics.reading import Reading, read_again
from floodmark.metrics.server import MetricsServer
from floodmark.report import StateHistory, UnreadState
from floodmark.storage.memory import MemoryStorage

POLICY = "default-src 'none'; img-src data:"
HTML = b"<!doctype html><title>" + b"x" * 200_000


class Making:
    """A page that is made when it is told to, or fails."""

    def __init__(self) -> None:
        self.number, self.error = 0, False
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> Document:
        self.number += 1
        number = self.number
        assert self.go.wait(20)
        if self.error:
            raise FloodmarkError("can't make it")
        return Document(HTML + str(number).encode(), POLICY)


@pytest.fixture
def making() -> Making:
    return Making()


@pytest.fixture
def failures() -> list[Exception]:
    return []


@pytest.fixture
def server(making: Making, failures: list[Exception]) -> Iterator[MetricsServer]:
    kept = KeptPage(making, failures.append)
    with MetricsServer(HOST, 0, registry_page(CollectorRegistry()), front=kept.answer) as made:
        yield made
        making.go.set()


def ask(server: MetricsServer, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    with closing(HTTPConnection(HOST, server.port, timeout=30)) as connection:
        connection.request(method, "/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()


def test_the_page_is_made_when_it_is_asked_for_and_then_kept(server: MetricsServer, making: Making) -> None:
    assert making.number == 0
    assert [ask(server)[1] for _ in range(3)] == [HTML + b"1"] * 3


def test_it_is_made_again_after_a_minute(
    server: MetricsServer, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server)
    monkeypatch.setattr(module, "_LIFETIME", 0.0)
    assert ask(server)[1] == HTML + b"2"


def test_requests_at_once_wait_for_the_same_page(server: MetricsServer, making: Making) -> None:
    making.go.clear()
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(ask(server)[1])) for _ in range(5)]
    for one in threads:
        one.start()
    assert get(f"http://{HOST}:{server.port}/metrics") == b"" and get(f"http://{HOST}:{server.port}/health") == b"ok\n"
    making.go.set()
    for one in threads:
        one.join()
    assert found == [HTML + b"1"] * 5


def test_who_can_not_wait_longer_gets_the_page_before_or_is_told_to_come_again(
    server: MetricsServer, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT", 0.05)
    making.go.clear()
    answer, body = ask(server)
    assert (answer.status, answer.headers["Refresh"], answer.headers["Retry-After"]) == (503, "5", "5")
    assert b"not ready yet" in body
    making.go.set()
    monkeypatch.setattr(module, "_WAIT", 20.0)
    assert ask(server)[1] == HTML + b"1"
    making.go.clear()
    monkeypatch.setattr(module, "_LIFETIME", 0.0)
    monkeypatch.setattr(module, "_WAIT", 0.05)
    assert ask(server)[1] == HTML + b"1"


def test_a_page_that_can_not_be_made_is_told_once_and_the_one_before_stays(
    server: MetricsServer, making: Making, failures: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    making.error = True
    for _ in range(2):
        answer, body = ask(server)
        assert answer.status == 503 and "Refresh" not in answer.headers and b"log of the exporter" in body
    assert [type(one) for one in failures] == [FloodmarkError] and making.number == 1
    monkeypatch.setattr(module, "_LIFETIME", 0.0)
    making.error = False
    assert ask(server)[1] == HTML + b"2"
    making.error = True
    assert ask(server)[1] == HTML + b"2" and len(failures) == 2


def test_browsers_get_what_they_ask_for(server: MetricsServer) -> None:
    plain, body = ask(server)
    packed, data = ask(server, Accept_Encoding="gzip")
    assert gzip.decompress(data) == body and len(data) < 1000
    assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Content-Length"] == str(len(data))
    for one in (plain, packed):
        assert one.headers["Content-Type"] == "text/html; charset=utf-8" and one.headers["Vary"] == "Accept-Encoding"
        assert one.headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
        assert one.headers["X-Content-Type-Options"] == "nosniff"
        assert one.headers["Referrer-Policy"] == "no-referrer"
        assert one.headers["Cache-Control"] == "private, no-cache"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    head, nothing = ask(server, "HEAD")
    assert (head.status, head.headers["Content-Length"], nothing) == (200, str(len(body)), b"")
    refused, _ = ask(server, "POST")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        (lambda headers: {"If_None_Match": headers["ETag"]}, 304),
        (lambda headers: {"If_None_Match": f'"other", W/{headers["ETag"]}'}, 304),
        (lambda headers: {"If_None_Match": "*"}, 304),
        (lambda headers: {"If_None_Match": '"other"', "If_Modified_Since": headers["Last-Modified"]}, 200),
        (lambda headers: {"If_Modified_Since": headers["Last-Modified"]}, 304),
        (lambda headers: {"If_Modified_Since": "Mon, 01 Jan 2024 00:00:00 GMT"}, 200),
        (lambda headers: {"If_Modified_Since": "yesterday"}, 200),
        (lambda headers: {"If_Modified_Since": "Fri, 01 Jan 99999999999 00:00:00 GMT"}, 200),
    ],
)
def test_a_page_that_is_known_is_not_sent_again(
    server: MetricsServer, conditions: Callable[[Any], dict[str, str]], status: int
) -> None:
    first, _ = ask(server)
    again, body = ask(server, **conditions(first.headers))
    assert again.status == status and (status == 200 or body == b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Content-Length"] == first.headers["Content-Length"]


def test_many_browsers_at_once_delay_no_scrape(server: MetricsServer) -> None:
    with ExitStack() as open_ones:
        for _ in range(100):
            browser = open_ones.enter_context(socket.socket())
            browser.setblocking(False)
            browser.connect_ex((HOST, server.port))
        began = time.monotonic()
        assert get(f"http://{HOST}:{server.port}/metrics") == b""
        assert time.monotonic() - began < 0.95  # a connection that the kernel refuses is tried again after a second


@pytest.mark.parametrize("request_line", [b"nonsense", b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"GET / HTTP/9.9"])
def test_no_answer_tells_the_versions_of_the_server(server: MetricsServer, request_line: bytes) -> None:
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(request_line + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer and b"Python" not in answer


def test_a_text_can_be_the_front_page() -> None:
    with MetricsServer(HOST, 0, registry_page(CollectorRegistry()), front=text_front("hello\n")) as server:
        answer, body = ask(server)
        assert (answer.status, body) == (200, b"hello\n")
        assert get(f"http://{HOST}:{server.port}/metrics") == b""


# --- the report of an exporter's states ------------------------------------------------------------------------


class States:
    """Two states in memory, the exporter's readings of them, and what a maker made of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stores = [MemoryStorage(f"memory:{name}") for name in ("a", "b")]
        self.ledgers = [quick_ledger(store) for store in self.stores]
        self.readings = [Reading(url=store.url) for store in self.stores]
        self.shown: list[Any] = []
        self.asked: list[str] = []
        monkeypatch.setattr(report_page, "render_html", self._render)
        self.maker = ReportMaker(self.ledgers, lambda: self.readings)

    def _render(self, histories: list[Any], now: object) -> str:
        self.shown = histories
        return '<meta http-equiv="Content-Security-Policy" content="script-src &#39;sha256-x&#39;">'

    def read(self) -> None:
        """Let the exporter read its states, and look at what the maker asks for after that."""
        pairs = zip(self.ledgers, self.readings, strict=True)
        self.readings = [read_again(ledger, reading, lambda: 1.0) for ledger, reading in pairs]
        self.asked.clear()
        for store in self.stores:
            store.faults = lambda operation, key, moment: self.asked.append(key) if moment == "before" else None

    def make(self) -> Document:
        return self.maker.make()


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> States:
    return States(monkeypatch)


def test_a_history_is_read_when_there_is_news_only(states: States) -> None:
    for number, ledger in enumerate(states.ledgers):
        commit(ledger, f"r{number}")
    states.read()
    assert states.make() == Document(
        b'<meta http-equiv="Content-Security-Policy" content="script-src &#39;sha256-x&#39;">',
        "script-src 'sha256-x'",
    )
    assert [one.published[0].run_id for one in states.shown] == ["r0", "r1"] and states.asked
    states.asked.clear()
    states.make()
    assert states.asked == []
    commit(states.ledgers[1], "r2", 2)
    states.read()
    states.make()
    assert [len(one.published) for one in states.shown] == [1, 2]
    assert sum(key.startswith("manifests/") for key in states.asked) == 1


def test_a_state_that_the_exporter_can_not_read_is_shown_as_such_and_not_tried(states: States) -> None:
    states.make()
    assert [one.error.why for one in states.shown] == ["the exporter has not read it yet"] * 2
    commit(states.ledgers[0], "r0")
    states.read()
    states.readings[1] = Reading(url="memory:b", error=StorageError("x", why="away"))
    states.make()
    assert isinstance(states.shown[0], StateHistory) and isinstance(states.shown[1], UnreadState)
    assert states.shown[1].error.why == "away"


def test_a_state_that_fails_only_now_hides_no_other(states: States) -> None:
    for number, ledger in enumerate(states.ledgers):
        commit(ledger, f"r{number}")
    states.read()

    def away(*_: str) -> None:
        raise StorageError("get an object", why="away")

    states.stores[0].faults = away
    states.make()
    assert isinstance(states.shown[0], UnreadState) and isinstance(states.shown[1], StateHistory)


def test_a_bug_in_a_reading_fails_the_page(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(states.ledgers[0], "r0")
    states.read()

    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(report_page, "read_history", broken)
    with pytest.raises(KeyError):
        states.make()
