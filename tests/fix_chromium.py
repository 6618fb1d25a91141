"""A real headless Chromium, driven over its debugging pipe: no driver, no port and no package are needed for that.

Messages are JSON, each ended by a zero byte, on the descriptors 3 and 4 of the browser (--remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_SECONDS = 60
_OPTIONS = (
    "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--mute-audio",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--font-render-hinting=none", "--in-process-gpu",
)  # fmt: skip


class Browser:
    """One page of a browser. `problems` are console errors and exceptions, `requests` every URL that it asked for."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._number, self._rest, self._answers = 0, b"", {}  # type: ignore[var-annotated]
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        (target,) = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the browser's protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._answer(self._number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _answer(self, number: int) -> dict[str, Any]:
        while number not in self._answers:
            data = os.read(self._read, 1 << 20)
            assert data, "the browser is gone"
            *messages, self._rest = (self._rest + data).split(b"\0")
            for one in map(json.loads, messages):
                if "id" in one:
                    self._answers[one["id"]] = one
                else:
                    self._note(one["method"], one["params"])
        return self._answers.pop(number)

    def _note(self, method: str, facts: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(facts["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.problems.append(facts["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.problems.append(json.dumps(facts["args"])[:500])
        elif method == "Page.javascriptDialogOpening":
            self.problems.append(f"a dialog: {facts['message']}")

    def run(self, script: str) -> Any:
        """Return the value of an expression, also of a promise."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, page: Path, place: str = "#/") -> None:
        """Open a file at a place, and wait until its script is done."""
        self.call("Page.navigate", url=f"{page.as_uri()}?{self._number}{place}")
        self.wait(place)

    def go(self, place: str) -> None:
        """Follow a link to another place of the open file."""
        self.run(f"delete document.documentElement.dataset.ready; location.hash = {json.dumps(place)}; 0")
        self.wait(place)

    def wait(self, place: str) -> None:
        """Wait until the page at a place is there."""
        self.until(f"document.documentElement?.dataset.ready === {json.dumps(place)}")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        ends = time.monotonic() + _SECONDS
        while not self.run(condition):
            assert time.monotonic() < ends, f"still not: {condition}; problems: {self.problems}"
            time.sleep(0.02)

    def size(self, width: int, height: int) -> None:
        """Set the size of the window. A narrow one is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def theme(self, name: str, media: str = "") -> None:
        """Set the theme that the reader's system prefers, and perhaps the medium `print`."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, path: Path, height: int | None = None, **options: Any) -> None:
        """Save a picture of the page from its top, as high as given, or of the whole page."""
        box = self.run("({width: innerWidth, height: document.documentElement.scrollHeight})")
        clip = {"x": 0, "y": 0, "width": box["width"], "height": height or box["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True, **options)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """Return the page as the browser prints it."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


def chromium_path() -> str | None:
    """Return the path of Debian's chromium, if it is installed."""
    return shutil.which("chromium")


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start a browser whose profile is in a folder of its own, and end it."""
    path = chromium_path()
    assert path is not None
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    command = [path, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    command[1:1] = ["--no-sandbox"] if os.getuid() == 0 else []

    def place_pipes() -> None:
        """Give the pipes the numbers that the browser expects, whatever numbers they have."""
        high = [os.dup2(one, number) for one, number in ((to_browser, 103), (from_browser, 104))]
        for number, one in enumerate(high, start=3):
            os.dup2(one, number)
            os.close(one)

    process = subprocess.Popen(
        command, preexec_fn=place_pipes, close_fds=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(process, write, read)
    finally:
        os.close(write)
        os.close(read)
        process.terminate()
        process.wait(timeout=_SECONDS)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a module."""
    if chromium_path() is None:
        pytest.skip("chromium is not installed")
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found
