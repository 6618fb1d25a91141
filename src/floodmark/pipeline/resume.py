"""The chunks that a run has finished, for its own next snapshot and for the next run if this one dies.

For a later snapshot, a finished chunk is the same as a committed one: a remembered state, to be proven unchanged. So
the next run trusts nothing without a proof, and these rules hold:

- **Dead or alive does not matter.** A run reads the progress of every run in flight. That of a live run is as
  good: its objects never change, their keys are its own, and a run never deletes an object. The run of the two that
  commits second rebases. A rebase can name new objects, no matter who put them.
- **The proof needs the later snapshot.** So the run reads the progress of others before it takes its first
  snapshot: that progress was seen by a snapshot that is older still.
- **The definition at the time of reading shaped a chunk's lines**, and the run might have died before it checked that
  definition. The next run does: a change leaves its transaction id in the stamp of the part, even a change that was
  undone. A chunk that was read under another stamp or fingerprint is not used.
- **An object that no manifest names may be pruned** once it is older than the grace time. So a run takes over no
  object that is older than `OLDEST_OBJECT`: with the longest life of a run added, that is less than the grace. Nor
  does it take one at or below head's floor, which a prune with less grace has raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.errors import StorageError
from floodmark.events import Observer, ProgressFound, Warned
from floodmark.layout import timestamp_of, timestamp_text
from floodmark.lineage import same_history
from floodmark.model import (
    Chunk,
    Encoding,
    Fingerprint,
    ObjectEntry,
    Point,
    SourceIdentity,
    TableEntry,
    TableName,
    Watermark,
)
from floodmark.pipeline.entries import journal_marks, part_definitions
from floodmark.pipeline.remembered import RememberedChunk, remembered_chunks
from floodmark.state.manifest import FinishedChunks, Manifest, Progress

OLDEST_OBJECT = timedelta(days=4)
# The run writes its progress after a finished chunk, but not sooner than this after the last time, ...
SHORTEST_PAUSE = 2.0  # seconds
# ... it spends at most a fiftieth of its time on writing, ...
PAUSE_PER_WRITE = 50
# ... and a long run pauses for a part of the time that it has taken so far: that is the most that it can lose.
SHARE_TO_LOSE = 1 / 200
LONGEST_SHARE = 60.0  # seconds
# A document of about 300 KB. Once a progress has grown to it, it becomes a part, which is not written again.
CHUNKS_OF_A_PART = 500

Clock = Callable[[], float]


class FinishedWork(Struct, frozen=True):
    """A document to write: a `part` with this number, or the progress itself, which names the earlier `parts`."""

    source: SourceIdentity
    timestamps: tuple[str, ...]
    chunks: tuple[FinishedChunks, ...]
    part: int | None = None
    parts: tuple[int, ...] = ()


Save = Callable[[FinishedWork], None]


class LeftChunks(Struct, frozen=True):
    """The chunks that another run finished, of the database that `source` names (see `_database_key`)."""

    run_id: str
    source: tuple[str, str, str]
    chunks: tuple[tuple[TableName, RememberedChunk], ...]
    outcome: str = "unfinished"


def usable_chunks(
    progress: Progress,
    destination: str,
    encoding: Encoding,
    now: datetime,
    floor: str | None = None,
    committed: Manifest | None = None,
) -> LeftChunks:
    """Return the chunks of a progress whose objects a run can name.

    Their objects lie at the run's destination, are written in its encoding, are not too old, and are above head's
    floor. A chunk that was finished again, under a later snapshot, can also be in an earlier part: the last one counts.
    Chunks that the last manifest (`committed`) knows as well are left out: they would only take memory.
    """
    entries = _entries_of(committed, progress)
    chunks: dict[tuple[TableName, Chunk], RememberedChunk] = {}
    if progress.destination == destination and progress.encoding == encoding:
        oldest = timestamp_text(now - OLDEST_OBJECT)
        for told in progress.chunks:
            table = TableName(told.schema, told.name)
            stamp = None if told.stamp is UNSET else told.stamp
            reason = None if told.reason is UNSET else told.reason
            known = _known_as_well(entries.get(table), told)
            for one in remembered_chunks(told.watermark, told.fingerprint, told.objects, stamp, reason):
                stays = one.object is None or (_put_at(one.object) >= oldest and _put_at(one.object) > (floor or ""))
                if stays and known.get(one.mark.chunk) != one.part:
                    chunks[table, one.mark.chunk] = one
    found = tuple((table, one) for (table, _), one in chunks.items())
    return LeftChunks(progress.run_id, _database_of(progress), found)


def _entries_of(committed: Manifest | None, progress: Progress) -> dict[TableName, TableEntry]:
    """Return the entries of the last manifest if it is of the database of this progress."""
    if committed is None or _database_key(committed.source.identity) != _database_of(progress):
        return {}
    return {entry.table: entry for entry in committed.tables}


def _known_as_well(entry: TableEntry | None, told: FinishedChunks) -> dict[Chunk, str]:
    """Return the chunks, with their part's fingerprint, that an entry knows from no earlier moment of the same history.

    Nothing that a progress says of such a chunk could be proven sooner.
    """
    mark = None if entry is None else entry.watermark
    if entry is None or mark is None or entry.fingerprint != told.fingerprint:
        return {}
    if mark.table_oid != told.watermark.table_oid:
        return {}
    then, now = told.watermark.point, mark.point
    if not same_history(then.lineage, now.lineage) or None in (then.xmax, then.xmin) or _age(now) < _age(then):
        return {}
    parts = {} if mark.parts is UNSET else {one.part: one.schema for one in mark.parts}
    return {one.chunk: parts.get(one.chunk.part, "") for one in mark.chunks}


def _age(point: Point) -> tuple[int, int, str]:
    return point.xmax or 0, point.xmin or 0, point.taken_at


class ProgressTracker:
    """The finished chunks: this run's, and those that others left of the same database.

    `save` writes a progress; without it the chunks serve only this run. Its errors go to the observer and the run goes
    on: a progress saves work, and nothing else depends on it. Not safe for several threads.
    """

    def __init__(
        self, left: Sequence[LeftChunks], save: Save | None, observer: Observer, clock: Clock = time.monotonic
    ) -> None:
        self._left, self._save, self._observer, self._clock = left, save, observer, clock
        self._begun = clock()
        self._source: SourceIdentity | None = None
        self._timestamps: tuple[str, ...] = ()
        self._own: dict[TableName, dict[Chunk, RememberedChunk]] = {}
        self._theirs: dict[TableName, list[RememberedChunk]] = {}
        self._in_no_part: dict[tuple[TableName, Chunk], RememberedChunk] = {}
        self._parts: tuple[int, ...] = ()
        self.parts_written = 0  # their numbers are 1 and so on
        self._due = clock() + SHORTEST_PAUSE
        self._saved = True
        self.saved_count = 0  # the number of chunks in the last written progress

    def begin_snapshot(self, source: SourceIdentity) -> None:
        """Begin with a new snapshot of this database, and drop the chunks of any other database."""
        before, self._source = self._source, source
        if before is None or _database_key(before) != _database_key(source):
            self._set_own({})
            self._theirs = {}
            for left in self._left:
                if left.source == _database_key(source):
                    self._take_over(left)

    def announce_timestamp(self, timestamp: str) -> None:
        """Record the timestamp under which objects are about to be put.

        The record is written before the objects, so that any object that appears there is known as the run's own.
        """
        self._timestamps = (*self._timestamps, timestamp)
        self._saved = False
        self.save()

    def chunks_of(self, table: TableName) -> list[RememberedChunk]:
        """Return all known chunks of a table."""
        return [*self._theirs.get(table, ()), *self._own.get(table, {}).values()]

    def add_chunk(self, table: TableName, chunk: RememberedChunk) -> None:
        """Add a finished chunk whose object is put, and write the progress from time to time."""
        self._own.setdefault(table, {})[chunk.mark.chunk] = chunk
        self._in_no_part[table, chunk.mark.chunk] = chunk
        self._saved = False
        if self._clock() >= self._due:
            self.save()

    def keep_only(self, tables: Iterable[TableName]) -> None:
        """Keep the chunks of these tables only; the others are no longer of use."""
        kept = {table: self._own[table] for table in tables if table in self._own}
        if kept.keys() != self._own.keys():
            self._saved = False
            self._set_own(kept)

    @property
    def finished_count(self) -> int:
        """Return how many different chunks this run has finished.

        A chunk counts once, even if it was finished repeatedly.
        """
        return sum(map(len, self._own.values()))

    def finished_with(self, planned: Iterable[tuple[TableName, Chunk]]) -> int:
        """Return how many chunks this run has finished once these are finished, too."""
        return self.finished_count + sum(chunk not in self._own.get(table, {}) for table, chunk in planned)

    @property
    def others_count(self) -> int:
        """Return how many chunks other runs left of this database."""
        return sum(map(len, self._theirs.values()))

    @property
    def has_scattered_objects(self) -> bool:
        """Return True if the run might have put objects that will never be named, because a snapshot was lost."""
        return len(self._timestamps) > 1

    @property
    def resumable(self) -> bool:
        """Return True if the next run can continue from finished chunks."""
        return self._save is not None

    @property
    def worth_keeping(self) -> bool:
        """Return True if there is anything that the next run could use."""
        return self.resumable and any(self._own.values())

    def save(self) -> None:
        """Write down the finished chunks, unless they are already written."""
        if self._save is None or self._source is None or self._saved:
            return
        begun = self._clock()
        try:
            self._write(self._save, self._source)
            self._saved, self.saved_count = True, self.finished_count
        except StorageError as error:
            self._observer(
                Warned(f"can't save the progress, so more must be read again after a crash: {error.sentence}")
            )
        share = min(LONGEST_SHARE, SHARE_TO_LOSE * (begun - self._begun))
        self._due = self._clock() + max(SHORTEST_PAUSE, share, PAUSE_PER_WRITE * (self._clock() - begun))

    def _write(self, save: Save, source: SourceIdentity) -> None:
        """Write full parts, and then the progress, which names them. A part counts only once the progress names it."""
        while len(self._in_no_part) >= CHUNKS_OF_A_PART:
            taken = dict(islice(self._in_no_part.items(), CHUNKS_OF_A_PART))
            self.parts_written += 1
            save(FinishedWork(source, self._timestamps, tuple(_grouped_chunks(taken)), part=self.parts_written))
            self._parts = (*self._parts, self.parts_written)
            for place in taken:
                del self._in_no_part[place]
        rest = tuple(_grouped_chunks(self._in_no_part))
        save(FinishedWork(source, self._timestamps, rest, parts=self._parts))

    def _set_own(self, own: dict[TableName, dict[Chunk, RememberedChunk]]) -> None:
        """Replace this run's chunks. The parts hold others, too, so the progress no longer names them."""
        self._own, self._parts = own, ()
        self._in_no_part = {(table, place): one for table, chunks in own.items() for place, one in chunks.items()}

    def _take_over(self, left: LeftChunks) -> None:
        for table, chunk in left.chunks:
            self._theirs.setdefault(table, []).append(chunk)
        if left.chunks:
            self._observer(ProgressFound(left.run_id, len(left.chunks), left.outcome))


