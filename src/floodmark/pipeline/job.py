"""The orchestration of one nightly job, from the settings to the committed manifest. It reads as a list of steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import count

from msgspec import Struct

from floodmark.backends import open_source
from floodmark.config import Settings
from floodmark.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    SourceError,
    SourceMismatch,
    Stopped,
    VerificationFailed,
    exit_code_of,
)
from floodmark.events import Observer, Retried, RunFinished, RunStarted, silent
from floodmark.layout import timestamp_text
from floodmark.model import Reason, TableInfo, TableName
from floodmark.pipeline.attempt import Result, attempt
from floodmark.pipeline.landing import latest_sent
from floodmark.pipeline.observe import decide
from floodmark.pipeline.publish import entries_of, gone_from, manifest_of
from floodmark.pipeline.session import Run
from floodmark.source.base import Snapshot, Source
from floodmark.state.manifest import Manifest
from floodmark.stop import Stop

# A table that was rewritten under each of this many snapshots is given up until the next run. The run itself is given
# up if this many snapshots in a row were lost before a single chunk was finished.
MAX_ATTEMPTS = 3


class RunResult(Struct, frozen=True):
    """The published result of a run. `manifest_key` is relative to the state location, None for a stateless run."""

    manifest: Manifest
    manifest_key: str | None
    uploaded_bytes: int
    duration_seconds: float

    @property
    def failed(self) -> int:
        return sum(entry.status == "failed" for entry in self.manifest.tables)


class PlannedTable(Struct, frozen=True):
    """The plan of a run for a table: its reason, its chunks, and about how many bytes of the source it reads."""

    table: TableName
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class Seen(Struct, frozen=True):
    """The content and the result of one snapshot.

    The snapshot is closed, but its identity and point are still valid.
    """

    snapshot: Snapshot
    timestamp: str
    tables: Sequence[TableInfo]
    result: Result
    gone: Mapping[TableName, str]


def run(settings: Settings, observer: Observer = silent, stop: Stop | None = None) -> RunResult:
    """Do the whole job. Raises FloodmarkError; a table's own failure becomes an entry in the manifest."""
    this = Run(settings, observer, stop or Stop())
    try:
        seen = _worked(this, open_source(settings))
        entries = entries_of(this, seen.tables, seen.result, seen.gone)
        result = _published(this, manifest_of(this, seen.snapshot, seen.timestamp, entries))
    except BaseException as error:
        if isinstance(error, VerificationFailed):
            this.finished.keep(())  # after a failed verification, nothing is reused
        stopped = isinstance(error, Stopped | KeyboardInterrupt)
        # If the state belongs to another database, it records only the runs of that database.
        tell = not isinstance(error, SourceMismatch)
        this.leave("stopped" if stopped else "failed", exit_code_of(error), tell)
        raise
    if result.failed:
        this.leave("partial", EXIT_PARTIAL)
    else:
        this.leave("success", EXIT_OK)
    return result


def plan(settings: Settings, observer: Observer = silent, stop: Stop | None = None) -> list[PlannedTable]:
    """Return what a run would do, and why. Reads only."""
    this = Run(settings, observer, stop or Stop(), only_reads=True)
    snapshot = this.snapshot(open_source(settings), again=False)
    try:
        tables = this.selected(snapshot)
        context = this.context(snapshot, tables, timestamp_text(this.started))
        works = decide(context, [table for table in tables if table.denied is None])
        this.require_not_stopped()
        gone = gone_from(this, snapshot, tables)
    finally:
        snapshot.close()
    planned = [_denied_plan(table, table.denied) for table in tables if table.denied is not None]
    for work in works:
        reason = work.plan.reason if work.error is None else Reason("failed", work.error.sentence)
        extract = work.plan.to_extract
        size = sum(chunk.estimated_bytes for chunk in extract)
        planned.append(PlannedTable(work.table, reason, len(work.plan.chunks), len(extract), size))
    planned += [PlannedTable(name, Reason("dropped", why), 0, 0, 0) for name, why in gone.items()]
    return sorted(planned, key=lambda one: one.table)


def _worked(this: Run, source: Source) -> Seen:
    """Retry with a new snapshot until one attempt completes."""
    in_vain = 0
    for number in count(1):
        known = this.finished.number
        seen = _seen(this, source, number)
        this.require_not_stopped()
        if isinstance(seen, Seen) and not seen.result.lost:
            break
        # A lost snapshot does not count as failed if something new was finished under it.
        in_vain = 0 if isinstance(seen, SourceError) and this.finished.number > known else in_vain + 1
        if in_vain == MAX_ATTEMPTS or this.stopping():
            break
        this.observe(Retried("work under one snapshot", _why_again(seen), number))
    if isinstance(seen, SourceError):
        raise seen
    return seen


def _seen(this: Run, source: Source, number: int) -> Seen | SourceError:
    """Do all the work that one snapshot allows.

    If the snapshot is lost meanwhile, return that error, do not raise it.
    """
    snapshot = this.snapshot(source, again=number > 1)
    try:
        tables = this.selected(snapshot)
        timestamp = this.claim()
        url, point = this.settings.destination.url, snapshot.point
        this.observe(RunStarted(this.run_id, source.label, url, point, number, this.database))
        context = this.context(snapshot, tables, timestamp)
        result = attempt(context, [table for table in tables if table.denied is None])
        return Seen(snapshot, timestamp, tables, result, gone_from(this, snapshot, tables))
    except SourceError as error:
        if snapshot.stands():
            raise
        return error
    finally:
        snapshot.close()


def _why_again(seen: Seen | SourceError) -> str:
    if isinstance(seen, SourceError):
        return seen.sentence
    return "; ".join(error.sentence for error in seen.result.lost.values())


def _published(this: Run, manifest: Manifest) -> RunResult:
    """Commit, unless the run is stateless or was just told to stop."""
    this.require_not_stopped()
    key = None
    if this.stores.ledger is not None:
        committed = this.stores.ledger.commit(manifest, this.current, lambda table: not this.left_out(table))
        manifest, key = committed.manifest, committed.key
    this.published = True
    failed = {entry.table for entry in manifest.tables if entry.status == "failed"}
    this.finished.keep(failed)
    latest = latest_sent(manifest)
    this.sent.commit(lambda table: "" if this.left_out(table) else latest(table))
    seconds = round(time.monotonic() - this.begun, 3)
    result = RunResult(manifest, key, this.uploaded, seconds)
    this.observe(RunFinished(this.run_id, len(manifest.tables), result.failed, this.uploaded, seconds))
    return result


def _denied_plan(table: TableInfo, why: str | None) -> PlannedTable:
    return PlannedTable(table.table, Reason("denied", why or ""), 0, 0, 0)
