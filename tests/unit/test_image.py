"""The image: hadolint on the Dockerfile, and what the HEALTHCHECK makes of the container's first process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from health import DEFAULT_PORT, answers, exporter_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", ROOT / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_image_starts_is_a_program_that_is_copied_into_it() -> None:
    started = re.findall(r"(?:ENTRYPOINT|CMD) (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert [json.loads(one) for one in started] == [["floodmark-health"], ["floodmark-entrypoint"], ["run"]]
    copied = dict(re.findall(r"^COPY (ops/image/\S+) /opt/floodmark/bin/(\S+)$", DOCKERFILE, re.MULTILINE))
    assert sorted(copied.values()) == ["floodmark-entrypoint", "floodmark-health"]
    for path in copied:
        program = ROOT / path
        assert os.access(program, os.X_OK)
        assert program.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")
    assert "!ops/image" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_every_stage_stands_on_the_digest_that_was_given_and_the_last_one_is_not_root() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2 and all(base.endswith("@${PYTHON_DIGEST}") for base in bases)
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert "pip install" not in last


def test_only_the_first_stage_has_a_compiler_and_it_must_build_the_encoder() -> None:
    first, _, last = DOCKERFILE.rpartition("\nFROM ")
    assert re.search(r"apt-get install .*\bgcc libc6-dev\b", first) and "import floodmark.native.encoder" in first
    assert "apt-get" not in last and "gcc" not in last
    copied = next(line for line in first.splitlines() if line.startswith("COPY pyproject.toml"))
    assert "hatch_build.py" in copied
    assert {"!hatch_build.py", "**/*.so"} <= set((ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("words", "port"),
    [
        ("python /opt/floodmark/bin/floodmark-entrypoint run", None),
        ("python /opt/floodmark/bin/floodmark-entrypoint run --metrics-port 9000", None),
        ("python /opt/floodmark/bin/floodmark-entrypoint exporter", DEFAULT_PORT),
        ("/sbin/docker-init -- floodmark-entrypoint exporter --interval 5 --port 9001", 9001),
        ("floodmark-entrypoint exporter --port=9002", 9002),
        ("floodmark-entrypoint exporter --port", DEFAULT_PORT),
    ],
)
def test_only_the_exporter_is_asked_and_at_its_own_port(words: str, port: int | None) -> None:
    assert exporter_port(b"\0".join(word.encode() for word in words.split(" ")) + b"\0") == port


@pytest.fixture(params=[HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE])
def exporter(request: pytest.FixtureRequest) -> Iterator[tuple[HTTPStatus, HTTPServer]]:
    """A server that says of itself that it is well, or not."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health" else HTTPStatus.NOT_FOUND)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield request.param, server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_counts_for_what_it_says_whatever_proxy_is_set(
    exporter: tuple[HTTPStatus, HTTPServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, server = exporter
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert answers(server.server_port) == (status == HTTPStatus.OK)
    assert not answers(1)
