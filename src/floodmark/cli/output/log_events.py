"""The events of the log: their names, levels and fields. docs/cli.md has the same table, and a test compares both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from msgspec import Struct

from floodmark.errors import FloodmarkError
from floodmark.events import (
    ChunkAudited,
    ChunkDone,
    Completed,
    Event,
    ProgressFound,
    Retried,
    RunFinished,
    RunStarted,
    TableDecided,
    TableFinished,
    Warned,
    WrittenBlocksRead,
)

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = get_args(Level)


class LogEvent(Struct, frozen=True):
    """An event that the log can hold: its usual level, and the fields that it can have."""

    level: Level
    fields: tuple[str, ...]


_TABLE = ("table", "reason", "why", "rows", "stored_bytes", "seconds")
_NOTIFICATION = ("channel", "kinds")
_ERROR = ("error", "hint", "exit_code")
_PROGRESS = (
    *("step", "percent", "done_bytes", "total_bytes", "done", "total", "rate"),
    *("elapsed", "eta", "chunks_done", "chunks", "tables"),
)

EVENTS: dict[str, LogEvent] = {
    "run_started": LogEvent("info", ("source", "destination", "database", "as_of", "snapshot", "encoder")),
    "progress_found": LogEvent("info", ("from_run", "outcome", "chunks")),
    "wal_summaries": LogEvent("info", ("chunks", "unwritten", "seconds", "why")),
    "table_decided": LogEvent("debug", ("table", "reason", "why", "chunks", "to_extract", "unwritten")),
    "chunk_done": LogEvent("debug", ("table", "rows", "raw_bytes", "uploaded_bytes", "seconds")),
    "chunk_audited": LogEvent("debug", ("table",)),
    "audit_failed": LogEvent("error", ("table",)),
    "progress": LogEvent("info", _PROGRESS),
    "table_extracted": LogEvent("info", _TABLE),
    "table_unchanged": LogEvent("info", (*_TABLE, "delivery", "objects")),
    "table_dropped": LogEvent("warning", _TABLE),
    "table_failed": LogEvent("error", (*_TABLE, "delivery", "objects", "hint")),
    "table_loaded": LogEvent("info", ("table", "rows")),
    "table_delivered": LogEvent("info", ("delivery", "table", "rows", "objects")),
    "table_gone": LogEvent("info", ("delivery", "table", "rows", "objects")),
    "run_finished": LogEvent("info", ("tables", "failed", "uploaded_bytes", "seconds")),
    "completion_sent": LogEvent("info", ("of_run", "manifest")),
    "notification_sent": LogEvent("info", _NOTIFICATION),
    "notification_failed": LogEvent("warning", (*_NOTIFICATION, "why", "hint")),
    "notification_held": LogEvent("debug", _NOTIFICATION),
    "load_finished": LogEvent("info", ("target", "tables", "loaded", "unchanged", "failed", "gone", "dropped")),
    "delivery_finished": LogEvent("info", ("delivery", "url", "tables", "delivered", "unchanged", "failed", "gone")),
    "metrics_served": LogEvent("info", ("address", "port")),
    "state_read": LogEvent("info", ("state",)),
    "state_unreadable": LogEvent("warning", ("state", "why", "hint")),
    "report_failed": LogEvent("warning", ("why", "hint")),
    "retry": LogEvent("warning", ("what", "why", "attempt")),
    "warning": LogEvent("warning", ("message",)),
    "stop_requested": LogEvent("warning", ("hint",)),
    "ended_at_once": LogEvent("error", _ERROR),
    "run_stopped": LogEvent("error", (*_ERROR, "kept_chunks", "chunks")),
    "command_stopped": LogEvent("error", _ERROR),
    "command_failed": LogEvent("error", _ERROR),
    "internal_error": LogEvent("error", ("error", "place", "hint", "exit_code")),
}


class Line(Struct, frozen=True):
    """A log line: its event, its fields, and its level, by default that of the event. A field of None is left out."""

    event: str
    fields: Mapping[str, Any]
    other_level: Level | None = None

    @property
    def level(self) -> Level:
        return self.other_level or EVENTS[self.event].level


def line_of(event: Event) -> Line | None:
    """Return the log line of an event, or None if it has none."""
    make = _LINES.get(type(event))
    return None if make is None else make(event)


def table_line(status: str, fields: Mapping[str, Any], error: FloodmarkError | None) -> Line:
    """Return the line for a table's outcome in a load or a delivery."""
    why = {} if error is None else {"why": error.sentence, "hint": error.hint}
    return Line(f"table_{status}", {**fields, **why})


def finished_line(event: str, fields: Mapping[str, Any], statuses: Sequence[str]) -> Line:
    """Return the line for the end of a load or a delivery: the number of tables, in total and by status."""
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    level: Level | None = "warning" if "failed" in counts else None
    return Line(event, {**fields, "tables": len(statuses), **counts}, level)


def _retry(event: Retried) -> Line:
    return Line("retry", {"what": event.what, "why": event.why, "attempt": event.attempt})


def _run_started(event: RunStarted) -> Line:
    fields = {
        "source": event.source,
        "destination": event.destination,
        "database": event.database or None,
        "as_of": event.point.taken_at,
        "snapshot": event.attempt,
        "encoder": event.encoder,
    }
    return Line("run_started", fields)


def _written_blocks(event: WrittenBlocksRead) -> Line:
    fields = {"chunks": event.chunks, "unwritten": event.unwritten, "seconds": event.seconds, "why": event.why}
    return Line("wal_summaries", fields)


def _table_decided(event: TableDecided) -> Line:
    fields = {
        "table": event.table.label,
        "reason": event.reason.code,
        "why": event.reason.detail,
        "chunks": event.chunks,
        "to_extract": event.to_extract,
        "unwritten": event.unwritten or None,
    }
    return Line("table_decided", fields)


def _chunk_done(event: ChunkDone) -> Line:
    fields = {
        "table": event.table.label,
        "rows": event.rows,
        "raw_bytes": event.raw_bytes,
        "uploaded_bytes": event.uploaded_bytes,
        "seconds": round(event.seconds, 3),
    }
    return Line("chunk_done", fields)


def _table_finished(event: TableFinished) -> Line:
    entry = event.entry
    fields = {
        "table": entry.table.label,
        "reason": entry.reason.code,
        "why": entry.reason.detail,
        "rows": entry.rows,
        "stored_bytes": entry.stored_bytes,
        "seconds": entry.duration_seconds,
    }
    return Line(f"table_{entry.status}", fields, "info" if entry.reason.code == "attached" else None)


def _run_finished(event: RunFinished) -> Line:
    fields = {
        "tables": event.tables,
        "failed": event.failed,
        "uploaded_bytes": event.uploaded_bytes,
        "seconds": event.duration_seconds,
    }
    return Line("run_finished", fields, "warning" if event.failed else None)


_LINES: dict[type, Any] = {
    ChunkAudited: lambda event: Line("chunk_audited" if event.same else "audit_failed", {"table": event.table.label}),
    ChunkDone: _chunk_done,
    Completed: lambda event: Line("completion_sent", {"of_run": event.run_id, "manifest": event.manifest}),
    ProgressFound: lambda event: Line(
        "progress_found", {"from_run": event.run_id, "outcome": event.outcome, "chunks": event.chunks}
    ),
    Retried: _retry,
    RunFinished: _run_finished,
    RunStarted: _run_started,
    TableDecided: _table_decided,
    TableFinished: _table_finished,
    WrittenBlocksRead: _written_blocks,
    Warned: lambda event: Line("warning", {"message": event.message}),
}
