"""The extraction of chunks: rows → JSON lines → compressed, hashed, spooled, compared, put.

A chunk is finished in the spool before any of its bytes leave. So a chunk that turns out to be wrong (a broken
connection, a table rewritten meanwhile) is thrown away, and a repeated put starts at byte 0.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.backends import Backends
from floodmark.engine.base import TaskStopped
from floodmark.errors import (
    SourceUnavailable,
    TableError,
)
from floodmark.events import ChunkDone, Observer
from floodmark.meter import ChunkMeter, LineRatio
from floodmark.model import ObjectEntry
from floodmark.objects.numbers import quote_large
from floodmark.objects.spool import SPOOL_BUFFER, SPOOL_MEMORY, LineSpool
from floodmark.observed import TableInfo
from floodmark.pipeline.entries import ChunkOutcome
from floodmark.pipeline.plans import ChunkPlan
from floodmark.retrying import Patience, RetryPolicy, Sleep, pause, retrying
from floodmark.source.base import ChunkSource, Write
from floodmark.stop import Deadline
from floodmark.storage.base import Body, Storage
from floodmark.storage.probe import exists_as_put, put_once

PATIENCE = Patience(tries=4, longest=20)
# The lines of more bytes of the source usually do not fit into a spool's memory, compressed. So they do not wait there.
MOST_IN_MEMORY = 96 * 1024**2


class ChunkTask(Struct, frozen=True):
    """A chunk to extract, with the key of its object and the objects that it can turn out to equal.

    `known` holds the table's stored objects by content digest. If the chunk equals one of them, and that one still
    exists at the destination, the entry names it again and nothing is put. `expected_lines` is about how many bytes the
    lines have, None if the extractor should estimate it.
    """

    info: TableInfo
    plan: ChunkPlan
    key: str
    known: Mapping[str, ObjectEntry]
    put_identical: bool = True
    expected_lines: int | None = None


class Extractor:
    """Extracts chunks from one snapshot to one destination. Several threads can call its methods.

    It looks at the deadline between blocks. If the deadline is reached, `TaskStopped` ends the chunk.
    """

    def __init__(
        self,
        snapshot: ChunkSource,
        backends: Backends,
        observer: Observer,
        deadline: Deadline,
        patience: Patience = PATIENCE,
        sleep: Sleep = pause,
    ) -> None:
        self._snapshot = snapshot
        self._destination = backends.destination
        self._layout = backends.layout
        self._encoding = backends.encoding
        self._observer = observer
        self._deadline = deadline
        self._patience, self._sleep = patience, sleep
        self.ratio = LineRatio()

    def extract_chunk(self, task: ChunkTask) -> ChunkOutcome:
        """Extract one chunk. Retry after a broken connection as long as the snapshot exists."""
        what = f"extract a chunk of {task.info.table.label}"
        return patiently(self._observer, what, self._patience, self._sleep)(self._extract_once, task)

    def _extract_once(self, task: ChunkTask) -> ChunkOutcome:
        begun, table, plan = time.monotonic(), task.info.table, task.plan
        memory = SPOOL_MEMORY if plan.estimated_bytes <= MOST_IN_MEMORY else SPOOL_BUFFER
        with LineSpool(self._encoding.compression, memory) as spool, self._meter(task) as meter:
            write = self._line_writer(spool.take, meter)
            got = self._snapshot.extract(task.info, plan.part, plan.chunk, plan.open, write)
            spool.finish()
            self.ratio.add(table, spool.raw_bytes, plan.estimated_bytes)
            entry = self._store_lines(task, spool, got.lines) if got.lines else None
            uploaded = entry.stored_bytes if entry is not None and entry.origin == "extracted" else 0
            seconds = time.monotonic() - begun
            self._observer(ChunkDone(table, got.lines, spool.raw_bytes, uploaded, seconds, plan.estimated_bytes))
            return ChunkOutcome(plan, entry, got.observed)

    def _meter(self, task: ChunkTask) -> ChunkMeter:
        """Return a meter of the chunk's bytes in the source."""
        table, plan, expected = task.info.table, task.plan, task.expected_lines
        expected = expected_lines(task, self.ratio) if expected is None else expected
        return ChunkMeter(self._observer, table, plan.chunk, plan.estimated_bytes, expected)

    def _line_writer(self, take: Write, meter: ChunkMeter) -> Write:
        """Return a consumer of the source's lines that passes them on in the run's encoding. It raises TaskStopped."""
        quote = self._encoding.numbers is not UNSET

        def passed_on(lines: bytes | bytearray | memoryview) -> None:
            if self._deadline.reached():
                raise TaskStopped
            take(quote_large(lines) if quote else lines)
            meter.add(len(lines))

        return passed_on

    def content_digest(self, task: ChunkTask) -> str | None:
        """Return the content digest of a chunk, None if it has no lines. Store nothing."""
        digest, plan = hashlib.sha256(), task.plan
        with self._meter(task) as meter:
            write = self._line_writer(digest.update, meter)
            got = self._snapshot.extract(task.info, plan.part, plan.chunk, plan.open, write)
        return digest.hexdigest() if got.lines else None

    def _store_lines(self, task: ChunkTask, spool: LineSpool, lines: int) -> ObjectEntry:
        known = task.known.get(spool.content_sha256)
        if known is not None and (not task.put_identical or still_there(self._destination, known)):
            return replace(known, chunk=task.plan.chunk, origin="reused")
        body = spool.body
        limit = self._layout.max_object_bytes
        if limit is not None and body.size > limit:
            raise TableError(
                "an object is too large for the receiver",
                on=task.info.table.label,
                why=f"it has {body.size:,} bytes, and the receiver accepts {limit:,}",
                hint="Set a smaller chunk_size. A table that is read whole, such as a view, can't be split.",
            )
        self._put_object(task.key, body)
        return ObjectEntry(
            key=task.key,
            rows=lines,
            raw_bytes=spool.raw_bytes,
            stored_bytes=body.size,
            sha256=body.sha256,
            content_sha256=spool.content_sha256,
            chunk=task.plan.chunk,
            origin="extracted",
        )

    def _put_object(self, key: str, body: Body) -> None:
        if self._layout.objects_stay:
            put_once(self._destination, key, body)
        else:
            self._destination.put(key, body)


def still_there(destination: Storage, entry: ObjectEntry) -> bool:
    """Return True if an object that a manifest names exists at the destination."""
    return exists_as_put(destination, entry.key, entry.stored_bytes, entry.sha256)


def expected_lines(task: ChunkTask, ratio: LineRatio) -> int:
    """Return about how many bytes a chunk's lines have. A chunk that was read before has about as many as then."""
    plan = task.plan
    known = plan.remembered.object if plan.remembered is not None else None
    return known.raw_bytes if known is not None else ratio.expected_lines(task.info.table, plan.estimated_bytes)


def patiently(observer: Observer, what: str, patience: Patience = PATIENCE, sleep: Sleep = pause) -> RetryPolicy:
    """Return a retry policy for broken connections. A source reports one only while its snapshot exists."""
    return retrying(what, lambda error: isinstance(error, SourceUnavailable), observer, patience, sleep=sleep)
