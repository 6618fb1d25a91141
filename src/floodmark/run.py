"""The orchestration: one nightly job, from the settings to the committed manifest. Reads as the list of its steps."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from floodmark import __version__
from floodmark.attempt import Context, Result, attempt, decide
from floodmark.config import Settings
from floodmark.detect import Policy, Remembered, remember
from floodmark.entries import Attempt, dropped, failed
from floodmark.errors import ConfigError, FloodmarkError, SourceError, Stopped, TableError
from floodmark.events import ChunkDone, Event, Observer, RunFinished, RunStarted, Warned, silent
from floodmark.layout import data_key, database_segment, table_segment, timestamp_moment, timestamp_of, timestamp_text
from floodmark.model import Point, Reason, SourceIdentity, TableEntry, TableInfo, TableName
from floodmark.source.base import Snapshot
from floodmark.source.selection import narrowed_away
from floodmark.state.ledger import Current, require_same_source
from floodmark.state.manifest import Manifest, ManifestSource
from floodmark.stores import Stores, open_source, open_stores

# A table rewritten under every one of so many snapshots is given up until the next run.
MAX_ATTEMPTS = 3


class RunResult(Struct, frozen=True):
    """What a run published. `manifest_key` is relative to the state location, None for a stateless run."""

    manifest: Manifest
    manifest_key: str | None
    uploaded_bytes: int
    duration_seconds: float

    @property
    def failed(self) -> int:
        return sum(entry.status == "failed" for entry in self.manifest.tables)


class PlannedTable(Struct, frozen=True):
    """What a run would do with a table: its reason, its chunks, and about how many bytes of the source it reads."""

    table: TableName
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class Run:
    """One execution while it lasts: what its steps share."""

    def __init__(self, settings: Settings, observer: Observer, stop: threading.Event) -> None:
        self.settings = settings
        self.started = datetime.now(UTC)
        self.run_id = f"{self.started.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"
        self.begun = time.monotonic()
        self.deadline = self.begun + settings.limits.max_snapshot_age
        self.uploaded = 0
        self._observer = observer
        self._stop = stop
        self._counting = threading.Lock()
        self.stores: Stores = open_stores(settings, self.observe)
        self.current: Current | None = self.stores.ledger.current() if self.stores.ledger else None
        self.other_source = False
        self.default_schema = ""
        self.encoding_digest = f"{self.stores.encoding.format}/{self.stores.encoding.compression}"

    def observe(self, event: Event) -> None:
        if isinstance(event, ChunkDone):
            with self._counting:
                self.uploaded += event.uploaded_bytes
        self._observer(event)

    def stopping(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self.deadline

    def require_not_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped(signal.SIGINT)

    def left_out(self, table: TableName) -> bool:
        """Whether --table or --exclude leaves the table out of this run alone."""
        return narrowed_away(table, self.settings.selection, self.default_schema)

    def remembered(self, carried: Mapping[TableName, Remembered]) -> dict[TableName, Remembered]:
        """What the last commit says of each table, with what this run already has on top."""
        known = {} if self.current is None or self.other_source else self.current.manifest.tables
        told = {entry.table: remember(entry) for entry in known if entry.status != "dropped"}
        return {**told, **carried}


def run(settings: Settings, observer: Observer = silent, stop: threading.Event | None = None) -> RunResult:
    """Do the whole job. Raises FloodmarkError; a table's own failure is an entry in the manifest instead."""
    this = Run(settings, observer, stop or threading.Event())
    source = open_source(settings)
    carried: dict[TableName, Remembered] = {}
    try:
        for number in range(1, MAX_ATTEMPTS + 1):
            snapshot = source.snapshot()
            try:
                tables = _selected(this, snapshot)
                timestamp = _claimed(this)
                this.observe(RunStarted(this.run_id, source.label, settings.destination.url, snapshot.point, number))
                context = _context(this, snapshot, timestamp, carried)
                result = attempt(context, [table for table in tables if table.denied is None])
                this.require_not_stopped()
                gone = _gone(this, snapshot, tables)
            finally:
                snapshot.close()
            if not result.lost or this.stopping():
                break
            carried = _carried_on(this, carried, result)
        manifest = _manifest(this, snapshot, timestamp, _entries(this, tables, result, gone))
        return _published(this, manifest)
    finally:
        if this.stores.ledger is not None:
            this.stores.ledger.release(this.run_id)


