"""What is told of an object that is read through: each way in which it can differ, in every encoding."""

from __future__ import annotations

import hashlib
import io
import threading
import tracemalloc
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from isal import igzip
from msgspec.structs import replace

from fix_state import put
from floodmark.engine.base import TaskStopped
from floodmark.errors import StorageUnavailable, VerificationFailed
from floodmark.events import Event, Retried, ignore_event
from floodmark.model import Chunk, Encoding, ObjectEntry
from floodmark.objects import verified
from floodmark.objects.stored import ObjectFault
from floodmark.storage.memory import MemoryStorage
from floodmark.verify import objects

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": igzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
LINES = b'{"a":1}\n{"a":"two"}\n'


def stored(raw: bytes, rows: int, kind: str = "jsonl", packed: str = ".gz") -> tuple[MemoryStorage, ObjectEntry]:
    """An object, and what a manifest says of it."""
    store, data = MemoryStorage(), PACK[packed](raw)
    key = f"data/database_name=d/table_name=t/extraction_timestamp=20261123010000Z/t-00000.{kind}{packed}"
    put(store, key, data)
    digest, content = (hashlib.sha256(one).hexdigest() for one in (data, raw))
    return store, ObjectEntry(key, rows, len(raw), len(data), digest, content, Chunk("1"), "extracted")


def told(store: MemoryStorage, entry: ObjectEntry) -> str | None:
    fault = objects.read(store, entry, lambda: False, ignore_event)
    return None if fault is None else f"{fault.code}: {fault.detail}"


@pytest.mark.parametrize("packed", PACK)
def test_what_differs_is_told(packed: str) -> None:
    store, entry = stored(LINES, 2, packed=packed)
    assert told(store, entry) is None
    for change, expected in (
        ({"rows": 3}, "wrong_content: it has 2 rows, not 3"),
        ({"raw_bytes": 19}, "wrong_content: its lines have more than 19 bytes"),
        ({"content_sha256": "0" * 64}, "wrong_content: its lines are not those that were extracted"),
        ({"sha256": "0" * 64}, "wrong_checksum: its SHA-256 is not the one it was written with"),
        ({"stored_bytes": 7}, "wrong_size: it has"),
        ({"key": "data/gone" + packed}, "missing: the object is gone"),
    ):
        found = told(store, replace(entry, **change))  # type: ignore[arg-type]
        assert found is not None and found.startswith(expected)


def test_a_last_line_that_does_not_end_is_told() -> None:
    store, entry = stored(b'{"a":1}\n{"a":2}', 1)
    assert told(store, entry) == "wrong_content: its last line does not end"
    with pytest.raises(VerificationFailed, match="does not end"):
        list(verified.blocks(store, entry, Encoding("jsonl", "gzip")))


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"?" + data[1:], lambda data: data + b"??"])
def test_what_can_not_be_decompressed_is_told(packed: str, damage: Callable[[bytes], bytes]) -> None:
    """Both where the store broke it, and where it was written so: then the bytes' own digest is right."""
    store, entry = stored(LINES, 2, packed=packed)
    data = damage(store.get(entry.key).data)
    put(store, entry.key, data)
    found = told(store, entry)
    assert found is not None and found.startswith(("wrong_size", "wrong_checksum"))
    as_written = replace(entry, stored_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    found = told(store, as_written)
    assert found is not None and found.startswith("wrong_content")


@given(st.lists(st.lists(st.text(st.sampled_from('a,"\n\r'), max_size=4), min_size=1, max_size=3), max_size=8))
def test_csv_has_as_many_rows_as_records(rows: list[list[str]]) -> None:
    text = "".join(",".join('"' + one.replace('"', '""') + '"' for one in row) + "\n" for row in [["h,\n"], *rows])
    store, entry = stored(text.encode(), len(rows), "csv")
    assert told(store, entry) is None


def test_a_table_of_the_name_csv_is_no_csv() -> None:
    """Its key is `audit.csv-00000.jsonl`; an odd quote in a line must not be taken for the beginning of a field."""
    store, entry = stored(b'{"a":"b"}\n' * 3, 3)
    other = replace(entry, key=entry.key.replace("/t-", "/audit.csv-"))
    put(store, other.key, store.get(entry.key).data)
    assert told(store, other) is None


def test_a_csv_record_may_lie_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    store, entry = stored(b'h\n"a ""b""\n\n"\n\n"""\n"\n', 3, "csv")
    for block in range(1, 12):
        monkeypatch.setattr(verified, "BLOCK", block)
        assert told(store, entry) is None, block


class Breaking(MemoryStorage):
    """A store whose streams fail at the end of what they hold, as long as there are reasons."""

    def __init__(self, *why: str) -> None:
        super().__init__()
        self.why = [*why]

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, Torn(super().open(key).read(), self.why))


