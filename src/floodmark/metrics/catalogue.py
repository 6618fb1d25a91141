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


BUILD_INFO = _gauge("build_info", "1, labelled with the version of Floodmark.", "version")

LEDGER_UP = _gauge("ledger_up", "1 if the last attempt to read the ledger succeeded, else 0.")
LEDGER_READ = _gauge(
    "ledger_last_read_timestamp_seconds",
    "The time at which the ledger, the source of all other metrics, was last read.",
)

LAST_ATTEMPT = _gauge(
    "run_last_attempt_timestamp_seconds",
    "The start of the newest known run, whatever its outcome.",
    "database",
)
LAST_SUCCESS = _gauge(
    "run_last_success_timestamp_seconds", "The end of the last run without a failed table, 0 for never.", "database"
)
RUN_STATUS = _gauge(
    "run_status",
    "1 for the status of the newest run: running, success, partial, failed, stopped.",
    "database",
    "status",
)
EXIT_CODE = _gauge("run_exit_code", "The exit code of the last run that ended.", "database")
RUN_DURATION = _gauge("run_duration_seconds", "The duration of the last committed run.", "database")
SNAPSHOT = _gauge("snapshot_timestamp_seconds", "The time of the snapshot in the last commit.", "database")
RUNS_IN_FLIGHT = _gauge("runs_in_flight", "Runs that are known to have started but not ended.", "database")
IN_FLIGHT_SINCE = _gauge(
    "run_in_flight_since_timestamp_seconds", "The start of the oldest run in flight, 0 for none.", "database"
)
RUN_CHUNKS = _gauge(
    "run_chunks", "Chunks of the run at this port: planned for extraction, and done.", "database", "state"
)
OLDEST_CHECKED = _gauge(
    "oldest_table_last_checked_timestamp_seconds",
    "The oldest of all tables' floodmark_table_last_checked_timestamp_seconds.",
    "database",
)

RUNS = _counter("runs_total", "Runs that ended, by outcome.", "database", "outcome")
RETRIES = _counter("retries_total", "Failed operations that runs retried.", "database")
UPLOADED = _counter("uploaded_bytes_total", "Bytes of data that runs put to the destination.", "database")
AUDITED = _counter("audited_chunks_total", "Chunks proven unchanged that were read again and compared.", "database")
MISMATCHES = _counter(
    "audit_mismatches_total",
    "Chunks that were proven unchanged but had changed: a bug, unless detect: column missed it.",
    "database",
)

AUDIT_OLDEST = _gauge(
    "audit_oldest_timestamp_seconds",
    "The oldest of all times at which a provable chunk was last read, by an extraction or by the audit.",
    "database",
)

NOTIFICATIONS = _counter(
    "notifications_total",
    "Messages to the channels in `notify`, by outcome: sent, failed.",
    "database",
    "channel",
    "outcome",
)

CONTRACT_DRIFT = _gauge(
    "contract_drift",
    "Differences between the contract and the database in the last commit, by kind. Only with a contract.",
    "database",
    "kind",
)

TABLE_ROWS = _gauge("table_rows", "Rows in the table's last good snapshot.", *_TABLE)
TABLE_BYTES = _gauge(
    "table_bytes",
    "Bytes of the table's snapshot: as lines (raw), as stored, and put by the last run (uploaded).",
    *_TABLE,
    "kind",
)
TABLE_CHUNKS = _gauge(
    "table_chunks", "Chunks that the last run extracted and wrote, or found unchanged.", *_TABLE, "outcome"
)
TABLE_DURATION = _gauge("table_duration_seconds", "The time that the last run spent on the table.", *_TABLE)
TABLE_STATUS = _gauge(
    "table_status",
    "1 for the table's status in the last run: extracted, unchanged, failed or dropped.",
    *_TABLE,
    "status",
)
TABLE_REASON = _gauge("table_reason", "1, labelled with the reason code of the last decision.", *_TABLE, "reason")
TABLE_CHECKED = _gauge(
    "table_last_checked_timestamp_seconds",
    "The last time at which the source is known to have had exactly these rows.",
    *_TABLE,
)
TABLE_CHANGED = _gauge(
    "table_last_changed_timestamp_seconds", "The time of the snapshot in which a change was last found.", *_TABLE
)

ALL: tuple[Metric, ...] = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
