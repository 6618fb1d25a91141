"""The report at the exporter's front page: a real process, over HTTP, in a real browser."""

from __future__ import annotations

import gzip
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from fix_chromium import Browser, browser  # noqa: F401 - a fixture
from fix_command import Floodmark
from fix_many_states import Database, make_states, serving
from fix_prometheus import eventually, get

LAKE = ("cases", "staff")


@pytest.fixture
def job(tmp_path: Path) -> Floodmark:
    """The states of two databases, in folders."""
    made = Floodmark(tmp_path / "job", {})
    make_states({f"{made.folder}/{name}": Database(name=name, failed=int(name == "staff"), nights=3) for name in LAKE})
    made.configure(f"states: [./{LAKE[0]}, ./{LAKE[1]}]\n")
    return made


def test_the_exporter_serves_a_report_that_browsers_show(
    job: Floodmark,
    browser: Browser,  # noqa: F811
) -> None:
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    with serving(job) as exporter:
        eventually(lambda: "staff" in exporter.metrics() and "cases" in exporter.metrics(), "the readings")
        with urlopen(Request(exporter.url, headers={"Accept-Encoding": "gzip"})) as answer:
            page, policy = gzip.decompress(answer.read()).decode(), answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy and "script-src 'sha256-" in policy
        assert "cases" in page and "staff" in page
        browser.problems.clear()
        browser.requests.clear()
        browser.call("Page.navigate", url=f"{exporter.url}/#/")
        browser.wait("#/")
        assert browser.run("document.querySelectorAll('svg').length") > 0
        asked = [url for url in browser.requests if not url.startswith("data:")]
        assert (browser.problems, asked) == ([], [f"{exporter.url}/"])


@pytest.mark.parametrize("without", ["extra", "option"])
def test_without_the_report_the_front_page_says_what_there_is(job: Floodmark, without: str) -> None:
    if without == "extra":  # a folder in which the package can't be found
        hider = job.folder / "hidden"
        hider.mkdir()
        (hider / "sitecustomize.py").write_text("import sys\nsys.modules['vl_convert'] = None\n")
        job.environment["PYTHONPATH"] = str(hider)
    options = ("--no-report",) if without == "option" else ()
    with serving(job, *options) as exporter:
        told = get(exporter.url).decode()
    assert "see /metrics and /health" in told
    assert ("pip install '.[report]'" in told) is (without == "extra")
