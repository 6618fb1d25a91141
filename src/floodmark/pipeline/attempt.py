"""One attempt of a run: the facts and tools that every step under one snapshot shares, and the attempt's result.

A table's error affects only that table. A table that was rewritten or redefined under the snapshot is `lost`: it needs
a new snapshot, and `job` decides about that. An error of the destination ends the attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from floodmark.backends import Backends
from floodmark.config import Settings
from floodmark.engine.base import Engine
from floodmark.errors import FloodmarkError, SnapshotLost
from floodmark.events import Observer, Step, StepStarted, TableFinished
from floodmark.layout import data_key, database_segment, table_segment, timestamp_moment, timestamp_of
from floodmark.model import Point, Reason, SourceIdentity, TableEntry, TableName
from floodmark.observed import TableInfo
from floodmark.pipeline.entries import (
    ChunkOutcome,
    EntryFacts,
    failed_entry,
    finished_entry,
    kept_entry,
    proven_outcome,
    remembered_chunk,
)
from floodmark.pipeline.losses import Gone
from floodmark.pipeline.plans import ChunkPlan, Policy
from floodmark.pipeline.remembered import Remembered
from floodmark.pipeline.resume import ProgressTracker
from floodmark.pipeline.work import TableWork
from floodmark.source.base import SourceSnapshot
from floodmark.state.manifest import checksum
from floodmark.stop import Deadline


class AttemptResult(Struct, frozen=True):
    """The result of an attempt. Its snapshot is closed, but its identity and point are still valid.

    `lost` tables have no entry: they need a new snapshot. `gone` are the tables that the state knows and the source no
    longer has, each with the reason. `audit_carried` are bytes of the audit's share that are left for the next run.
    """

    identity: SourceIdentity
    point: Point
    timestamp: str
    tables: Sequence[TableInfo]
    entries: dict[TableName, TableEntry]
    lost: dict[TableName, FloodmarkError]
    gone: Mapping[TableName, Gone]
    audit_carried: int = 0


class Attempt(Struct, frozen=True):
    """All that the steps under one snapshot share. `timestamp` is in the keys of this attempt's objects.

    `point` is the snapshot's, with the base in the WAL that serves for what is read under it. `audit_carried` are bytes
    that the audit may read on top of this run's share.
    """

    run_id: str
    started: datetime
    timestamp: str
    settings: Settings
    backends: Backends
    snapshot: SourceSnapshot
    point: Point
    tables: Sequence[TableInfo]
    remembered: Mapping[TableName, Remembered]
    progress: ProgressTracker
    engine: Engine
    deadline: Deadline
    observer: Observer
    audit_carried: int = 0

    @property
    def readable_tables(self) -> list[TableInfo]:
        """Return the selected tables that the role may read."""
        return [table for table in self.tables if table.denied is None]

    def remembered_of(self, table: TableName) -> Remembered:
        return self.remembered.get(table, Remembered())

    def policy_for(self, table: TableName) -> Policy:
        """Return the rules for a table. A receiver that moves objects away is sent a table again after some days."""
        settings, stays, remembered = self.settings, self.backends.layout.objects_stay, self.remembered_of(table)
        due = not stays and self._sent_too_long_ago(remembered)
        resend = due or remembered.sent_since == "half"
        return Policy(settings.chunk_bytes, settings.full, stays, resend, settings.chunks_grow)

    def _sent_too_long_ago(self, remembered: Remembered) -> bool:
        oldest = self.started - timedelta(days=self.settings.destination.resend_after_days)
        sent = [timestamp_of(entry.key) for entry in remembered.good.objects] if remembered.good else []
        return any(text is not None and timestamp_moment(text) < oldest for text in sent)

    def object_key(self, table: TableName, number: int) -> str:
        """Return the key of a chunk's object. No other run and no other attempt can have it."""
        layout, snapshot = self.backends.layout, self.snapshot
        segment = table_segment(table, snapshot.default_schema)
        place = database_segment(layout, snapshot.identity.database, self.settings.destination.database_name, table)
        return data_key(place, segment, self.timestamp, number, self.backends.encoding)

    def redefined_tables(self, tables: Sequence[TableInfo]) -> Sequence[TableName]:
        """Return the tables whose definition differs from the snapshot's."""
        return self.snapshot.redefined_tables(tables, self.settings.selection, self.backends.encoding.digest)

    def begin_step(self, step: Step, chunks: Iterable[tuple[TableWork, ChunkPlan]]) -> None:
        """Tell the observer that a step on these chunks begins, with the bytes of the source per table.

        Without chunks, there is nothing to tell.
        """
        sizes = dict[TableName, int]()
        for work, chunk in chunks:
            sizes[work.table] = sizes.get(work.table, 0) + chunk.estimated_bytes
        if sizes:
            self.observer(StepStarted(step, sizes))

    def take_proven(self, works: Sequence[TableWork]) -> None:
        """Settle the proven chunks.

        A proven chunk that no manifest names yet counts as finished by this run.
        """
        for work in works:
            committed = self.committed_keys(work.table)
            for chunk in work.plan.chunks if work.is_open else ():
                if chunk.proven is not None:
                    outcome = work.outcomes[chunk.chunk] = proven_outcome(chunk)
                    if outcome.object is not None and outcome.object.key not in committed:
                        self.chunk_done(work, outcome)

    def committed_keys(self, table: TableName) -> set[str]:
        """Return the keys of the objects that the last manifest names for a table."""
        good = self.remembered_of(table).good
        return {entry.key for entry in good.objects} if good is not None else set()

    def chunk_done(self, work: TableWork, outcome: ChunkOutcome) -> None:
        """Add a settled chunk to the run's progress, which is saved from time to time."""
        known = remembered_chunk(outcome, work.plan.info, self.point)
        if known is not None:
            self.progress.add_chunk(work.table, known)

    def same_as_sent(self, work: TableWork) -> bool:
        """Return True if these lines are the last ones that the receiver was sent of the table."""
        remembered = self.remembered_of(work.table)
        good = remembered.good if remembered.sent_since == "nothing" else None
        return good is not None and good.checksum == checksum(work.stored_objects)

    def require_snapshot(self, works: Sequence[TableWork]) -> None:
        """Raise SnapshotLost if the snapshot is gone.

        The run uses nothing that was read under it, and proves finished chunks again under the next snapshot.
        """
        if not self.snapshot.is_alive():
            lost = next((work.error for work in works if work.lost), None)
            raise lost or SnapshotLost(
                "the snapshot is gone", why="its transaction was ended while the tables were read"
            )

    def planned_reason(self, work: TableWork) -> Reason:
        """Return the reason that the table's entry would have, as far as it is known before the extraction."""
        if work.error is not None:
            return Reason("failed", work.error.sentence)
        chunks = work.plan.chunks
        if any(chunk.proven is None for chunk in chunks):
            return work.plan.reason
        facts = EntryFacts(self.run_id, self.point, self.backends.encoding)
        settled = [proven_outcome(chunk) for chunk in chunks]
        return finished_entry(work.plan, settled, self.remembered_of(work.table), facts, 0).reason

    def make_result(
        self, works: Sequence[TableWork], gone: Mapping[TableName, Gone], audit_carried: int
    ) -> AttemptResult:
        """Return the entries of all tables that need no other snapshot, and tell the observer of each."""
        facts = EntryFacts(self.run_id, self.point, self.backends.encoding)
        entries = {work.table: self._entry_of(work, facts) for work in works if not work.lost}
        for entry in entries.values():
            self.observer(TableFinished(entry))
        lost = {work.table: work.error for work in works if work.lost and work.error is not None}
        identity, point = self.snapshot.identity, self.point
        return AttemptResult(identity, point, self.timestamp, self.tables, entries, lost, gone, audit_carried)

    def _entry_of(self, work: TableWork, facts: EntryFacts) -> TableEntry:
        remembered = self.remembered_of(work.table)
        if work.error is not None:
            return failed_entry(work.plan.info, work.error, remembered, work.seconds)
        if not work.is_complete:
            return kept_entry(work.plan.info, Reason("deadline", "the run ended before the table was done"), remembered)
        return finished_entry(work.plan, work.in_order, remembered, facts, work.seconds)
