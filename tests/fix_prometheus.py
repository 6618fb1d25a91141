"""A real Prometheus, a real Pushgateway and promtool, as Debian packages them (prometheus, prometheus-pushgateway).

CI installs them (.ci/run). Where they are missing, the tests that need them can't be run, and say so by name.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

import pytest

from fix_ports import HOST, own_port

_OPENER = build_opener(ProxyHandler({}))
_PATIENCE = 60.0


def program(name: str, package: str) -> str:
    """A program's path; where it is missing the test that asks ends as skipped, with the package that has it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found


def promtool(*arguments: str, given: bytes = b"") -> str:
    """Run promtool, which must be content. Returns what it said."""
    done = subprocess.run(
        [program("promtool", "prometheus"), *arguments], input=given, capture_output=True, timeout=300
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def require_clean(text: bytes) -> None:
    """promtool check metrics has nothing to say."""
    assert promtool("check", "metrics", given=text) == ""


def get(url: str) -> bytes:
    with _OPENER.open(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body


def eventually(look: Callable[[], Any], what: str) -> Any:
    """What `look` gives once it gives something true; a server that does not answer yet gives nothing."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            found = look()
        except (URLError, OSError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


@contextmanager
def running(command: list[str], ready: str, folder: Path) -> Iterator[None]:
    """A server that runs until it is no longer needed."""
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            eventually(lambda: get(ready), f"{command[0]}: {(folder / 'log').read_text()}")
            yield
        finally:
            process.kill()


class Prometheus:
    """A Prometheus that scrapes a few addresses every second."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}"

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """An instant query's samples: labels (without job, instance and name) → value."""
        answer = json.loads(get(f"{self.url}/api/v1/query?query={quote(expression)}"))
        assert answer["status"] == "success", answer
        aside = ("__name__", "job", "instance")
        return {
            frozenset((name, value) for name, value in one["metric"].items() if name not in aside): float(
                one["value"][1]
            )
            for one in answer["data"]["result"]
        }

    def value(self, expression: str) -> float | None:
        """The only sample's value, None where there is none."""
        found = list(self.query(expression).values())
        assert len(found) <= 1, found
        return found[0] if found else None


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts Prometheus servers that scrape these ports."""
    started: list[Any] = []

    def start(*ports: int) -> Prometheus:
        folder = tmp_path / f"prometheus-{len(started)}"
        folder.mkdir()
        targets = ", ".join(f'"{HOST}:{port}"' for port in ports)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n- job_name: floodmark\n  honor_labels: true\n"
            f"  static_configs: [{{targets: [{targets}]}}]\n"
        )
        port = own_port()
        command = [program("prometheus", "prometheus"), f"--web.listen-address={HOST}:{port}"]
        command += ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
        context = running(command, f"http://{HOST}:{port}/-/ready", folder)
        context.__enter__()
        started.append(context)
        return Prometheus(port)

    yield start
    for context in started:
        context.__exit__(None, None, None)


@pytest.fixture
def pushgateway(tmp_path: Path) -> Iterator[int]:
    """The port of a Pushgateway of the test's own."""
    folder = tmp_path / "pushgateway"
    folder.mkdir()
    port = own_port()
    command = [program("prometheus-pushgateway", "prometheus-pushgateway"), f"--web.listen-address={HOST}:{port}"]
    with running(command, f"http://{HOST}:{port}/-/ready", folder):
        yield port
