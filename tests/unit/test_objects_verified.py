"""Reading one object: its end is handed out only once the whole of it was verified."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pytest
import zstandard
from msgspec.structs import replace

from fix_state import put
from floodmark.errors import ObjectMissing, StorageUnavailable, VerificationFailed
from floodmark.model import Chunk, Encoding, ObjectEntry
from floodmark.objects.stored import BLOCK, Stored
from floodmark.objects.verified import blocks, verified_blocks
from floodmark.storage.memory import MemoryStorage

Compression = Literal["gzip", "zstd", "none"]
COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "none": bytes,
}
# Several blocks, one line longer than a block, and an end that shares a block with nothing.
LINES = [b'{"n":%d,"t":"%s"}\n' % (n, hashlib.sha256(b"%d" % n).hexdigest().encode()) for n in range(9000)]
LINES[4000] = b'{"n":4000,"t":"%s"}\n' % (b"x" * 3 * BLOCK)
RAW = b"".join(LINES)


def landed(compression: Compression, raw: bytes = RAW) -> tuple[MemoryStorage, ObjectEntry, Encoding]:
    stored = COMPRESS[compression](raw)
    entry = ObjectEntry(
        "data/t.jsonl",
        raw.count(b"\n"),
        len(raw),
        len(stored),
        hashlib.sha256(stored).hexdigest(),
        hashlib.sha256(raw).hexdigest(),
        Chunk("1"),
        "extracted",
    )
    store = MemoryStorage("memory:lake")
    put(store, entry.key, stored)
    return store, entry, Encoding("jsonl", compression)


@pytest.mark.parametrize("compression", COMPRESS)
def test_the_lines_are_those_that_were_landed_in_blocks_of_whole_lines(compression: Compression) -> None:
    found = list(blocks(*landed(compression)))
    assert b"".join(found) == RAW and len(found) > 3
    assert all(block.endswith(b"\n") for block in found)
    assert sorted(len(block) for block in found)[-2] < 3 * BLOCK


def test_a_block_stays_small_however_well_the_lines_were_compressed() -> None:
    """22 MB of the same line in some KiB: no block holds more than a few hundred KiB of it."""
    assert max(map(len, blocks(*landed("gzip", b'{"a":null}\n' * 2_000_000)))) <= 2 * BLOCK


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "the last byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-1],
    "too long": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "other data": lambda data: COMPRESS["gzip"](RAW[:-1] + b" \n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("compression", COMPRESS)
def test_a_damaged_object_is_an_error_before_its_end_is_handed_out(compression: Compression, damage: str) -> None:
    store, entry, encoding = landed(compression)
    put(store, entry.key, DAMAGES[damage](store.get(entry.key).data))
    got: list[bytes] = []
    with pytest.raises(VerificationFailed) as refusal:
        got.extend(blocks(store, entry, encoding))
    assert refusal.value.exit_code == 14 and "memory:lake/data/t.jsonl" in refusal.value.sentence
    assert len(b"".join(got)) < len(RAW), "all of it was handed out although it is damaged"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("compression", COMPRESS)
def test_of_a_damaged_object_not_one_block_is_handed_out(compression: Compression, damage: str) -> None:
    store, entry, encoding = landed(compression)
    assert list(verified_blocks(store, entry, encoding)) == list(blocks(store, entry, encoding))
    put(store, entry.key, DAMAGES[damage](store.get(entry.key).data))
    with pytest.raises(VerificationFailed):
        next(verified_blocks(store, entry, encoding))


def test_lines_that_are_not_those_that_were_extracted_are_not_handed_out() -> None:
    """Even if the stored bytes are those that the manifest gives: it could contradict itself."""
    store, entry, encoding = landed("gzip")
    wrong = replace(entry, content_sha256="0" * 64)
    assert b"".join(blocks(store, wrong, encoding)) == RAW
    with pytest.raises(VerificationFailed, match="its lines are not those that were extracted"):
        next(verified_blocks(store, wrong, encoding))


def test_an_object_is_fetched_once_and_its_spool_is_gone_when_the_caller_stops() -> None:
    store, entry, encoding = landed("none")
    counting = Breaking()
    put(counting, entry.key, store.get(entry.key).data)
    counting.breaks = 0
    found = verified_blocks(counting, entry, encoding)
    assert RAW.startswith(next(found))
    found.close()
    assert counting.breaks == -1


def test_an_object_whose_lines_are_not_what_the_manifest_says() -> None:
    store, entry, encoding = landed("gzip")
    wrong = ObjectEntry(
        entry.key, 8999, entry.raw_bytes, entry.stored_bytes, entry.sha256, entry.content_sha256, Chunk("1"), "reused"
    )
    with pytest.raises(VerificationFailed, match="it has 9,000 rows, not 8,999"):
        list(blocks(store, wrong, encoding))


def test_a_missing_object_is_said_with_its_place() -> None:
    store, entry, encoding = landed("gzip")
    store.delete(entry.key)
    with pytest.raises(ObjectMissing) as refusal:
        list(blocks(store, entry, encoding))
    assert "run --table T --full" in (refusal.value.hint or "")


class Breaking(MemoryStorage):
    """Streams that break after so many bytes, the first few times."""

    breaks = 3

    def open(self, key: str) -> BinaryIO:
        data = super().open(key).read()
        self.breaks -= 1
        if self.breaks < 0:
            return io.BytesIO(data)
        return cast(BinaryIO, Torn(data[: 20_000 * (3 - self.breaks)]))


class Torn(io.BytesIO):
    def read(self, amount: int | None = -1) -> bytes:
        data = super().read(amount)
        if not data:
            raise StorageUnavailable("read an object", why="the connection broke")
        return data


def test_a_stream_that_breaks_is_read_on_from_where_it_was() -> None:
    store, entry, _ = landed("none")
    breaking = Breaking()
    put(breaking, entry.key, store.get(entry.key).data)
    waits: list[float] = []
    stored = Stored(breaking, entry, sleep=waits.append)
    assert b"".join(iter(lambda: stored.read(BLOCK), b"")) == RAW
    assert stored.fault() is None and len(waits) == 3
    assert breaking.breaks == -1


def test_the_reader_needs_no_database_driver() -> None:
    """Nor boto3, pyarrow and duckdb, before they are asked for."""
    program = "import sys, floodmark.reader, floodmark.load.job, floodmark.reader.schema; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"boto3", "sqlalchemy", "psycopg", "psycopg_binary", "pyarrow", "duckdb", "rich", "yaml"}
    assert "floodmark" in loaded and "msgspec" in loaded


HOLD = """
import hashlib, re, sys
from pathlib import Path
from floodmark.model import Chunk, Encoding, ObjectEntry
from floodmark.objects.verified import verified_blocks
from floodmark.storage.local import LocalStorage

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

block, digest, size = b"x" * 1023 + b"\\n", hashlib.sha256(), 0
with open(sys.argv[1] + "/big", "wb") as file:
    for _ in range(160):
        file.write(block * 1024)
        digest.update(block * 1024)
        size += 1024**2
rows, sha = size // 1024, digest.hexdigest()
before = peak()
entry = ObjectEntry("big", rows, size, size, sha, sha, Chunk("1"), "extracted")
read = sum(map(len, verified_blocks(LocalStorage(Path(sys.argv[1])), entry, Encoding("jsonl", "none"))))
print(read == size, peak() - before)
"""


def test_memory_stays_flat_while_a_large_object_is_held_back(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, check=True, text=True)
    same, grown = done.stdout.split()
    assert same == "True" and int(grown) < 60, f"{grown} MiB more for an object of 160 MiB"
