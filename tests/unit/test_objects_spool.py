"""The spool: what it holds, and a disk that takes no more at any point."""

from __future__ import annotations

import hashlib
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from floodmark.errors import StorageError
from floodmark.objects.spool import Spool

LIMIT = 10_000


@contextmanager
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("memory", [1, 10_000])
def test_a_spool_gives_back_what_was_written_with_its_size_and_digest(memory: int) -> None:
    with Spool(memory) as spool:
        spool.write(b"a" * 700)
        spool.write(b"b" * 700)
        body = spool.body
        data = body.stream.read()
    assert data == b"a" * 700 + b"b" * 700
    assert (body.size, body.sha256) == (1400, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("block", [100, 4000, 6000, 9999, 10_001, 300_000])
def test_a_full_disk_is_a_storage_error_wherever_it_is_noticed(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small block waits in a buffer: it does not fit when it is read back, or when the file is closed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in range(-(-(LIMIT + 1) // block), 4 + 2 * LIMIT // block):
        with (
            small_files(),
            pytest.raises(StorageError, match="can't write a temporary file") as full,
            Spool(1) as spool,
        ):
            for _ in range(number):
                spool.write(b"x" * block)
            assert spool.body
        assert "TMPDIR" in (full.value.hint or "")


def test_an_error_is_not_replaced_by_that_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with small_files(), pytest.raises(KeyError), Spool(1) as spool:
        for _ in range(11):
            spool.write(b"x" * 1000)
        raise KeyError
