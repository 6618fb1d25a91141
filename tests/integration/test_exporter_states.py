"""An exporter of many states as a real process, on S3: what it shows, and what it costs."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from fix_command import Floodmark
from fix_many_states import Database, Serving, make_states, serving
from fix_prometheus import eventually, get, require_clean
from fix_storage import S3Bucket

MEMORY, SCRAPE = 256.0, 1.0  # MiB and seconds: the budgets
STATES, TABLES = 60, 5_000


@pytest.fixture
def job(tmp_path: Path, s3_bucket: S3Bucket) -> Floodmark:
    """Commands that find the bucket and nothing else."""
    found = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "NO_PROXY"}
    return Floodmark(tmp_path / "job", found)


def scrape(exporter: Serving) -> tuple[float, bytes]:
    """How long a scrape takes as Prometheus makes it, and what it gives."""
    begun = time.monotonic()
    with urlopen(Request(f"{exporter.url}/metrics", headers={"Accept-Encoding": "gzip"})) as answer:
        body: bytes = answer.read()
    return time.monotonic() - begun, gzip.decompress(body)


def open_report(exporter: Serving) -> str:
    """The report, however long it takes to make."""
    return str(eventually(lambda: get(exporter.url), "the report").decode())


def test_one_exporter_serves_many_states_and_one_that_is_away(job: Floodmark, s3_bucket: S3Bucket) -> None:
    places = [f"{s3_bucket.url}/{name}/_floodmark" for name in ("cases", "staff", "other")]
    names = [Database(name="cases"), Database(name="staff", failed=1), Database(name="staff")]
    make_states(dict(zip(places, names, strict=True)))
    away = "s3://there-is-no-such-bucket/_floodmark"
    job.configure("states:\n" + "".join(f"  - {place}\n" for place in (places[0], away, *places[1:])))
    with serving(job, "--interval", "1", "--log-format", "json") as exporter:
        read = f'floodmark_ledger_last_read_timestamp_seconds{{state_url="{places[2]}"}} 1.'
        wanted = ('database="staff"', 'database="cases"', read)
        eventually(lambda: all(one in exporter.metrics() for one in wanted), "the states")
        text = exporter.metrics()
        time.sleep(1.5)  # the state that is away is tried twice
    require_clean(text.encode())
    up = {line for line in text.splitlines() if line.startswith("floodmark_ledger_up")}
    known = {places[0]: 1, away: 0, places[1]: 1, places[2]: 0}
    assert up == {f'floodmark_ledger_up{{state_url="{place}"}} {number}.0' for place, number in known.items()}
    assert 'floodmark_run_status{database="staff",status="partial"} 1.0' in text
    lines = [json.loads(line) for line in exporter.log.splitlines()]
    why = {line["state"]: line["why"] for line in lines if line["event"] == "state_unreadable"}
    assert set(why) == {away, places[2]} and "the same name" in why[places[2]]
    with serving(job, "--interval", "1", "--state-label", "--state", places[1], "--state", places[2]) as exporter:
        eventually(lambda: exporter.metrics().count("floodmark_run_exit_code{") == 2, "both states")
        assert f'floodmark_run_exit_code{{database="staff",state_url="{places[1]}"}} 3.0' in exporter.metrics()


@pytest.mark.soak
def test_sixty_states_of_five_thousand_tables_cost_little(job: Floodmark, s3_bucket: S3Bucket) -> None:
    sizes = [TABLES // STATES + (number < TABLES % STATES) for number in range(STATES)]
    databases = [Database(name=f"db{n}", tables=size, chunks=4, nights=5) for n, size in enumerate(sizes)]
    places = {f"{s3_bucket.url}/{one.name}/_floodmark": one for one in databases}
    make_states(places)
    job.configure("states:\n" + "".join(f"  - {place}\n" for place in places))
    pages: list[str] = []
    with serving(job, "--interval", "2") as exporter:
        eventually(lambda: exporter.metrics().count("floodmark_table_rows{") == TABLES, "all states")
        report = threading.Thread(target=lambda: pages.append(open_report(exporter)))
        report.start()
        scrapes = []
        while report.is_alive() or len(scrapes) < 20:  # readings go on meanwhile, and the report is made
            scrapes.append(scrape(exporter))
            time.sleep(0.3)
        (page,) = pages
        assert page.count("db59") and len(page) > 1_000_000
        slowest, size = max(took for took, _ in scrapes), len(scrapes[-1][1])
        print(f"slowest scrape {slowest:.3f} s, {size / 1e6:.1f} MB, peak {exporter.peak_mib():.0f} MiB")
        assert slowest < SCRAPE and exporter.peak_mib() < MEMORY
