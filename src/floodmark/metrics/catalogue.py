"""Every metric's name, type, labels and help, in one place. No run id, hash or row's value is ever a label.

A time of 0 means never. docs/metrics.md describes each metric, and a test compares the two.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["gauge", "counter"]
_TABLE = ("database", "schema", "table")


class Metric(Struct, frozen=True):
    """A family of series. A counter's name ends in _total."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"floodmark_{name}", "gauge", labels, help)


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"floodmark_{name}", "counter", labels, help)


BUILD_INFO = _gauge("build_info", "1, with the version of the Floodmark that shows the metrics.", "version")

LEDGER_UP = _gauge("ledger_up", "1 when the ledger could be read the last time it was tried, else 0.")
LEDGER_READ = _gauge(
    "ledger_last_read_timestamp_seconds", "When the ledger was last read, and so how old everything else here is."
)

LAST_ATTEMPT = _gauge(
    "run_last_attempt_timestamp_seconds",
    "When the newest known run began, whatever became of it.",
    "database",
)
LAST_SUCCESS = _gauge(
    "run_last_success_timestamp_seconds", "When the last run ended that left no table out, 0 for never.", "database"
)
RUN_STATUS = _gauge(
    "run_status",
    "1 for what became of the newest run: running, success, partial, failed, stopped.",
    "database",
    "status",
)
EXIT_CODE = _gauge("run_exit_code", "The exit code of the last run that ended.", "database")
RUN_DURATION = _gauge("run_duration_seconds", "How long the last committed run took.", "database")
SNAPSHOT = _gauge("snapshot_timestamp_seconds", "The moment of the source that the last commit shows.", "database")
RUNS_IN_FLIGHT = _gauge("runs_in_flight", "Runs that began and have not ended, as far as is known.", "database")
IN_FLIGHT_SINCE = _gauge(
    "run_in_flight_since_timestamp_seconds", "When the oldest of the runs in flight began, 0 for none.", "database"
)
RUN_CHUNKS = _gauge(
    "run_chunks", "Chunks to extract in the run that shows this, and those that are done.", "database", "state"
)
OLDEST_CHECKED = _gauge(
    "oldest_table_last_checked_timestamp_seconds",
    "The oldest of all tables' floodmark_table_last_checked_timestamp_seconds.",
    "database",
)

RUNS = _counter("runs_total", "Runs that ended, by outcome.", "database", "outcome")
RETRIES = _counter("retries_total", "What failed in runs and was tried again.", "database")
UPLOADED = _counter("uploaded_bytes_total", "Bytes of data that runs put into the destination.", "database")
AUDITED = _counter("audited_chunks_total", "Chunks proven unchanged that were read again and compared.", "database")
MISMATCHES = _counter(
    "audit_mismatches_total",
    "Chunks called unchanged that had changed: a bug, unless detect: column could not see it.",
    "database",
)

TABLE_ROWS = _gauge("table_rows", "Rows in the table's last good snapshot.", *_TABLE)
TABLE_BYTES = _gauge(
    "table_bytes",
    "Bytes of the table's snapshot as lines (raw) and as stored, and those the last run put (uploaded).",
    *_TABLE,
    "kind",
)
TABLE_CHUNKS = _gauge(
    "table_chunks", "Chunks the last run extracted and wrote, and those it found unchanged.", *_TABLE, "outcome"
)
TABLE_DURATION = _gauge("table_duration_seconds", "How long the last run worked on the table.", *_TABLE)
TABLE_STATUS = _gauge(
    "table_status",
    "1 for what the last run made of the table: extracted, unchanged, failed or dropped.",
    *_TABLE,
    "status",
)
TABLE_REASON = _gauge("table_reason", "1, with the code of the reason for the last decision.", *_TABLE, "reason")
TABLE_CHECKED = _gauge(
    "table_last_checked_timestamp_seconds",
    "The last moment at which the source is known to have held just these rows.",
    *_TABLE,
)
TABLE_CHANGED = _gauge(
    "table_last_changed_timestamp_seconds", "The moment of the source in which a change was last found.", *_TABLE
)

ALL: tuple[Metric, ...] = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
