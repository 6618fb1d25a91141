"""The time at which the lines of a chunk were last read, from a manifest's own facts. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from floodmark.layout import timestamp_of
from floodmark.model import ChunkMark, ObjectEntry, TableEntry


def last_read(mark: ChunkMark, entry: ObjectEntry | None) -> str:
    """Return the timestamp at which a chunk's lines were last read, as far as it is known, else an empty text.

    The key of an object tells when it was extracted. The mark tells if the same lines were read later.
    """
    extracted = None if entry is None else timestamp_of(entry.key)
    return max(extracted or "", "" if mark.audited is UNSET else mark.audited)


def oldest_read(entries: Iterable[TableEntry]) -> str | None:
    """Return the oldest `last_read` of all chunks that can be proven, or None without such a chunk.

    A chunk without lines counts only after its first audit.
    """
    found = (
        last_read(mark, None if mark.object is None else entry.objects[mark.object])
        for entry in entries
        if entry.status != "dropped" and entry.watermark is not None
        for mark in entry.watermark.chunks
        if mark.provable
    )
    return min((one for one in found if one), default=None)
