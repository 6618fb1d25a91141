"""The extraction of one chunk, rows → JSON lines → compressed, hashed, spooled, compared, put.

A chunk is finished in the spool before any of its bytes leave. So a chunk that turns out to be wrong (a broken
connection, a table rewritten meanwhile) is thrown away, and a repeated put starts at byte 0.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from typing import BinaryIO, cast

from msgspec import UNSET, Struct
from msgspec.structs import replace
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from floodmark.engine.base import TaskStopped
from floodmark.errors import (
    ConditionFailed,
    OutcomeUnknown,
    SourceUnavailable,
    StorageError,
    TableError,
)
from floodmark.events import ChunkDone, Observer, Retried
from floodmark.layout import Layout
from floodmark.model import Encoding, ObjectEntry, TableInfo
from floodmark.objects.compression import compressor
from floodmark.objects.numbers import quote_large
from floodmark.pipeline.detect import ChunkPlan
from floodmark.pipeline.entries import ChunkOutcome
from floodmark.source.base import Snapshot
from floodmark.storage.base import Body, Condition, IfAbsent, Storage
from floodmark.storage.stands import stands

# A larger spool goes to a temporary file: memory stays flat with four chunks in progress.
SPOOL_MEMORY = 24 * 1024**2
_TRIES = 4


class Spool:
    """A buffer of a chunk's stored bytes, with the digests of its input and of its output."""

    def __init__(self, encoding: Encoding, stopping: Callable[[], bool]) -> None:
        self._compressor = compressor(encoding.compression)
        self._stopping = stopping
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY, prefix="floodmark-")  # noqa: SIM115
        self._raw, self._stored = hashlib.sha256(), hashlib.sha256()
        self.raw_bytes = self.stored_bytes = 0

    def write(self, lines: bytes) -> None:
        """Take a block of whole lines. Raises TaskStopped, and StorageError if the disk is full."""
        if self._stopping():
            raise TaskStopped
        self._raw.update(lines)
        self.raw_bytes += len(lines)
        self._keep(self._compressor.compress(lines))

    def finish(self) -> None:
        self._keep(self._compressor.flush())

    def _keep(self, stored: bytes) -> None:
        self._stored.update(stored)
        self.stored_bytes += len(stored)
        try:
            self._file.write(stored)
        except OSError as error:
            raise StorageError(
                "can't spool a chunk",
                on=tempfile.tempdir or "the folder for temporary files",  # gettempdir() would try to write there
                why=error.strerror,
                hint="TMPDIR names another place for temporary files.",
            ) from None

    @property
    def content_sha256(self) -> str:
        return self._raw.hexdigest()

    @property
    def body(self) -> Body:
        self._file.seek(0)
        return Body(cast(BinaryIO, self._file), self.stored_bytes, self._stored.hexdigest())

    def close(self) -> None:
        self._file.close()


class Job(Struct, frozen=True):
    """A chunk to extract, with the key of its object and the objects that it can turn out to equal.

    `known` holds the table's stored objects by content digest. If the chunk equals one of them, and that one still
    exists at the destination, the entry names it again and nothing is put.
    """

    info: TableInfo
    plan: ChunkPlan
    key: str
    known: dict[str, ObjectEntry]
    put_identical: bool = True


class Extractor:
    """A runner of jobs against one snapshot and one destination. Several threads can call its methods.

    It asks `stopping` between blocks. If the answer is True, `TaskStopped` ends the chunk.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        destination: Storage,
        layout: Layout,
        encoding: Encoding,
        observer: Observer,
        stopping: Callable[[], bool],
    ) -> None:
        self._snapshot = snapshot
        self._destination = destination
        self._layout = layout
        self._encoding = encoding
        self._observer = observer
        self._stopping = stopping

    def extract(self, job: Job) -> ChunkOutcome:
        """Extract one chunk. Retry after a broken connection as long as the snapshot exists."""
        return patiently(self._observer, f"extract a chunk of {job.info.table.label}")(self._once, job)

    def _once(self, job: Job) -> ChunkOutcome:
        begun = time.monotonic()
        spool = Spool(self._encoding, self._stopping)
        try:
            plan = job.plan
            got = self._snapshot.extract(job.info, plan.part, plan.chunk, plan.open, self._written(spool.write))
            spool.finish()
            entry = self._stored(job, spool, got.lines) if got.lines else None
            uploaded = entry.stored_bytes if entry is not None and entry.origin == "extracted" else 0
            self._observer(ChunkDone(job.info.table, got.lines, spool.raw_bytes, uploaded, time.monotonic() - begun))
            return ChunkOutcome(plan, entry, got.observed)
        finally:
            spool.close()

    def _written(self, take: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Return a consumer of the source's lines that passes them on in the run's encoding."""
        return take if self._encoding.numbers is UNSET else lambda lines: take(quote_large(lines))

    def digest(self, job: Job) -> str | None:
        """Return the content digest of a chunk, None if it has no lines. Store nothing."""
        digest = hashlib.sha256()

        def take(lines: bytes) -> None:
            if self._stopping():
                raise TaskStopped
            digest.update(lines)

        plan = job.plan
        got = self._snapshot.extract(job.info, plan.part, plan.chunk, plan.open, self._written(take))
        return digest.hexdigest() if got.lines else None

    def _stored(self, job: Job, spool: Spool, lines: int) -> ObjectEntry:
        known = job.known.get(spool.content_sha256)
        if known is not None and (not job.put_identical or still_there(self._destination, known)):
            return replace(known, chunk=job.plan.chunk, origin="reused")
        body = spool.body
        limit = self._layout.max_object_bytes
        if limit is not None and body.size > limit:
            raise TableError(
                "an object is too large for the receiver",
                on=job.info.table.label,
                why=f"{body.size:,} bytes; it takes {limit:,}",
                hint="Set a smaller chunk_size; a table that is read whole (a view, say) can't be split.",
            )
        self._put(job.key, body)
        return ObjectEntry(
            key=job.key,
            rows=lines,
            raw_bytes=spool.raw_bytes,
            stored_bytes=body.size,
            sha256=body.sha256,
            content_sha256=spool.content_sha256,
            chunk=job.plan.chunk,
            origin="extracted",
        )

    def _put(self, key: str, body: Body) -> None:
        """Put an object.

        The key is this run's own, so an object that already exists there can only be this run's earlier try.
        """
        condition: Condition = IfAbsent() if self._layout.objects_stay else None
        try:
            self._destination.put(key, body, condition)
        except (OutcomeUnknown, ConditionFailed):
            if not stands(self._destination, key, body.size, body.sha256):
                raise


def still_there(destination: Storage, entry: ObjectEntry) -> bool:
    """Return True if an object that a manifest names exists at the destination."""
    return stands(destination, entry.key, entry.stored_bytes, entry.sha256)


def patiently(observer: Observer, what: str) -> Retrying:
    """Return a retry policy for broken connections. A source reports one only while its snapshot exists."""

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        why = error.sentence if isinstance(error, SourceUnavailable) else type(error).__name__
        observer(Retried(what, why, state.attempt_number))

    return Retrying(
        retry=retry_if_exception_type(SourceUnavailable),
        stop=stop_after_attempt(_TRIES),
        wait=wait_exponential(0.5, 20) + wait_random(0, 0.5),
        before_sleep=tell,
        reraise=True,
    )
