"""Free space: for temporary files, and in destinations that are folders. One function asks, others judge."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from floodmark.config import Settings
from floodmark.doctor.finding import Finding, ok, problem, unknown, warning
from floodmark.doctor.tables import bytes_text
from floodmark.errors import StorageError
from floodmark.objects.spool import SPOOL_MEMORY
from floodmark.observed import Part, TableInfo
from floodmark.pipeline.chunks import new_chunk_bytes
from floodmark.places import bucket_of
from floodmark.wording import plural

# JSON lines are larger than the rows, and compressed ones at most about as large.
_LINES, _COMPRESSED = 3, 1
_SPOOL = "temporary files"


class ReadingSizes(Struct, frozen=True):
    """The sizes of what a run reads, in bytes of the source: everything, the largest piece, and the pieces at once."""

    total: int
    largest: int
    at_once: int


def reading_sizes(tables: Sequence[TableInfo], chunk_bytes: int, at_once: int, *, grows: bool = False) -> ReadingSizes:
    """Return the sizes of a full extraction. A part that can't be cut into chunks is one piece."""
    read = [table for table in tables if table.denied is None]
    pieces = [_piece(part, new_chunk_bytes(table, chunk_bytes, grows=grows)) for table in read for part in table.parts]
    total = sum(part.total_bytes for table in read for part in table.parts)
    return ReadingSizes(total, max(pieces, default=0), at_once)


def check_space(settings: Settings, sizes: ReadingSizes | None) -> Iterator[Finding]:
    """Yield the findings, none if the source does not tell sizes."""
    if sizes is None or not sizes.total:
        return
    growth = _growth(settings.destination.compression)
    sends_lines = any(one.compression == "none" for one in settings.deliver)
    yield _check_spool(sizes, _LINES if sends_lines else growth)
    if bucket_of(settings.destination.url) is None:
        yield _check_folder("destination: space", settings.destination.url, sizes.total * growth)
    for one in settings.deliver:
        if bucket_of(one.url) is None:
            needed = sizes.total * (_LINES if one.compression == "none" else growth)
            yield _check_folder(f"deliver {one.name}: space", one.url, needed)


def _check_spool(sizes: ReadingSizes, growth: int) -> Finding:
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        found, fix = "no folder for temporary files can be written to", "Set TMPDIR to a folder with free space."
        return problem(_SPOOL, found, fix, StorageError.exit_code)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return unknown(_SPOOL, f"the free space in {folder} can't be read ({error.strerror})")
    return judged_spool(folder, free, sizes, growth)


def judged_spool(folder: str, free: int, sizes: ReadingSizes, growth: int) -> Finding:
    """Judge the free space for objects that are not complete yet. Small ones stay in memory. Pure."""
    piece = sizes.largest * growth
    if piece <= SPOOL_MEMORY:
        return ok(_SPOOL, f"{bytes_text(free)} are free in {folder}, and every object fits into memory")
    needed = piece * sizes.at_once
    need = f"{plural(sizes.at_once, 'object')} at once can need {bytes_text(needed)}"
    if free >= needed:
        return ok(_SPOOL, f"{bytes_text(free)} are free in {folder}; {need}")
    fix = "Free space there, set TMPDIR to another folder, or lower limits.connections or chunk_size."
    return warning(_SPOOL, f"only {bytes_text(free)} are free in {folder}; {need}", fix)


def _check_folder(check: str, url: str, needed: int) -> Finding:
    path = Path(url).absolute()
    try:
        existing = next(one for one in (path, *path.parents) if one.exists())
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return unknown(check, f"the free space can't be read ({error.strerror})")
    return judged_folder(check, str(path), free, needed)


def judged_folder(check: str, folder: str, free: int, needed: int) -> Finding:
    """Judge the free space for a full extraction. Pure."""
    need = f"a full extraction can need {bytes_text(needed)}"
    if free >= needed:
        return ok(check, f"{bytes_text(free)} are free for {folder}; {need}")
    return warning(
        check, f"only {bytes_text(free)} are free for {folder}; {need}", "Free space, or choose another place."
    )


def _growth(compression: str) -> int:
    return _LINES if compression == "none" else _COMPRESSED


def _piece(part: Part, chunk_bytes: int) -> int:
    return min(chunk_bytes, part.total_bytes) if part.by_block else part.total_bytes
