"""The end of a run: one entry for each table, the manifest, and its commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import UNSET, Struct

from floodmark.contract.apply import approval_hint
from floodmark.errors import FloodmarkError, TableError
from floodmark.events import RunFinished, StepStarted, TableFinished
from floodmark.layout import default_schema
from floodmark.model import TableEntry
from floodmark.observed import TableInfo
from floodmark.pipeline.attempt import AttemptResult
from floodmark.pipeline.entries import carried_over, dropped_entry, failed_entry
from floodmark.pipeline.guards import rows_refusal
from floodmark.pipeline.landing import latest_sent
from floodmark.pipeline.remembered import Remembered
from floodmark.pipeline.session import Session
from floodmark.state.manifest import Manifest, ManifestSource
from floodmark.version import __version__
from floodmark.wording import iso_time


class RunResult(Struct, frozen=True):
    """The published result of a run.

    Attributes:
        manifest: The manifest, with one entry per table. `manifest.attempted` are those that this run worked on.
        manifest_key: Its key, relative to the state location. None for a run without state.
        uploaded_bytes: The bytes that were put at the destination, after compression.
        duration_seconds: The duration of the run in seconds.
        overtaken: The number of tables that another run committed meanwhile, from a later snapshot.
        completion_error: The reason why the commit was not announced to schedulers (`completion` in the configuration).
    """

    manifest: Manifest
    manifest_key: str | None
    uploaded_bytes: int
    duration_seconds: float
    overtaken: int = 0
    completion_error: FloodmarkError | None = None

    @property
    def failed(self) -> int:
        """Return the number of tables that this run could not read."""
        return sum(entry.status == "failed" for entry in self.manifest.attempted)


def publish(session: Session, result: AttemptResult) -> RunResult:
    """Commit the manifest, unless the run has no state or was just told to stop.

    Raises Stopped, LossRefused, Conflict, OutcomeUnknown, StorageError.
    """
    session.observe(StepStarted("committing"))
    entries = _all_entries(session, result)
    session.stop.require_not_asked()
    refusal = rows_refusal(session, entries)
    if refusal is not None:
        raise refusal
    for entry in entries:
        if entry.table in result.gone:
            session.observe(TableFinished(entry))
    manifest = _make_manifest(session, result, entries)
    key, overtaken = None, 0
    if session.backends.ledger is not None:
        committed = session.backends.ledger.commit(manifest, session.current, lambda table: not session.left_out(table))
        ours = {entry.table for entry in manifest.attempted}
        manifest, key = committed.manifest, committed.key
        overtaken = len(ours - {entry.table for entry in manifest.attempted})
    session.published = True
    session.progress.keep_only({entry.table for entry in manifest.tables if entry.status == "failed"})
    latest = latest_sent(manifest)
    session.sent.record_committed(lambda table: "" if session.left_out(table) else latest(table))
    seconds = round(time.monotonic() - session.begun, 3)
    uploaded = session.counts.uploaded_bytes
    done = RunResult(manifest, key, uploaded, seconds, overtaken)
    session.observe(RunFinished(session.run_id, len(manifest.attempted), done.failed, uploaded, seconds))
    return done


def _all_entries(session: Session, result: AttemptResult) -> list[TableEntry]:
    """Return the entry of every table: done, failed, dropped, or carried over if it is not part of this run."""
    committed = session.committed_tables()
    entries = dict(result.entries)
    for table in result.tables:
        error: FloodmarkError | None = result.lost.get(table.table)
        if table.denied is not None:
            error = denial_of(table, table.denied)
        if error is not None:
            entries[table.table] = failed_entry(table, error, committed.get(table.table, Remembered()))
    for name, remembered in committed.items():
        if remembered.entry is None or name in entries:
            continue
        if name in result.gone:
            entries[name] = dropped_entry(remembered.entry, result.gone[name].reason)
        elif session.left_out(name):
            entries[name] = carried_over(remembered.entry)
    return [entries[name] for name in sorted(entries)]


def denial_of(table: TableInfo, why: str) -> TableError:
    """Return the error of a table that the role can't read, or that the contract refuses."""
    if table.denied_by == "contract":
        return TableError("the contract refuses it", code="contract", why=why, hint=approval_hint(table.table))
    return TableError("can't be read", code=table.denied_by, why=why)


def _make_manifest(session: Session, result: AttemptResult, entries: Sequence[TableEntry]) -> Manifest:
    identity, point, schema = result.identity, result.point, session.default_schema
    whole = point.mixed is not True and all(
        entry.as_of == point.taken_at for entry in entries if entry.status != "dropped"
    )
    return Manifest(
        run_id=session.run_id,
        parent=session.current.head.manifest if session.current is not None else None,
        tool_version=__version__,
        started_at=iso_time(session.started),
        finished_at=iso_time(datetime.now(UTC)),
        timestamp=result.timestamp,
        destination=session.backends.destination.url,
        layout=session.backends.layout.name,
        consistent=whole and all(entry.status != "failed" for entry in entries),
        source=ManifestSource(
            dialect=identity.dialect,
            database=identity.database,
            system_identifier=identity.system_identifier,
            server_version=identity.server_version,
            snapshot=point,
            schema=UNSET if schema == default_schema(identity.dialect, identity.database) else schema,
        ),
        tables=tuple(entries),
        uploaded_bytes=session.counts.uploaded_bytes,
        announces=True if session.settings.completion.wanted else UNSET,
        audit_carried=result.audit_carried or UNSET,
        contract=session.contract,
    )