def plan(settings: Settings, observer: Observer = silent, stop: threading.Event | None = None) -> list[PlannedTable]:
    """What a run would do, and why. Reads only."""
    this = Run(settings, observer, stop or threading.Event())
    snapshot = open_source(settings).snapshot()
    try:
        tables = _selected(this, snapshot)
        context = _context(this, snapshot, timestamp_text(this.started), {})
        works = decide(context, [table for table in tables if table.denied is None])
        this.require_not_stopped()
        gone = _gone(this, snapshot, tables)
    finally:
        snapshot.close()
    planned = [_denied_plan(table, table.denied) for table in tables if table.denied is not None]
    for work in works:
        reason = work.plan.reason if work.error is None else Reason("failed", work.error.sentence)
        extract = work.plan.to_extract
        size = sum(chunk.estimated_bytes for chunk in extract)
        planned.append(PlannedTable(work.table, reason, len(work.plan.chunks), len(extract), size))
    planned += [PlannedTable(name, Reason("dropped", "gone from the source"), 0, 0, 0) for name in gone]
    return sorted(planned, key=lambda one: one.table)


def _selected(this: Run, snapshot: Snapshot) -> list[TableInfo]:
    """The tables this run is about, once it is sure that they may be read into this state."""
    for warning in snapshot.warnings:
        this.observe(Warned(warning))
    if this.current is not None:
        adopt = this.settings.adopt_source
        this.other_source = require_same_source(this.current, snapshot.identity, adopt=adopt)
    this.default_schema = snapshot.default_schema
    tables = snapshot.tables(this.settings.selection, this.encoding_digest)
    _require_approved(this, tables)
    if this.stores.ledger is None:
        _require_all_readable(this, tables)
    return tables


def _require_approved(this: Run, tables: Sequence[TableInfo]) -> None:
    if this.settings.selection.new != "fail" or this.current is None or this.other_source:
        return
    known = {entry.table for entry in this.current.manifest.tables}
    new = sorted(table.table.label for table in tables if table.table not in known)
    if new:
        raise ConfigError(
            "a table no one has approved",
            on=", ".join(new),
            why="tables.new is fail",
            hint="Run once with tables.new: include to accept it, or add it to tables.exclude.",
        )


def _require_all_readable(this: Run, tables: Sequence[TableInfo]) -> None:
    """Without a manifest no one would learn that a table is missing: so nothing is sent at all."""
    this.observe(Warned("no state: every table is extracted whole; set FLOODMARK_STATE to move only what changed"))
    denied = [f"{table.table.label} ({table.denied})" for table in tables if table.denied is not None]
    if denied:
        raise SourceError(
            "some tables can't be read, and nothing was sent",
            on=", ".join(denied),
            hint="Grant SELECT on them to the role, or leave them out (tables.exclude).",
        )


def _claimed(this: Run) -> str:
    """A timestamp that is this attempt's own, for the keys of its objects."""
    if this.stores.ledger is None:
        return timestamp_text(datetime.now(UTC))
    if this.current is None and not this.settings.destination.allow_unconditional_writes:
        this.stores.ledger.check()
    return this.stores.ledger.claim(this.run_id, datetime.now(UTC)).timestamp


def _context(this: Run, snapshot: Snapshot, timestamp: str, carried: Mapping[TableName, Remembered]) -> Context:
    settings, stores = this.settings, this.stores
    identity = snapshot.identity

    def key(table: TableName, number: int) -> str:
        override = settings.destination.database_name
        database = database_segment(stores.layout, identity.database, override, table)
        segment = table_segment(table, snapshot.default_schema)
        return data_key(database, segment, timestamp, number, stores.encoding)

    return Context(
        snapshot=snapshot,
        destination=stores.destination,
        layout=stores.layout,
        encoding=stores.encoding,
        attempt=Attempt(this.run_id, snapshot.point, stores.encoding),
        policy=_policy(this),
        remembered=this.remembered(carried),
        key=key,
        observer=this.observe,
        stopping=this.stopping,
        redefined=lambda tables: snapshot.redefined(tables, settings.selection, this.encoding_digest),
        audit_chunks=settings.audit_chunks,
    )


