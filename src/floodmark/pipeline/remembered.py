"""The memory of a table: the last committed entry, and chunks that runs finished and did not commit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import UNSET, Struct

from floodmark.lineage import same_history
from floodmark.model import Chunk, ChunkMark, Fingerprint, JournalMark, ObjectEntry, Point, TableEntry, Watermark
from floodmark.observed import Part, TableInfo


class RememberedChunk(Struct, frozen=True, gc=False):
    """A chunk that an earlier snapshot showed, with everything that a proof needs.

    `part` is the fingerprint of its part. `stamp` is that part's stamp if the chunk was never committed, else None:
    before a commit the run itself checks that no definition changed while it read. `reason` is the code of the reason
    why that chunk was read, if it was never committed and its run recorded it. `journal` is the mark of its part's
    journal, None if that could not be used.
    """

    mark: ChunkMark
    point: Point
    table_oid: int
    fingerprint: Fingerprint
    object: ObjectEntry | None
    part: str = ""
    stamp: str | None = None
    reason: str | None = None
    journal: JournalMark | None = None


class Remembered(Struct, frozen=True):
    """The known state of a table: the last committed entry, if any, and its chunks by their place.

    `chunks` can also hold chunks that this run, or a dead one, extracted under an earlier snapshot. `sent_since` says
    what of the table a landing zone was sent after that entry. It is `half` if that might not be the whole table.
    """

    entry: TableEntry | None = None
    chunks: Mapping[Chunk, RememberedChunk] = {}
    sent_since: Literal["nothing", "whole", "half"] = "nothing"

    @property
    def good(self) -> TableEntry | None:
        """Return the entry, if it describes a whole snapshot."""
        return self.entry if self.entry is not None and self.entry.checksum is not None else None


def remember_entry(entry: TableEntry | None) -> Remembered:
    """Return a committed entry in the form that decisions use."""
    if entry is None:
        return Remembered()
    if entry.watermark is None or entry.fingerprint is None:
        return Remembered(entry)
    chunks = remembered_chunks(entry.watermark, entry.fingerprint, entry.objects)
    return Remembered(entry, {known.mark.chunk: known for known in chunks})


def remembered_chunks(
    watermark: Watermark,
    fingerprint: Fingerprint,
    objects: Sequence[ObjectEntry],
    stamp: str | None = None,
    reason: str | None = None,
) -> list[RememberedChunk]:
    """Return the chunks of a watermark, with everything that a proof needs.

    `stamp` and `reason` are None if they were committed.
    """
    parts = {} if watermark.parts is UNSET else {one.part: one.schema for one in watermark.parts}
    journals = {} if watermark.journal is UNSET else {one.part: one for one in watermark.journal}
    return [
        RememberedChunk(
            mark,
            watermark.point,
            watermark.table_oid,
            fingerprint,
            None if mark.object is None else objects[mark.object],
            parts.get(mark.chunk.part, ""),
            stamp,
            reason,
            journals.get(mark.chunk.part),
        )
        for mark in watermark.chunks
    ]


def with_finished(told: Remembered, finished: Sequence[RememberedChunk], info: TableInfo, point: Point) -> Remembered:
    """Return the committed state, combined with the chunks that this run or another one finished.

    If two chunks have one place, the one that can be proven sooner counts. A finished chunk is left out if it belongs
    to another table. It is also left out if a definition changed since its snapshot, even if that was undone. If a
    landing zone was sent such a chunk, it no longer holds what can be proven. That counts as `half`.
    """
    chunks = dict(told.chunks)
    since = told.sent_since
    parts = {part.id: part for part in info.parts}
    for known in finished:
        part = parts.get(known.mark.chunk.part)
        if part is not None and known.stamp == part.stamp and _same_definition(known, info, part):
            there = chunks.get(known.mark.chunk)
            if there is None or _proof_rank(known, info, part, point) > _proof_rank(there, info, part, point):
                chunks[known.mark.chunk] = known
        elif since == "whole":
            since = "half"
    return Remembered(told.entry, chunks, since)


def _proof_rank(known: RememberedChunk, info: TableInfo, part: Part, point: Point) -> tuple[bool, bool, int, int, str]:
    """Return a rank: in one history a later memory ranks higher; one of another history ranks lower."""
    then = known.point
    same = _same_definition(known, info, part)
    return same, same_history(then.lineage, point.lineage), then.xmax or 0, then.xmin or 0, then.taken_at


def _same_definition(known: RememberedChunk, info: TableInfo, part: Part) -> bool:
    """Return True if a chunk was read from this table, under a definition with the same content."""
    return known.fingerprint == info.fingerprint and known.table_oid == info.oid and known.part == part.fingerprint
