"""The output of a program: its size, and the number of rows in it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet

_BLOCK = 1024 * 1024


def written_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def json_lines(folder: Path) -> int:
    """Return the number of lines in all files of JSON Lines, compressed or not."""
    files = [path for path in folder.rglob("*") if path.name.endswith((".jsonl", ".jsonl.gz"))]
    return sum(block.count(b"\n") for path in files for block in _blocks(path))


def parquet_rows(folder: Path) -> int:
    return sum(pyarrow.parquet.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))


def dumped_rows(folder: Path) -> int:
    """Return the number of rows in a directory that pg_dump wrote. A line with \\. ends the rows of a table."""
    rows = 0
    for path in folder.rglob("*.dat.gz"):
        with gzip.open(path) as lines:
            rows += sum(1 for line in iter(lines.readline, b"\\.\n"))
    return rows


def _blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
