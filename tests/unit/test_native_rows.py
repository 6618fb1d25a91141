"""The messages of a binary COPY before the encoder sees them: groups, batches, and streams that are not whole."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest

from floodmark.source.postgres.native_rows import _END, _HEADER, LineWriter, _batches, _groups, _WrongMessage


def group(records: bytes | None, rows: int, frozen: int) -> bytes:
    held = struct.pack(">i", -1) if records is None else struct.pack(">i", len(records)) + records
    return struct.pack(">h", 3) + held + struct.pack(">iqiq", 8, rows, 8, frozen)


def test_groups_are_taken_apart() -> None:
    stream = [_HEADER + group(b"ab", 3, 1), group(None, 2, 0), group(b"", 0, 0), _END]
    assert list(_groups(stream)) == [(b"ab", 3, 1), (None, 2, 0), (b"", 0, 0)]
    assert list(_groups([_HEADER + _END])) == []


GOOD = group(b"abc", 3, 1)
BROKEN: dict[str, Sequence[bytes]] = {
    "nothing": [],
    "no header": [GOOD, _END],
    "no end": [_HEADER + GOOD],
    "more after the end": [_HEADER + GOOD, _END, GOOD],
    "another number of values": [_HEADER + b"\0\2" + GOOD[2:], _END],
    "a count of another size": [_HEADER + GOOD[:9] + struct.pack(">iqiq", 4, 1, 8, 1), _END],
    "a negative length": [_HEADER + GOOD[:2] + struct.pack(">i", -2) + GOOD[9:], _END],
    "a length beyond the end": [_HEADER + GOOD[:2] + struct.pack(">i", 2**31 - 1) + GOOD[6:], _END],
    "bytes at the end": [_HEADER + GOOD + b"x", _END],
    **{f"cut at {at}": [_HEADER + GOOD[:at], _END] for at in range(3, len(GOOD))},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_stream_of_groups_that_is_not_whole_is_refused(what: str) -> None:
    with pytest.raises(_WrongMessage):
        list(_groups(BROKEN[what]))


class FakeCopy:
    """A COPY whose messages have arrived before they are asked for, or come one by one."""

    def __init__(self, messages: Sequence[bytes], arrived: bool) -> None:
        self.connection = self.pgconn = self
        self._messages, self._arrived = list(messages), arrived

    def get_copy_data(self, _asynchronous: int) -> tuple[int, bytes]:
        if not self._arrived:
            return 0, b""
        return (len(self._messages[0]), self._messages.pop(0)) if self._messages else (-1, b"")

    def read(self) -> bytes:
        return self._messages.pop(0) if self._messages else b""

    def get_result(self) -> None:
        return None

    def is_busy(self) -> bool:
        return False  # the end of the COPY has arrived

    @property
    def socket(self) -> int:
        return 0  # nobody waits for it


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("size", [5, 300_000, 70_000])
def test_batches_hold_every_message_once(arrived: bool, size: int) -> None:
    messages = [_HEADER + b"r", *(bytes([number]) * size for number in range(1, 20)), _END]
    copy: Any = FakeCopy(messages, arrived)
    found = [bytes(batch) for batch in _batches(copy)]
    assert b"".join(found) == b"".join(messages)
    assert len(found) < len(messages) or size > 256 * 1024
    none: Any = FakeCopy([_HEADER + _END], arrived)
    assert b"".join(bytes(batch) for batch in _batches(none)) == _HEADER + _END


@pytest.mark.parametrize("arrived", [True, False])
def test_a_stream_of_rows_without_its_end_is_refused(arrived: bool) -> None:
    copy: Any = FakeCopy([_HEADER + b"row", b"row"], arrived)
    with pytest.raises(_WrongMessage, match="no end"):
        list(_batches(copy))


def test_few_lines_are_collected_and_many_are_passed_on_as_they_are() -> None:
    blocks: list[bytes] = []
    lines = LineWriter(lambda block: blocks.append(bytes(block)))
    for _ in range(10):
        lines.take(memoryview(b"a\n" * 20), 20)
    lines.take(memoryview(b"b\n" * 100_000), 100_000)
    lines.take(memoryview(b"c\n"), 1)
    lines.flush()
    assert [len(block) for block in blocks] == [400, 200_000, 2] and lines.number == 100_201
