"""The counts of a run in progress, from its events."""

from __future__ import annotations

import threading

from floodmark.events import ChunkAudited, ChunkDone, Event, Retried, RunStarted, TableDecided


class RunCounts:
    """Counts for the run's end record. `planned_chunks` and `done_chunks` are those under the last snapshot."""

    def __init__(self) -> None:
        self.uploaded_bytes = self.retries = 0
        self.audited_chunks = self.audit_mismatches = 0
        self.planned_chunks = self.done_chunks = 0
        self._lock = threading.Lock()

    def add(self, event: Event) -> None:
        """Count an event. Several threads can call it."""
        with self._lock:
            if isinstance(event, RunStarted):
                self.planned_chunks = self.done_chunks = 0
            elif isinstance(event, TableDecided):
                self.planned_chunks += event.to_extract
            elif isinstance(event, ChunkDone):
                self.uploaded_bytes += event.uploaded_bytes
                self.done_chunks += 1
            elif isinstance(event, Retried):
                self.retries += 1
            elif isinstance(event, ChunkAudited):
                self.audited_chunks += 1
                self.audit_mismatches += not event.same
