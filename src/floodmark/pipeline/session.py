"""The state of a run that its steps share, from the first read of the state to its removal from the list of runs."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from msgspec.structs import replace
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_after_delay, wait_fixed

from floodmark.backends import Stores, open_stores
from floodmark.config import Settings
from floodmark.errors import ConfigError, SourceError, SourceUnavailable, StorageDenied
from floodmark.events import Audited, ChunkDone, Event, Observer, Retried, RunEnded, Warned
from floodmark.layout import data_key, database_segment, table_segment, timestamp_moment, timestamp_of, timestamp_text
from floodmark.model import Ended, Outcome, SourceIdentity, TableInfo, TableName
from floodmark.pipeline.detect import Policy
from floodmark.pipeline.entries import Attempt, ChunkOutcome, remembered_chunk
from floodmark.pipeline.landing import Sent
from floodmark.pipeline.remembered import Remembered, remember, with_finished
from floodmark.pipeline.resume import Finished, usable
from floodmark.pipeline.work import Context
from floodmark.source.base import Snapshot, Source
from floodmark.source.selection import narrowed_away
from floodmark.source.waiting import WaitsOnce
from floodmark.state.inflight import begun
from floodmark.state.ledger import Current, Ledger, require_same_source
from floodmark.state.manifest import FinishedChunks, Progress
from floodmark.stop import Stop
from floodmark.wording import iso_time

# A server that goes down under a run gets this long to come back, even if `source.wait_seconds` is less.
SECONDS_TO_COME_BACK = 300
_SECONDS_BETWEEN_TRIES = 5
# A claim lies at most this far ahead, one second for each failed snapshot. More means that the clock was set back.
MAX_SECONDS_AHEAD = 5


class Run:
    """One execution of a run.

    If it dies, it leaves its progress and its place in the list of runs. If it ends, it leaves them only if something
    that it finished is not committed.
    """

    def __init__(self, settings: Settings, observer: Observer, stop: Stop, *, only_reads: bool = False) -> None:
        self.settings = settings
        self.started = datetime.now(UTC)
        self.run_id = f"{self.started.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"
        self.begun = time.monotonic()
        self.uploaded = self.retries = self.audited = self.mismatches = 0
        self.database = ""
        self._deadline: float | None = None
        self._claimed = False
        self._last_claim: datetime | None = None
        self._locked = set[TableName]()
        self.published = False
        self._observer = observer
        self._stop = stop
        self._counting = threading.Lock()
        self.stores: Stores = open_stores(settings, self.observe)
        self.current = self._found(only_reads)
        self.finished = self._left_by_others()
        self.sent = self._sent_by_others()
        self.other_source = False
        self.default_schema = ""
        self.encoding_digest = self.stores.encoding.digest

    def _found(self, only_reads: bool) -> Current | None:
        """Return the committed state.

        If the S3 credentials may not list, S3 refuses a missing head the same way as one that may not be read. A run
        tells them apart by writing an object of its own.
        """
        ledger = self.stores.ledger
        if ledger is None:
            return None
        try:
            return ledger.current()
        except StorageDenied:
            if only_reads:
                raise
            ledger.check()
            return ledger.current()

    def observe(self, event: Event) -> None:
        with self._counting:
            if isinstance(event, ChunkDone):
                self.uploaded += event.uploaded_bytes
            elif isinstance(event, Retried):
                self.retries += 1
            elif isinstance(event, Audited):
                self.audited += 1
                self.mismatches += not event.same
        self._observer(event)

    def stopping(self) -> bool:
        return self._stop.is_set() or (self._deadline is not None and time.monotonic() > self._deadline)

    def require_not_stopped(self) -> None:
        self._stop.require_not_asked()

    def left_out(self, table: TableName) -> bool:
        """Return True if --table or --exclude leaves the table out of this run."""
        return narrowed_away(table, self.settings.selection, self.default_schema)

    def committed(self) -> dict[TableName, Remembered]:
        """Return the last committed state of each table."""
        known = {} if self.current is None or self.other_source else self.current.manifest.tables
        return {entry.table: remember(entry) for entry in known if entry.status != "dropped"}

    # Under a snapshot

    def snapshot(self, source: Source, again: bool) -> Snapshot:
        """Take a snapshot, and wait for a server that is down. Raises Stopped, SourceError."""
        patience = max(self.settings.source.wait_seconds, SECONDS_TO_COME_BACK if again else 0)
        tries = Retrying(
            retry=retry_if_exception_type(SourceUnavailable),
            stop=lambda state: self.stopping() or stop_after_delay(patience)(state),
            wait=wait_fixed(_SECONDS_BETWEEN_TRIES),
            sleep=sleep_using_event(self._stop),
            before_sleep=self._told_to_wait,
            reraise=True,
        )
        try:
            snapshot = WaitsOnce(tries(source.snapshot), self._locked, self.settings.limits.lock_timeout)
        except SourceUnavailable:
            self.require_not_stopped()
            raise
        self.database = snapshot.identity.database
        if self._deadline is None:
            self._deadline = time.monotonic() + self.settings.limits.max_snapshot_age
        return snapshot

    def selected(self, snapshot: Snapshot) -> list[TableInfo]:
        """Return the tables of this run, after the check that they may be read into this state."""
        for drawback in snapshot.drawbacks:
            self.observe(Warned(str(drawback)))
        if self.current is not None:
            adopt = self.settings.adopt_source
            self.other_source = require_same_source(self.current, snapshot.identity, adopt=adopt)
        self.finished.begin(snapshot.identity)
        self.default_schema = snapshot.default_schema
        tables = snapshot.tables(self.settings.selection, self.encoding_digest)
        _require_approved(self, tables)
        if self.stores.ledger is None:
            _require_all_readable(self, tables)
        return tables

    def claim(self) -> str:
        """Return a timestamp that only this attempt has, for the keys of its objects."""
        ledger = self.stores.ledger
        if ledger is None:
            self._last_claim = _later(self._last_claim, datetime.now(UTC))
            return timestamp_text(self._last_claim)
        if self.current is None and not self.settings.destination.allow_unconditional_writes:
            ledger.check()
        self._claimed = True  # set even if the claim fails: it might still have taken effect
        return ledger.claim(self.run_id, datetime.now(UTC)).timestamp

    def context(self, snapshot: Snapshot, tables: Sequence[TableInfo], timestamp: str) -> Context:
        settings, stores = self.settings, self.stores
        return Context(
            snapshot=snapshot,
            destination=stores.destination,
            layout=stores.layout,
            encoding=stores.encoding,
            attempt=Attempt(self.run_id, snapshot.point, stores.encoding),
            policy=_policy(self),
            remembered=self._remembered(snapshot, tables),
            key=_keys(self, snapshot, timestamp),
            observer=self.observe,
            stopping=self.stopping,
            announce=lambda tables: self._announce(tables, timestamp),
            landed=lambda table, put: self.sent.landed(table, put=put),
            done=lambda info, outcome: self._done(snapshot, info, outcome),
            redefined=lambda tables: snapshot.redefined(tables, settings.selection, self.encoding_digest),
            audit_chunks=settings.audit_chunks,
        )

    def _remembered(self, snapshot: Snapshot, tables: Sequence[TableInfo]) -> dict[TableName, Remembered]:
        told = self.committed()
        return {
            info.table: with_finished(
                replace(told.get(info.table, Remembered()), sent_since=self.sent.since(info.table)),
                self.finished.of(info.table),
                info,
                snapshot.point,
            )
            for info in tables
        }

    def _announce(self, tables: Sequence[TableName], timestamp: str) -> None:
        """Record that objects of these tables are about to be put under this timestamp.

        Raises StorageError, Conflict.
        """
        if self.stores.layout.objects_stay:
            self.finished.announce(timestamp)
        else:
            self.sent.begin(tables, timestamp)

    def _done(self, snapshot: Snapshot, info: TableInfo, outcome: ChunkOutcome) -> None:
        known = remembered_chunk(outcome, info, snapshot.point)
        if known is not None:
            self.finished.add(info.table, known)

    def _told_to_wait(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        why = error.sentence if isinstance(error, SourceError) else type(error).__name__
        self.observe(Retried("take a snapshot", why, state.attempt_number))

    # Progress

    def leave(self, outcome: Outcome, exit_code: int, tell: bool = True) -> None:
        """End the run.

        The run leaves the list of runs in flight, unless it finished something that the next run can continue from. Its
        end is noted in the ledger if `tell` is set, and sent to the observer.
        """
        ended = self._ended(outcome, exit_code)
        ledger = self.stores.ledger
        if self._claimed and self.finished.worth_keeping:
            self.finished.save()
        elif self._claimed and ledger is not None:
            if self.published and not self.finished.scattered:
                ledger.remove_progress(self.run_id)  # else prune needs it to recognize this run's objects
            ledger.release(self.run_id, ended, self.sent.committed if self.published else ())
            tell = False
        # A run that was refused before it began anything does not begin a state.
        if tell and ledger is not None and (self._claimed or self.current is not None):
            ledger.note(ended)
        self._outlive_its_second()
        self.observe(RunEnded(ended))

    def _outlive_its_second(self) -> None:
        """Wait until the last claimed second is over.

        Without state, nothing else keeps a run that starts right after this one from using the same timestamp. It would
        then put other objects under the same keys.
        """
        if self._last_claim is not None:
            over = self._last_claim.replace(microsecond=0) + timedelta(seconds=1)
            left = (over - datetime.now(UTC)).total_seconds()
            time.sleep(min(max(left, 0), MAX_SECONDS_AHEAD))

    def _ended(self, outcome: Outcome, exit_code: int) -> Ended:
        return Ended(
            run_id=self.run_id,
            database=self.database or (self.current.head.database if self.current is not None else ""),
            started_at=iso_time(self.started),
            ended_at=iso_time(datetime.now(UTC)),
            outcome=outcome,
            exit_code=exit_code,
            retries=self.retries,
            audited_chunks=self.audited,
            audit_mismatches=self.mismatches,
            uploaded_bytes=self.uploaded,
        )

    def _left_by_others(self) -> Finished:
        """Read the progress of other runs before the first snapshot, so that all of it is older than that snapshot."""
        ledger, here = self.stores.ledger, self.stores.destination.url
        if ledger is None or not self.stores.layout.objects_stay:
            return Finished((), None, self.observe)
        found = ledger.left_behind(self.started, lambda why: self.observe(Warned(why)))
        floor = self.current.head.floor if self.current is not None else None
        left = [usable(progress, here, self.stores.encoding, self.started, floor) for progress in found]
        return Finished(left, partial(self._save, ledger), self.observe)

    def _sent_by_others(self) -> Sent:
        ledger = self.stores.ledger
        if ledger is None or self.stores.layout.objects_stay:
            return Sent((), None)
        return Sent(begun(ledger.in_flight()), ledger.begin)

    def _save(
        self, ledger: Ledger, source: SourceIdentity, timestamps: tuple[str, ...], chunks: tuple[FinishedChunks, ...]
    ) -> None:
        ledger.save(
            Progress(
                run_id=self.run_id,
                written_at=iso_time(datetime.now(UTC)),
                destination=self.stores.destination.url,
                encoding=self.stores.encoding,
                dialect=source.dialect,
                system_identifier=source.system_identifier,
                database=source.database,
                timestamps=timestamps,
                chunks=chunks,
            )
        )


def _later(before: datetime | None, now: datetime) -> datetime:
    """Return now, or the second after `before`: no two snapshots must put objects under one timestamp."""
    return now if before is None else max(now, before + timedelta(seconds=1))


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
    """Refuse to send anything if a table can't be read. Without a manifest, nobody would learn that it is missing."""
    this.observe(Warned("no state: every table is extracted whole; set FLOODMARK_STATE to move only what changed"))
    denied = [f"{table.table.label} ({table.denied})" for table in tables if table.denied is not None]
    if denied:
        raise SourceError(
            "some tables can't be read, and nothing was sent",
            on=", ".join(denied),
            hint="Grant SELECT on them to the role, or leave them out (tables.exclude).",
        )


def _keys(this: Run, snapshot: Snapshot, timestamp: str) -> Callable[[TableName, int], str]:
    stores, database = this.stores, snapshot.identity.database

    def key(table: TableName, number: int) -> str:
        segment = table_segment(table, snapshot.default_schema)
        place = database_segment(stores.layout, database, this.settings.destination.database_name, table)
        return data_key(place, segment, timestamp, number, stores.encoding)

    return key


def _policy(this: Run) -> Callable[[Remembered], Policy]:
    settings, stays = this.settings, this.stores.layout.objects_stay
    oldest = this.started - timedelta(days=settings.destination.resend_after_days)

    def policy(remembered: Remembered) -> Policy:
        sent = [timestamp_of(entry.key) for entry in remembered.good.objects] if remembered.good else []
        due = not stays and any(text is not None and timestamp_moment(text) < oldest for text in sent)
        return Policy(settings.chunk_bytes, settings.full, stays, due or remembered.sent_since == "half")

    return policy