def _grouped_chunks(own: Mapping[tuple[TableName, Chunk], RememberedChunk]) -> Iterator[FinishedChunks]:
    """Yield the chunks in the form of the document, grouped by table, definition, snapshot and reason."""
    groups: dict[tuple[TableName, Point, int, Fingerprint, str | None, str | None], list[RememberedChunk]] = {}
    for (table, _), chunk in own.items():
        key = (table, chunk.point, chunk.table_oid, chunk.fingerprint, chunk.stamp, chunk.reason)
        groups.setdefault(key, []).append(chunk)
    for (table, point, oid, fingerprint, stamp, reason), chunks in groups.items():
        objects = [chunk.object for chunk in chunks if chunk.object is not None]
        numbers = {id(entry): number for number, entry in enumerate(objects)}
        marks = tuple(
            replace(chunk.mark, object=None if chunk.object is None else numbers[id(chunk.object)]) for chunk in chunks
        )
        yield FinishedChunks(
            schema=table.schema,
            name=table.name,
            fingerprint=fingerprint,
            watermark=Watermark(
                point,
                oid,
                marks,
                part_definitions({one.mark.chunk.part: one.part for one in chunks}),
                journal=journal_marks(one.journal for one in chunks),
            ),
            objects=tuple(objects),
            stamp=UNSET if stamp is None else stamp,
            reason=UNSET if reason is None else reason,
        )


def _put_at(entry: ObjectEntry) -> str:
    """Return when the run that put an object claimed its timestamp, according to the key."""
    return timestamp_of(entry.key) or ""


def _database_of(progress: Progress) -> tuple[str, str, str]:
    return progress.dialect, progress.system_identifier, progress.database


def _database_key(source: SourceIdentity) -> tuple[str, str, str]:
    return source.dialect, source.system_identifier, source.database