class Torn(io.BytesIO):
    def __init__(self, data: bytes, why: list[str]) -> None:
        super().__init__(data)
        self.why = why

    def read(self, amount: int | None = -1) -> bytes:
        data = super().read(amount)
        if not data and self.why:
            raise StorageUnavailable("read an object", why=self.why.pop())
        return data


def broken(*why: str) -> tuple[Breaking, ObjectEntry]:
    store, entry = stored(LINES, 2)
    breaking = Breaking(*why)
    put(breaking, entry.key, store.get(entry.key).data)
    return breaking, entry


def test_a_stream_that_breaks_is_continued_and_one_that_the_store_finds_broken_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    events: list[Event] = []
    store, entry = broken("a reset", "a reset")
    assert objects.read(store, entry, lambda: False, events.append) is None
    assert [event.why for event in events if isinstance(event, Retried)] == ["a reset", "a reset"]
    fault = objects.read(*broken(*["FlexibleChecksumError"] * 10), lambda: False, ignore_event)
    assert isinstance(fault, ObjectFault) and fault.code == "wrong_checksum"
    with pytest.raises(StorageUnavailable):
        objects.read(*broken(*["a reset"] * 99), lambda: False, ignore_event)


class ChangedOnTheWay(MemoryStorage):
    """A store whose first stream delivers one wrong byte, which the checksum shows at the end of the stream."""

    first = True

    def open(self, key: str) -> BinaryIO:
        data = super().open(key).read()
        if not self.first:
            return io.BytesIO(data)
        self.first = False
        return cast(BinaryIO, Torn(bytes([data[0] ^ 1]) + data[1:], ["FlexibleChecksumError"]))


def test_bytes_that_changed_on_the_way_are_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    store, entry = stored(LINES * 20_000, 40_000, packed="")
    changing, events = ChangedOnTheWay(), list[Event]()
    put(changing, entry.key, store.get(entry.key).data)
    assert objects.read(changing, entry, lambda: False, events.append) is None
    assert [one.why for one in events if isinstance(one, Retried)] == [
        "FlexibleChecksumError",
        "its SHA-256 is not the one it was written with",
    ]


def test_a_reader_calls_it_damage_too_if_the_store_delivers_other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers got exit code 13 and were told of the network, in release 0.1.0."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    store, entry = broken(*["FlexibleChecksumError"] * 9)
    with pytest.raises(VerificationFailed, match="the store delivers other bytes"):
        list(verified.blocks(store, entry, Encoding("jsonl", "gzip")))


def test_a_store_that_is_gone_is_not_waited_for_twice() -> None:
    """The store has its own retries. Only streams that break are opened again."""
    store, entry = stored(LINES, 2)
    opened: list[str] = []

    def gone(operation: str, key: str, moment: str) -> None:
        if (operation, moment) == ("open", "before"):
            opened.append(key)
            raise StorageUnavailable("read an object", on=key, why="a reset")

    store.faults = gone
    with pytest.raises(StorageUnavailable):
        objects.read(store, entry, lambda: False, ignore_event)
    assert opened == [entry.key]


def test_memory_stays_flat_and_a_stop_is_heard() -> None:
    """100 MB of lines that compress to almost nothing, read through in a few blocks' worth."""
    raw = (b"x" * 99 + b"\n") * 1_000_000
    store, entry = stored(raw, 1_000_000)
    del raw
    tracemalloc.start()
    assert told(store, entry) is None
    assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    tracemalloc.stop()
    stop = threading.Event()
    stop.set()
    with pytest.raises(TaskStopped):
        objects.read(store, entry, stop.is_set, ignore_event)
