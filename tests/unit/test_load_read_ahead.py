"""Blocks that another thread reads ahead: their order, their errors, their number in memory, and the thread's end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from floodmark.errors import StorageUnavailable
from floodmark.load import read_ahead as module
from floodmark.load.read_ahead import read_ahead


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "floodmark-read-ahead"]


def test_all_blocks_come_in_order() -> None:
    blocks = [b"%d" % number * 1000 for number in range(3000)]
    assert list(read_ahead(iter(blocks))) == blocks and not threads()
    assert list(read_ahead(iter([]))) == []


def test_an_error_comes_after_the_blocks_before_it() -> None:
    def breaking() -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        raise StorageUnavailable("get an object", why="a test says so")

    reading, found = read_ahead(breaking()), []
    with pytest.raises(StorageUnavailable, match="get an object"):
        for block in reading:
            found.append(block)
    assert found == [b"1", b"2"] and not threads()


@pytest.mark.parametrize("size", [1000, 10**6, 10**7])
def test_no_more_waits_than_is_allowed_and_one_block(size: int) -> None:
    made: list[int] = []
    go_on = threading.Semaphore(0)

    def endless() -> Iterator[bytes]:
        for number in count():
            made.append(number)
            go_on.release()
            yield bytes(size)

    reading = read_ahead(endless())
    allowed = module._AHEAD // size + 1
    for taken in range(1, 4):
        assert len(next(reading)) == size
        for _ in range(allowed if taken == 1 else 0):
            assert go_on.acquire(timeout=10)
    threading.Event().wait(0.05)  # time for one block too many
    assert allowed <= len(made) <= allowed + 3
    reading.close()
    assert not threads()


def test_a_reader_that_leaves_ends_the_thread() -> None:
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(10**6)
        finally:
            closed.append(True)

    reading = read_ahead(endless())
    next(reading)
    assert threads()
    reading.close()
    assert not threads() and closed == [True]
