"""The memory that large documents of the state take, per chunk, and their size."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest
from msgspec.structs import replace

from fix_state import entry, manifest, point, quick_ledger, stored
from floodmark.errors import StateUnreadable
from floodmark.model import Chunk, ObjectEntry
from floodmark.state import manifest as documents
from floodmark.state.manifest import Manifest, decode, encode
from floodmark.state.run_list import known_runs
from floodmark.storage.memory import MemoryStorage

CHUNKS = 2_000
# Measured: 1,010 bytes with 64-bit pointers. As dicts, the same document takes more than 3,000.
BYTES_A_CHUNK = 1_300
DOCUMENT_BYTES_A_CHUNK = 700
Result = TypeVar("Result")


def one_object(number: int) -> ObjectEntry:
    key = f"data/database_name=cases/table_name=event/extraction_timestamp=20261123010000Z/event-{number:05d}.jsonl.gz"
    return replace(stored(key), chunk=Chunk("16385", number * 8192, number * 8192 + 8192))


def large(run_id: str = "r1") -> Manifest:
    return manifest(run_id, point(1), entry("event", point(1), *map(one_object, range(CHUNKS))), uploaded_bytes=1)


def peak(work: Callable[[], Result]) -> tuple[Result, int]:
    """Return the result, and the most bytes that were in use at once."""
    gc.collect()
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_manifest_takes_little_memory_while_it_is_read() -> None:
    data = encode(large())
    found, most = peak(lambda: decode(Manifest, data, "manifest"))
    assert found == large() and most < BYTES_A_CHUNK * CHUNKS


def test_a_large_document_has_no_blanks_and_a_small_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(large())
    assert data.count(b"\n") == 0 and len(data) < DOCUMENT_BYTES_A_CHUNK * CHUNKS
    monkeypatch.setattr(documents, "MOST_INDENTED", len(data))
    indented = encode(large())
    assert indented.endswith(b"}\n") and msgspec.json.decode(indented) == msgspec.json.decode(data)


def test_a_list_of_runs_does_not_hold_the_chunks_of_each() -> None:
    ledger, base = quick_ledger(MemoryStorage("memory:state")), None
    for number in range(8):
        parent = None if base is None else base.head.manifest
        ledger.commit(replace(large(f"r{number}"), parent=parent), base)
        base = ledger.current()
    del base
    _, of_one = peak(lambda: ledger.current())
    runs, most = peak(lambda: known_runs(ledger))
    assert len(runs) == 8 and most < 2.5 * of_one


def test_damage_in_the_middle_is_refused_with_its_place() -> None:
    data = encode(large())
    for broken, why in (
        (data.replace(b'"rows":3,"raw_bytes":90', b'"rows":"3","raw_bytes":90', 1), r"Expected `int`, got `str`"),
        (data[: len(data) // 2], "not JSON"),
        (data.replace(b"event-00999", b"event-\xff0999", 1), "not JSON"),
        (data.replace(b'"uploaded_bytes"', b'"uploaded_byte\xff"', 1), "not JSON"),
    ):
        with pytest.raises(StateUnreadable, match=why):
            decode(Manifest, broken, "manifest")
