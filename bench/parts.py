"""The case `parts`: the processor time of each step of a full extraction, measured one by one on the same rows.

Each step runs in this process, on one core. `full` measures the whole run, and the server's part in it.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from isal import isal_zlib

from bench import data
from bench.outcome import Finding, Outcome, Skipped
from bench.session import Session
from floodmark.source.postgres.native_rows import find_libpq

# The encoder's name for each type of the table.
KINDS = {
    "bigint": "int8", "uuid": "uuid", "timestamp with time zone": "timestamptz", "text": "text", "numeric": "numeric",
    "boolean": "bool", "jsonb": "jsonb", "double precision": "float8", "date": "date",
}  # fmt: skip
ROWS = "COPY event TO STDOUT (FORMAT binary)"
# Lines or rows of one call, as in a run.
BLOCK = 256 * 1024


def outcomes(session: Session) -> list[Outcome]:
    if find_spec("floodmark.native") is None or find_spec("floodmark.native.encoder") is None:
        raise Skipped("the native encoder is not built")
    assert session.full_bytes
    with session.bench.connect(data.FULL) as connection:
        columns = data.columns(connection)
    runs = session.options.runs
    native = import_module("floodmark.native.encoder")
    libpq = find_libpq(native)
    if libpq is None:
        raise Skipped("psycopg has no compiled module")
    encoder = native.Encoder([(name, KINDS[kind]) for name, kind in columns], "jsonl")
    both = median(_receive(session, encoder, libpq) for _ in range(runs))
    batches = _batches(session)
    encoded = median(_taken(lambda: _encode(encoder, batches)) for _ in range(runs))
    lines = [bytes(encoder.message(batch)[0]) for batch in batches]
    rows, size = sum(block.count(b"\n") for block in lines), sum(len(block) for block in lines)
    if rows != session.options.full_rows:
        raise AssertionError(f"{rows} rows were encoded")
    steps = [Finding("receiving binary rows: kernel, libpq", both - encoded, "s"), Finding("encoding", encoded, "s")]
    steps += _storing(session, lines)
    note = f"{rows:,} rows of {len(columns)} columns, {size / 1e6:.0f} MB of lines. Processor time of one core."
    return [
        Outcome("parts", "steps of a full extraction", (), tuple(steps), (note,)),
        Outcome("compression", "compression of the lines", (), tuple(_compressions(lines))),
    ]


def _storing(session: Session, lines: list[bytes]) -> list[Finding]:
    """Measure the steps from lines to a file."""
    runs = session.options.runs
    stored = _compressed(isal_zlib.compressobj, 1, lines)
    file = session.folder / "parts.gz"
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("SHA-256 of the lines", lambda: _hash(lines)),
        ("gzip level 1", lambda: _compressed(isal_zlib.compressobj, 1, lines)),
        ("SHA-256 of the stored bytes", lambda: _hash(stored)),
        ("writing and syncing the stored bytes", lambda: _write(file, stored)),
    )
    found = [Finding(what, median(_taken(step) for _ in range(runs)), "s") for what, step in steps]
    file.unlink()
    return found


def _compressions(lines: list[bytes]) -> Iterable[Finding]:
    """Yield the rate and the result of each compressor, on a tenth of the lines."""
    some = lines[:: max(1, len(lines) // 100)]
    size = sum(len(block) for block in some)
    for name, compressor, level in _compressors():
        begun = time.process_time()
        stored = sum(len(block) for block in _compressed(compressor, level, some))
        seconds = max(time.process_time() - begun, 0.001)
        yield Finding(f"{name} level {level}, lines per second", size / 1e6 / seconds, "MB")
        yield Finding(f"{name} level {level}, stored", 100 * stored / size, "%")


def _compressors() -> Iterable[tuple[str, Callable[..., Any], int]]:
    yield from (("gzip (isal)", isal_zlib.compressobj, level) for level in (0, 1, 2, 3))
    yield from (("gzip (zlib)", zlib.compressobj, level) for level in (1, 6))
    if find_spec("zstandard") is not None:
        library = import_module("zstandard")
        yield from (("zstd", lambda level: library.ZstdCompressor(level=level).compressobj(), n) for n in (1, 3))


def _receive(session: Session, encoder: Any, libpq: Any) -> float:
    """Return the processor time of receiving and encoding, without that of starting the statement."""
    with session.bench.connect(data.FULL) as connection, connection.cursor() as cursor, cursor.copy(ROWS) as copy:
        pointer, state = connection.pgconn.pgconn_ptr, "more"  # type: ignore[attr-defined]  # not in its protocol
        begun = time.process_time()
        while state == "more":
            _, _, state = encoder.receive(libpq, pointer, BLOCK)
        taken = time.process_time() - begun
        if state != "end" or copy.read():
            raise AssertionError(f"the stream ended with {state}")
        return taken


def _batches(session: Session) -> list[bytes]:
    found, batch = [], bytearray()
    with session.bench.connect(data.FULL) as connection, connection.cursor() as cursor, cursor.copy(ROWS) as copy:
        for message in copy:
            batch += message
            if len(batch) >= BLOCK:
                found.append(bytes(batch))
                batch.clear()
    return [*found, bytes(batch)]


def _encode(encoder: Any, batches: Iterable[bytes]) -> None:
    for batch in batches:
        encoder.message(batch)


def _hash(blocks: Iterable[bytes]) -> None:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)


def _compressed(compressor: Callable[..., Any], level: int, blocks: Iterable[bytes]) -> list[bytes]:
    packing = compressor(level)
    return [*(packing.compress(block) for block in blocks), packing.flush()]


def _write(file: Path, blocks: Iterable[bytes]) -> None:
    with file.open("wb") as target:
        for block in blocks:
            target.write(block)
        target.flush()
        os.fsync(target.fileno())


def _taken(step: Callable[[], object]) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun
