"""What a run has finished, for its own next snapshot and for the next run if this one dies.

A finished chunk is to a later snapshot what a committed one is: a remembered state, to be proven unchanged. So
nothing is taken on trust, and these hold:

- **Dead or alive does not matter.** A run reads the progress of every run in flight. That of a live one is as
  good: its objects never change, their keys are its own, and a run never deletes an object. Whichever of the two
  commits second rebases, and a rebase may name new objects, whoever put them.
- **The proof needs the later snapshot.** So the progress of others is read before the run takes its first one:
  what it holds was seen by a snapshot that is older still.
- **A chunk's lines were shaped by the definition as it was when they were read**, which the run may not have
  checked before it died. The next one does: a change leaves its transaction id in the stamp of the part, even one
  made and undone, and a chunk that was read under another stamp or fingerprint is not used.
- **An object that no manifest names may be pruned** once it is older than the grace time. So none is taken over
  that is older than `OLDEST_OBJECT`: with the longest life of a run on top, that is less than the grace. Nor is
  one that is not above head's floor, which a prune with less grace has raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.entries import part_definitions
from floodmark.errors import StorageError
from floodmark.events import Observer, ProgressFound, Warned
from floodmark.layout import timestamp_of, timestamp_text
from floodmark.model import Chunk, Encoding, Fingerprint, ObjectEntry, Point, SourceIdentity, TableName, Watermark
from floodmark.remembered import RememberedChunk, remembered_chunks
from floodmark.state.manifest import FinishedChunks, Progress

OLDEST_OBJECT = timedelta(days=4)
# Progress is written after each finished chunk, but not sooner than this after the last time, ...
SHORTEST_PAUSE = 2.0  # seconds
# ... and so that writing takes no more than a fiftieth of a run's time, however long the list has grown.
PAUSE_PER_WRITE = 50
# 20 MB of list. A run that finishes more (1.2 TiB at the default chunk size) does the rest again if it dies.
MOST_CHUNKS = 20_000

Save = Callable[[SourceIdentity, tuple[str, ...], tuple[FinishedChunks, ...]], None]
Clock = Callable[[], float]


class Left(Struct, frozen=True):
    """What another run finished, of the database that `source` names (see `_database`)."""

    run_id: str
    source: tuple[str, str, str]
    chunks: tuple[tuple[TableName, RememberedChunk], ...]


def usable(progress: Progress, destination: str, encoding: Encoding, now: datetime, floor: str | None = None) -> Left:
    """Those of its chunks whose objects a run may name: at its destination, written as it writes, not too old, and
    above head's floor."""
    chunks: list[tuple[TableName, RememberedChunk]] = []
    if progress.destination == destination and progress.encoding == encoding:
        oldest = timestamp_text(now - OLDEST_OBJECT)
        for told in progress.chunks:
            table = TableName(told.schema, told.name)
            stamp = None if told.stamp is UNSET else told.stamp
            known = remembered_chunks(told.watermark, told.fingerprint, told.objects, stamp)
            chunks += [
                (table, one)
                for one in known
                if one.object is None or (_put_at(one.object) >= oldest and _put_at(one.object) > (floor or ""))
            ]
    return Left(progress.run_id, (progress.dialect, progress.system_identifier, progress.database), tuple(chunks))


