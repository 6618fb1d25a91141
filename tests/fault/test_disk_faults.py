"""A disk that is full, fails, or may not be written to: exit 13 with the errno's name, and what was there stays."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fix_canaries import TABLES
from fix_command import Floodmark, Landing, keys
from fix_postgres import PgDatabase
from fix_seccomp import refusing
from fix_storage import S3Bucket, S3Server, environment
from floodmark.state.ledger import Ledger
from floodmark.storage.local import LocalStorage


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


FAULTS: dict[str, Callable[[], None]] = {
    "ENOSPC": refusing("write", errno.ENOSPC),
    "EDQUOT": refusing("write", errno.EDQUOT),
    "EIO": refusing("fsync", errno.EIO),
    "EFBIG": small_files,
}


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    pg.execute(TABLES)
    places = {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    return Floodmark(tmp_path / "job", places)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_takes_no_more(floodmark: Floodmark, pg: PgDatabase, tmp_path: Path, fault: str) -> None:
    first = floodmark.run().manifest
    landing = Landing(tmp_path / "out")
    before = landing.committed
    pg.execute("UPDATE person SET name = name || md5(id::text) || md5(name)")
    refused = floodmark("run", code=13, preexec_fn=FAULTS[fault])
    assert fault in refused.err and "\n  " in refused.err
    assert {key: landing.committed.get(key) for key in before} == before
    assert [one.run_id for one in Ledger(LocalStorage(landing.folder / "_floodmark")).history()] == [first.run_id]
    assert not list(landing.folder.rglob(".floodmark-[0-9a-f]*")) and not list(floodmark.temporary.iterdir())
    assert floodmark.run().outcomes["public.person"] == ("extracted", "rows_changed")
    assert len(landing.lines("public.person")) == 2000


def test_a_folder_that_may_not_be_written_to(floodmark: Floodmark, pg: PgDatabase, tmp_path: Path) -> None:
    """As an ordinary user sees it, whoever runs the tests."""
    floodmark.run()
    before = Landing(tmp_path / "out").files
    pg.execute("INSERT INTO person VALUES (0, 'new')")
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    floodmark.environment["FLOODMARK_DESTINATION"] = str(folder)
    refused = floodmark("run", code=13, preexec_fn=without_root)
    assert "EACCES" in refused.err and "The user Floodmark runs as needs to write there" in refused.err
    assert list(folder.iterdir()) == [] and Landing(tmp_path / "out").files == before


def without_root() -> None:
    """Drop the right to pass over permissions, where there is one: the user's files stay its own."""
    if os.geteuid() == 0:
        import ctypes  # noqa: PLC0415 - in the child, after the fork

        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: out of what an exec may have again
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


def test_no_room_for_temporary_files(
    floodmark: Floodmark, pg: PgDatabase, s3_server: S3Server, s3_bucket: S3Bucket
) -> None:
    pg.execute(
        "CREATE TABLE wide AS SELECT repeat(md5(n::text), 300) AS t FROM generate_series(1, 3000) n"  # 29 MB of lines
    )
    floodmark.environment |= {**environment(s3_server.endpoint), "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake"}
    floodmark.configure("destination: {compression: none}\n")
    named: dict[str, Any] = {"preexec_fn": FAULTS["ENOSPC"]}
    refused = floodmark("run", code=13, **named)
    assert "can't write a temporary file" in refused.err and "TMPDIR" in refused.err
    assert not [key for key in keys(s3_bucket) if key.endswith("head.json")]
    assert set(floodmark.run().outcomes) == {"public.person", "public.sick", "public.wide"}
