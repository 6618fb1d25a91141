"""A run in progress: what it read before its first snapshot, its claim, its progress, and its end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from floodmark.backends import open_backends
from floodmark.config import Settings
from floodmark.engine.base import Cluster
from floodmark.engine.local import ThisProcess
from floodmark.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    FloodmarkError,
    RunStopped,
    SourceMismatch,
    Stopped,
    StorageDenied,
    VerificationFailed,
    exit_code_of,
)
from floodmark.events import (
    Event,
    Observer,
    RunEnded,
    StepStarted,
    Warned,
)
from floodmark.layout import progress_key, timestamp_text
from floodmark.model import ContractFacts, Ended, Outcome, TableName
from floodmark.observed import TableInfo
from floodmark.pipeline.attempt import Attempt
from floodmark.pipeline.blocks import with_base
from floodmark.pipeline.landing import SentTables
from floodmark.pipeline.remembered import Remembered, remember_entry, with_finished
from floodmark.pipeline.resume import FinishedWork, ProgressTracker, usable_chunks
from floodmark.pipeline.run_counts import RunCounts
from floodmark.pipeline.stopped import KeptWork, stopped_run
from floodmark.pipeline.work import TableWork
from floodmark.source.base import SourceSnapshot
from floodmark.source.selection import narrowed_away
from floodmark.state.inflight import begun_tables
from floodmark.state.ledger import Current, Ledger, require_same_source
from floodmark.state.manifest import Manifest, Progress
from floodmark.stop import Deadline, Stop
from floodmark.wording import iso_time

# A claim lies at most this far ahead, one second for each failed snapshot. More means that the clock was set back.
MAX_SECONDS_AHEAD = 5


class Session:
    """One run, from the first read of the state to its removal from the list of runs.

    If it dies, it leaves its progress and its place in the list of runs. If it ends, it leaves them only if something
    that it finished is not committed.
    """

    def __init__(self, settings: Settings, observer: Observer, stop: Stop, *, only_reads: bool = False) -> None:
        self.settings = settings
        self.started = datetime.now(UTC)
        self.run_id = f"{self.started.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"
        self.begun = time.monotonic()
        self.counts = RunCounts()
        self.stop = stop
        self.deadline = Deadline(stop)
        self.locked_tables = set[TableName]()
        self.published = False
        self._chunks_to_finish = 0
        self._database = ""
        self._claimed = False
        self._committed: Mapping[TableName, Remembered] | None = None
        self._last_claim: datetime | None = None
        self._observer = observer
        self._warned = set[str]()
        self.observe(StepStarted("reading the state"))
        self.backends = open_backends(settings, self.observe)
        self.current = self._committed_state(only_reads)
        self.progress = self._progress_of_others()
        self.sent = self._sent_by_others()
        self.other_source = False
        self.incomplete: tuple[tuple[str, Manifest], ...] = ()  # commits that are not announced yet, with their keys
        self.default_schema = ""
        self.contract: ContractFacts | UnsetType = UNSET  # as of the last snapshot
        self.cluster: Cluster = ThisProcess()

    @property
    def database(self) -> str:
        """Return the database's name, from the snapshot or the state, or an empty string before either is known."""
        return self._database or (self.current.head.database if self.current is not None else "")

    def observe(self, event: Event) -> None:
        """Count an event, and pass it on. Several threads can call it."""
        self.counts.add(event)
        self._observer(event)

    def warn_once(self, message: str) -> None:
        """Warn of a fact that each attempt of this run finds again."""
        if message not in self._warned:
            self._warned.add(message)
            self.observe(Warned(message))

    def left_out(self, table: TableName) -> bool:
        """Return True if --table or --exclude leaves the table out of this run."""
        return narrowed_away(table, self.settings.selection, self.default_schema)

    def committed_tables(self) -> Mapping[TableName, Remembered]:
        """Return the last committed state of each table."""
        if self.other_source:
            return {}
        if self._committed is None:
            known = () if self.current is None else self.current.manifest.tables
            self._committed = {entry.table: remember_entry(entry) for entry in known if entry.status != "dropped"}
        return self._committed

    # Before the first snapshot

    def _committed_state(self, only_reads: bool) -> Current | None:
        """Return the committed state.

        If the S3 credentials may not list, S3 refuses a missing head the same way as one that may not be read. A run
        tells them apart by writing an object of its own.
        """
        ledger = self.backends.ledger
        if ledger is None:
            return None
        try:
            return ledger.current()
        except StorageDenied:
            if only_reads:
                raise
            ledger.check()
            return ledger.current()

    def _progress_of_others(self) -> ProgressTracker:
        """Read the progress of other runs before the first snapshot, so that all of it is older than that snapshot."""
        ledger, here = self.backends.ledger, self.backends.destination.url
        if ledger is None or not self.backends.layout.objects_stay:
            return ProgressTracker((), None, self.observe)
        found = ledger.left_behind(self.started, lambda why: self.observe(Warned(why)))
        floor = self.current.head.floor if self.current is not None else None
        committed = self.current.manifest if self.current is not None else None
        left = [
            replace(
                usable_chunks(progress, here, self.backends.encoding, self.started, floor, committed),
                outcome="unfinished" if ended is None else ended.outcome,
            )
            for progress, ended in found
        ]
        return ProgressTracker(left, partial(self._save_progress, ledger), self.observe)

    def _sent_by_others(self) -> SentTables:
        ledger = self.backends.ledger
        if ledger is None or self.backends.layout.objects_stay:
            return SentTables((), None)
        return SentTables(begun_tables(ledger.in_flight()), ledger)

    # Under a snapshot

    def identify_source(self, snapshot: SourceSnapshot) -> None:
        """Take over the identity of a snapshot, after the check that it may be read into this state.

        Raises SourceMismatch.
        """
        self._database = snapshot.identity.database
        if self.current is not None:
            adopt = self.settings.adopt_source
            self.other_source = require_same_source(self.current, snapshot.identity, adopt=adopt)
        self.progress.begin_snapshot(snapshot.identity)
        self.default_schema = snapshot.default_schema

    def claim_timestamp(self) -> str:
        """Return a timestamp that only this attempt has, for the keys of its objects."""
        ledger = self.backends.ledger
        if ledger is None:
            self._last_claim = _later_second(self._last_claim, datetime.now(UTC))
            return timestamp_text(self._last_claim)
        if self.current is None and not self.settings.destination.allow_unconditional_writes:
            ledger.check()
        self._claimed = True  # set even if the claim fails: it might still have taken effect
        return ledger.claim(self.run_id, datetime.now(UTC)).timestamp

    def make_attempt(self, snapshot: SourceSnapshot, tables: Sequence[TableInfo], timestamp: str) -> Attempt:
        """Return the facts and tools of the steps under a snapshot."""
        if self.cluster.away and snapshot.shared is None:
            self.warn_once("other machines can't share this snapshot, so this process reads the database")
        committed = self.committed_tables()
        return Attempt(
            run_id=self.run_id,
            started=self.started,
            timestamp=timestamp,
            settings=self.settings,
            backends=self.backends,
            snapshot=snapshot,
            point=with_base(snapshot.point, committed.values()),
            tables=tables,
            remembered=self._remembered_tables(snapshot, tables),
            progress=self.progress,
            engine=self.cluster.engine(self.observe, snapshot.parallelism, snapshot.parallelism),
            deadline=self.deadline,
            observer=self.observe,
            audit_carried=self._audit_carried(),
        )

    def _audit_carried(self) -> int:
        """Return the bytes that earlier runs left to the audit."""
        if self.current is None or self.other_source or self.current.manifest.audit_carried is UNSET:
            return 0
        return self.current.manifest.audit_carried

    def _remembered_tables(self, snapshot: SourceSnapshot, tables: Sequence[TableInfo]) -> dict[TableName, Remembered]:
        committed = self.committed_tables()
        return {
            info.table: with_finished(
                replace(committed.get(info.table, Remembered()), sent_since=self.sent.sent_since(info.table)),
                self.progress.chunks_of(info.table),
                info,
                snapshot.point,
            )
            for info in tables
        }

    def announce_objects(self, attempt: Attempt, works: Sequence[TableWork]) -> None:
        """Record in the state that objects of these tables are about to be put. Raises StorageError, Conflict."""
        extracted = ((work.table, plan.chunk) for work in works if work.is_open for plan in work.plan.to_extract)
        self._chunks_to_finish = self.progress.finished_with(extracted)
        tables = [work.table for work in works if work.is_open and work.plan.to_extract]
        if not tables:
            return
        if self.backends.layout.objects_stay:
            self.progress.announce_timestamp(attempt.timestamp)
        else:
            self.sent.record_begun(tables, attempt.timestamp)

    def note_sent(self, attempt: Attempt, works: Sequence[TableWork]) -> None:
        """Note which tables a landing zone now has whole, and for which of them nothing needed to be put."""
        if not self.backends.layout.objects_stay:
            for work in works:
                if work.is_complete:
                    self.sent.record_landed(work.table, put=not attempt.same_as_sent(work))

    # The end

    def fail(self, error: BaseException) -> None:
        """End the run because of an error, which the caller raises again."""
        if isinstance(error, VerificationFailed):
            self.progress.keep_only(())  # after a failed verification, nothing is reused
        stopped = isinstance(error, Stopped | KeyboardInterrupt)
        # If the state belongs to another database, it records only the runs of that database.
        tell = not isinstance(error, SourceMismatch)
        self.leave("stopped" if stopped else "failed", exit_code_of(error), tell, None if stopped else error)

    def stopped_error(self, signal_number: int) -> RunStopped:
        """Return the error of a run that a signal ended, after `fail`: it says what is kept."""
        progress = self.progress
        work = KeptWork(progress.saved_count, self._chunks_to_finish, progress.others_count, progress.resumable)
        return stopped_run(signal_number, work)

    def succeed(self, failed_tables: int) -> None:
        """End the run after it published its manifest."""
        if failed_tables:
            self.leave("partial", EXIT_PARTIAL)
        else:
            self.leave("success", EXIT_OK)

    def leave(self, outcome: Outcome, exit_code: int, tell: bool = True, error: BaseException | None = None) -> None:
        """End the run.

        The run leaves the list of runs in flight, unless it finished something that the next run can continue from. Its
        end is noted in the ledger if `tell` is set, and sent to the observer.
        """
        ended = self._end_record(outcome, exit_code, error)
        ledger = self.backends.ledger
        if self._claimed and self.progress.worth_keeping:
            self.progress.save()
        elif self._claimed and ledger is not None:
            if self.published and not self.progress.has_scattered_objects:
                # else prune needs it to recognize this run's objects
                ledger.remove_progress(self.run_id, self.progress.parts_written)
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

    def _end_record(self, outcome: Outcome, exit_code: int, error: BaseException | None) -> Ended:
        return Ended(
            run_id=self.run_id,
            database=self.database,
            started_at=iso_time(self.started),
            ended_at=iso_time(datetime.now(UTC)),
            outcome=outcome,
            exit_code=exit_code,
            retries=self.counts.retries,
            audited_chunks=self.counts.audited_chunks,
            audit_mismatches=self.counts.audit_mismatches,
            uploaded_bytes=self.counts.uploaded_bytes,
            chunks=self.counts.planned_chunks,
            chunks_done=self.counts.done_chunks,
            error=UNSET if error is None else _cause(error),
        )

    def _save_progress(self, ledger: Ledger, work: FinishedWork) -> None:
        ledger.save(
            Progress(
                run_id=self.run_id,
                written_at=iso_time(datetime.now(UTC)),
                destination=self.backends.destination.url,
                encoding=self.backends.encoding,
                dialect=work.source.dialect,
                system_identifier=work.source.system_identifier,
                database=work.source.database,
                timestamps=work.timestamps,
                chunks=work.chunks,
                parts=tuple(progress_key(self.run_id, part) for part in work.parts) or UNSET,
            ),
            work.part,
        )


def _cause(error: BaseException) -> str:
    """Return why a run failed. The text of an unexpected error could hold a row's value, so only its class is told."""
    return error.sentence if isinstance(error, FloodmarkError) else type(error).__name__


def _later_second(before: datetime | None, now: datetime) -> datetime:
    """Return now, or the second after `before`: no two snapshots must put objects under one timestamp."""
    return now if before is None else max(now, before + timedelta(seconds=1))