class Finished:
    """The chunks that are finished: this run's, and those that others left of the same database.

    `save` writes a progress; without it the chunks serve this run alone. What it raises is told to the observer,
    and the run goes on: a progress saves work, and nothing hangs on it. Not for use by several threads.
    """

    def __init__(
        self, left: Sequence[Left], save: Save | None, observer: Observer, clock: Clock = time.monotonic
    ) -> None:
        self._left, self._save, self._observer, self._clock = left, save, observer, clock
        self._source: SourceIdentity | None = None
        self._timestamps: tuple[str, ...] = ()
        self._own: dict[TableName, dict[Chunk, RememberedChunk]] = {}
        self._theirs: dict[TableName, list[RememberedChunk]] = {}
        self._due = clock() + SHORTEST_PAUSE
        self._saved = True

    def begin(self, source: SourceIdentity) -> None:
        """A snapshot was taken of this database: what is known of any other is of no use."""
        before, self._source = self._source, source
        if before is None or _database(before) != _database(source):
            self._own = {}
            self._theirs = {}
            for left in self._left:
                if left.source == _database(source):
                    self._take(left)

    def announce(self, timestamp: str) -> None:
        """Objects are about to be put under this timestamp: that is written down first, so that whatever comes to
        lie there can be told for ours."""
        self._timestamps = (*self._timestamps, timestamp)
        self._saved = False
        self.save()

    def of(self, table: TableName) -> list[RememberedChunk]:
        """All that is known of a table's chunks."""
        return [*self._theirs.get(table, ()), *self._own.get(table, {}).values()]

    def add(self, table: TableName, chunk: RememberedChunk) -> None:
        """A chunk is finished and its object put; from time to time that is written down."""
        self._own.setdefault(table, {})[chunk.mark.chunk] = chunk
        self._saved = False
        if self._clock() >= self._due:
            self.save()

    def keep(self, tables: Iterable[TableName]) -> None:
        """The chunks of other tables are of no further use."""
        kept = {table: self._own[table] for table in tables if table in self._own}
        self._saved = self._saved and kept == self._own
        self._own = kept

    @property
    def number(self) -> int:
        """How many chunks this run has finished, however often it did."""
        return sum(map(len, self._own.values()))

    @property
    def scattered(self) -> bool:
        """Whether there may be objects of ours that no one will ever name, since a snapshot was lost."""
        return len(self._timestamps) > 1

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything that the next run could use."""
        return self._save is not None and any(self._own.values())

    def save(self) -> None:
        """Write down what is finished, unless that was done already."""
        if self._save is None or self._source is None or self._saved:
            return
        begun = self._clock()
        try:
            self._save(self._source, self._timestamps, tuple(_told(self._own)))
            self._saved = True
        except StorageError as error:
            self._observer(Warned(f"progress can't be written, so a crash would cost more: {error.sentence}"))
        self._due = self._clock() + max(SHORTEST_PAUSE, PAUSE_PER_WRITE * (self._clock() - begun))

    def _take(self, left: Left) -> None:
        for table, chunk in left.chunks:
            self._theirs.setdefault(table, []).append(chunk)
        if left.chunks:
            self._observer(ProgressFound(left.run_id, len(left.chunks)))


def _told(own: Mapping[TableName, Mapping[Chunk, RememberedChunk]]) -> Iterator[FinishedChunks]:
    """The chunks in the form of the document: those of one table, one definition and one snapshot together."""
    groups: dict[tuple[TableName, Point, int, Fingerprint, str | None], list[RememberedChunk]] = {}
    every = ((table, chunk) for table, chunks in own.items() for chunk in chunks.values())
    for table, chunk in islice(every, MOST_CHUNKS):
        key = (table, chunk.point, chunk.table_oid, chunk.fingerprint, chunk.stamp)
        groups.setdefault(key, []).append(chunk)
    for (table, point, oid, fingerprint, stamp), chunks in groups.items():
        objects = [chunk.object for chunk in chunks if chunk.object is not None]
        numbers = {id(entry): number for number, entry in enumerate(objects)}
        marks = tuple(
            replace(chunk.mark, object=None if chunk.object is None else numbers[id(chunk.object)]) for chunk in chunks
        )
        yield FinishedChunks(
            schema=table.schema,
            name=table.name,
            fingerprint=fingerprint,
            watermark=Watermark(point, oid, marks, part_definitions({one.mark.chunk.part: one.part for one in chunks})),
            objects=tuple(objects),
            stamp=UNSET if stamp is None else stamp,
        )


def _put_at(entry: ObjectEntry) -> str:
    """When the run that put an object claimed its timestamp, as the key tells."""
    return timestamp_of(entry.key) or ""


def _database(source: SourceIdentity) -> tuple[str, str, str]:
    return source.dialect, source.system_identifier, source.database
