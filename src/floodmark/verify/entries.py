"""A manifest's internal consistency: sums, checksums, the watermark's references, the form of keys. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from floodmark.layout import is_data_key, key_suffix
from floodmark.model import TableEntry
from floodmark.state.manifest import checksum
from floodmark.verify.report import TableProblem

_SUMS = ("rows", "raw_bytes", "stored_bytes")


def entry_problems(entry: TableEntry) -> Iterator[TableProblem]:
    """Yield the contradictions in an entry."""
    if entry.checksum is None:
        if entry.objects or entry.watermark is not None:
            yield _inconsistent("it has objects or a watermark, but no checksum")
        return
    if entry.checksum != checksum(entry.objects):
        yield _inconsistent("its checksum does not match its objects")
    for name in _SUMS:
        total = sum(getattr(one, name) for one in entry.objects)
        if getattr(entry, name) != total:
            yield _inconsistent(f"its {name} are {getattr(entry, name)}, but its objects have {total}")
    yield from _watermark_problems(entry)
    yield from _key_problems(entry)


def _watermark_problems(entry: TableEntry) -> Iterator[TableProblem]:
    marks = entry.watermark.chunks if entry.watermark is not None else ()
    pointed = [mark.object for mark in marks if mark.object is not None]
    if any(not 0 <= index < len(entry.objects) for index in pointed):
        yield _inconsistent("its watermark points to objects that it does not list")
        return
    if len(set(pointed)) < len(pointed):
        yield _inconsistent("two chunks of its watermark point to one object")
    if any(mark.object is not None and entry.objects[mark.object].chunk != mark.chunk for mark in marks):
        yield _inconsistent("a chunk of its watermark points to another chunk's object")
    if len({mark.chunk for mark in marks}) < len(marks):
        yield _inconsistent("its watermark contains a chunk twice")


def _key_problems(entry: TableEntry) -> Iterator[TableProblem]:
    for one in entry.objects:
        if not is_data_key(one.key):
            yield TableProblem("inconsistent", one.key, "this is not the key of a data object")
        elif entry.encoding is not None and not one.key.endswith(key_suffix(entry.encoding)):
            yield TableProblem(
                "inconsistent", one.key, f"the entry says {entry.encoding.compression}, the key does not"
            )
        if one.rows < 1 or one.raw_bytes < one.rows or one.stored_bytes < 1:
            yield TableProblem("inconsistent", one.key, "an object must have a row, and a row must have a byte")


def _inconsistent(detail: str) -> TableProblem:
    return TableProblem("inconsistent", None, detail)