def _policy(this: Run) -> Callable[[Remembered], Policy]:
    settings, stays = this.settings, this.stores.layout.objects_stay
    oldest = this.started - timedelta(days=settings.destination.resend_after_days)

    def policy(remembered: Remembered) -> Policy:
        sent = [timestamp_of(entry.key) for entry in remembered.good.objects] if remembered.good else []
        due = not stays and any(text is not None and timestamp_moment(text) < oldest for text in sent)
        return Policy(settings.chunk_bytes, settings.full, stays, due)

    return policy


def _carried_on(this: Run, carried: Mapping[TableName, Remembered], result: Result) -> dict[TableName, Remembered]:
    """What this attempt finished is, to the next one, a remembered state to be proven unchanged."""
    told = this.remembered(carried)
    return {
        table: Remembered(told[table].entry if table in told else None, {**told[table].chunks, **chunks})
        if table in told
        else Remembered(None, chunks)
        for table, chunks in result.chunks.items()
        if chunks
    } | {table: one for table, one in carried.items() if table not in result.chunks}


def _gone(this: Run, snapshot: Snapshot, tables: Iterable[TableInfo]) -> list[TableName]:
    """Tables that the state knows and the source has no more. One that was only not selected is not gone."""
    selected = {table.table for table in tables}
    away = [name for name in this.remembered({}) if name not in selected]
    existing = snapshot.existing(away)
    return [name for name in away if name not in existing and not this.left_out(name)]


def _entries(this: Run, tables: Sequence[TableInfo], result: Result, gone: Sequence[TableName]) -> list[TableEntry]:
    """Every table's entry: done, failed, dropped, or (not part of this run) as it was."""
    told = this.remembered({})
    entries = dict(result.entries)
    for table in tables:
        error: FloodmarkError | None = result.lost.get(table.table)
        if table.denied is not None:
            error = TableError("can't be read", code="denied", why=table.denied)
        if error is not None:
            entries[table.table] = failed(table, error, told.get(table.table, Remembered()))
    for name, remembered in told.items():
        if remembered.entry is None or name in entries:
            continue
        if name in gone:
            entries[name] = dropped(remembered.entry)
        elif this.left_out(name):
            entries[name] = remembered.entry
    return [entries[name] for name in sorted(entries)]


def _manifest(this: Run, snapshot: Snapshot, timestamp: str, entries: Sequence[TableEntry]) -> Manifest:
    identity: SourceIdentity = snapshot.identity
    point: Point = snapshot.point
    whole = all(entry.as_of == point.taken_at for entry in entries if entry.status != "dropped")
    return Manifest(
        run_id=this.run_id,
        parent=this.current.head.manifest if this.current is not None else None,
        tool_version=__version__,
        started_at=_iso(this.started),
        finished_at=_iso(datetime.now(UTC)),
        timestamp=timestamp,
        destination=this.stores.destination.url,
        layout=this.stores.layout.name,
        consistent=whole and all(entry.status != "failed" for entry in entries),
        source=ManifestSource(
            dialect=identity.dialect,
            database=identity.database,
            system_identifier=identity.system_identifier,
            server_version=identity.server_version,
            snapshot=point,
        ),
        tables=tuple(entries),
    )


def _published(this: Run, manifest: Manifest) -> RunResult:
    """Commit, unless the run is stateless or was told to stop just now."""
    this.require_not_stopped()
    key = None
    if this.stores.ledger is not None:
        committed = this.stores.ledger.commit(manifest, this.current, lambda table: not this.left_out(table))
        manifest, key = committed.manifest, committed.key
    seconds = round(time.monotonic() - this.begun, 3)
    result = RunResult(manifest, key, this.uploaded, seconds)
    this.observe(RunFinished(this.run_id, len(manifest.tables), result.failed, this.uploaded, seconds))
    return result


def _denied_plan(table: TableInfo, why: str | None) -> PlannedTable:
    return PlannedTable(table.table, Reason("denied", why or ""), 0, 0, 0)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
