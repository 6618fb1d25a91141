"""A chunk on another machine: what a worker is told, what it does, and what it answers.

A worker reads the chunk under the coordinator's snapshot and puts the object, with the code and the checks of a thread.
Only the coordinator records, decides and commits. Messages hold no secret and no row, and they are small: a message has
one part of its table, and of the stored objects those that the chunk probably equals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from floodmark.backends import data_backends, open_data_storage
from floodmark.config import DestinationSettings, Selection, Settings
from floodmark.config.workers import with_own_secrets, without_secrets
from floodmark.engine.base import Away, TaskStopped, WorkerWatch
from floodmark.errors import ConditionFailed, FloodmarkError, SnapshotLost, SourceError
from floodmark.model import Chunk, ObjectEntry
from floodmark.observed import Observation
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.entries import ChunkOutcome
from floodmark.pipeline.extract import ChunkTask, Extractor, expected_lines, still_there
from floodmark.pipeline.plans import ChunkPlan
from floodmark.pipeline.work import TableWork
from floodmark.retrying import Patience
from floodmark.source.base import SharedPart, SharedSnapshot
from floodmark.stop import Deadline
from floodmark.storage.base import Storage
from floodmark.storage.worker_places import WORKER, WorkerPlaces

# The connection of a worker that died can stay for a while, and take another one's place.
_PATIENCE = Patience(tries=7, longest=20)
# A message names at most this many stored objects that its chunk can equal.
_MOST_KNOWN = 16
_DIFFERENT = "a chunk that was read twice had different lines"

_Known = Mapping[str, ObjectEntry]


class ChunkMessage(Struct, frozen=True):
    """A chunk for a worker. `task` tells of its table only what `part` does."""

    part: SharedPart
    task: ChunkTask


class ChunkReply(Struct, frozen=True):
    """The answer to a ChunkMessage, by the process `worker`."""

    worker: str
    object: ObjectEntry | None
    observed: Observation | None


def extract_away(settings: Settings, message: ChunkMessage, watch: WorkerWatch) -> ChunkReply:
    """Extract one chunk on this machine, with its own credentials. This runs in a worker's process."""
    own = with_own_secrets(settings, os.environ)
    backends = data_backends(own.destination, _storage(own.destination), watch.observer)
    source, deadline = message.part.open(own, watch.stop), Deadline(watch.stop)
    extractor = Extractor(source, backends, watch.observer, deadline, _PATIENCE, watch.stop.wait)
    try:
        outcome = extractor.extract_chunk(message.task)
    except SourceError:
        if deadline.stop_asked:  # its statement was cancelled, or the server might have been there with more patience
            raise TaskStopped from None
        raise
    return ChunkReply(WORKER, outcome.object, outcome.observed)


@lru_cache(maxsize=4)
def _storage(chosen: DestinationSettings) -> Storage:
    """Return the store of objects, opened once for each process: S3's client takes a tenth of a second."""
    return open_data_storage(chosen)


class RemoteChunks:
    """The chunks that workers extract under one snapshot: the messages to them, and the meaning of their replies."""

    def __init__(self, attempt: Attempt, shared: SharedSnapshot, extractor: Extractor) -> None:
        self._attempt, self._shared, self._ratio = attempt, shared, extractor.ratio
        self._destination = attempt.backends.destination
        self._places = _Places({})
        self._begun = set[int]()
        self._proven = set[str]()
        settings = replace(without_secrets(attempt.settings), selection=Selection(), deliver=())
        self.away = Away(extract_away, settings, self._message, attempt.deadline.reached)

    def _message(self, pair: tuple[TableWork, ChunkTask]) -> ChunkMessage:
        work, task = pair
        self._shared.close_idle()  # the limit of connections is now the workers'
        if id(task) not in self._begun:
            self._begun.add(id(task))
            work.begin_task()
        if self._places.known is not task.known:
            self._places = _Places(task.known)
        part = self._shared.part(task.info, task.plan.part)
        plan = ChunkPlan(task.plan.part, task.plan.chunk, task.plan.open)
        known, lines = self._places.probable(plan.chunk), expected_lines(task, self._ratio)
        return ChunkMessage(part, replace(task, info=part.info, plan=plan, known=known, expected_lines=lines))

    def was_away(self, work: TableWork, task: ChunkTask) -> bool:
        """Return True for a chunk that a worker extracted, and count its time."""
        if id(task) not in self._begun:
            return False
        self._begun.discard(id(task))
        work.end_task()
        return True

    def outcome(self, task: ChunkTask, reply: ChunkReply) -> ChunkOutcome:
        """Return the outcome that a thread would have had. Raises ConfigError, StorageError."""
        plan, entry = task.plan, reply.object
        if entry is not None:
            self._require_same_place(reply.worker, entry)
            self._ratio.add(task.info.table, entry.raw_bytes, plan.estimated_bytes)
            entry = self._as_stored(task, entry)
        return ChunkOutcome(plan, entry, reply.observed)

    def _require_same_place(self, worker: str, entry: ObjectEntry) -> None:
        """Require that an object is where the coordinator looks, until one of them proves where the worker puts.

        One that was there before proves nothing: the worker can have found it in a copy of the destination.
        """
        if worker not in self._proven:
            WorkerPlaces(self._destination).require_same(worker, entry.key, entry.stored_bytes)
            if entry.origin == "extracted":
                self._proven.add(worker)

    def _as_stored(self, task: ChunkTask, entry: ObjectEntry) -> ObjectEntry:
        """Return the object that had these lines before, if the worker was not told of it."""
        known = task.known.get(entry.content_sha256)
        if entry.origin != "extracted" or known is None or not still_there(self._destination, known):
            return entry
        return replace(known, chunk=task.plan.chunk, origin="reused")

    def error(self, work: TableWork, error: BaseException) -> BaseException:
        """Return the error that a thread would have had.

        If a worker is lost after its put, another one does the task again. A view can then have other rows or another
        order, as with random(). A new snapshot gives the object another key.
        """
        if isinstance(error, ConditionFailed):
            return SnapshotLost(
                _DIFFERENT, on=work.table.label, why="a worker was lost, and another one read the chunk"
            )
        return self._shared.error_here(work.table, error) if isinstance(error, FloodmarkError) else error


class _Places:
    """The stored objects of one table, found by the place of their chunk. `known` has them by content digest."""

    def __init__(self, known: _Known) -> None:
        self.known = known
        self._at: dict[tuple[int, int | None], list[tuple[str, ObjectEntry]]] = {}
        for digest, entry in known.items():
            self._at.setdefault((entry.chunk.start, entry.chunk.stop), []).append((digest, entry))

    def probable(self, chunk: Chunk) -> _Known:
        """Return those that a chunk can equal: all of a few, else those at the same place."""
        if len(self.known) <= _MOST_KNOWN:
            return self.known
        return dict(islice(self._at.get((chunk.start, chunk.stop), ()), _MOST_KNOWN))
