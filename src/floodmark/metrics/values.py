"""Conversion of known facts to values of metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from msgspec import Struct

from floodmark.metrics import catalogue as names
from floodmark.metrics.catalogue import Metric
from floodmark.metrics.ledger_facts import NEVER, CommitFacts, LedgerFacts, epoch_seconds, last_checked
from floodmark.metrics.live import LiveTotals
from floodmark.model import Outcome, Status, TableEntry
from floodmark.state.manifest import Record
from floodmark.version import __version__

RUN_STATUSES = ("running", *get_args(Outcome))
TABLE_STATUSES = get_args(Status)


class MetricValue(Struct, frozen=True):
    """One series' value. `labels` are in the metric's own order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


def about_itself() -> Iterator[MetricValue]:
    yield MetricValue(names.BUILD_INFO, (__version__,), 1)


def about_the_ledger(up: bool, last_read: float) -> Iterator[MetricValue]:
    yield MetricValue(names.LEDGER_UP, (), up)
    yield MetricValue(names.LEDGER_READ, (), last_read)


def about_runs(known: LedgerFacts, live: LiveTotals | None = None) -> Iterator[MetricValue]:
    """Yield all values of a database: its runs, and its tables if the facts hold a manifest.

    Yields nothing for no facts. Raises StateUnreadable for an invalid time.
    """
    database = live.database if live is not None and live.database else known.database
    commit = known.commit
    if live is None and known.record is None and commit is None and not known.at_work:
        return
    yield from _attempt_values(database, known, commit, live)
    if not known.unread:
        yield from _counter_values(database, known.record, live)
    if known.notified is not None:
        for channel in known.notified.channels:
            yield MetricValue(names.NOTIFICATIONS, (database, channel.name, "sent"), channel.sent)
            yield MetricValue(names.NOTIFICATIONS, (database, channel.name, "failed"), channel.failed)
    if commit is not None:
        yield from _commit_values(database, commit)
    for entry in () if known.manifest is None else known.manifest.tables:
        yield from about_table(database, entry)


def about_chunks(live: LiveTotals) -> Iterator[MetricValue]:
    """Yield a run's progress. Only a live page may show it, because a text that stays would show it for ever."""
    yield MetricValue(names.RUN_CHUNKS, (live.database, "planned"), live.planned)
    yield MetricValue(names.RUN_CHUNKS, (live.database, "done"), live.done)


def _attempt_values(
    database: str, known: LedgerFacts, commit: CommitFacts | None, live: LiveTotals | None
) -> Iterator[MetricValue]:
    starts = {run.run_id: epoch_seconds(run.started_at) for run in known.at_work}
    starts |= {"": live.started} if live is not None else {}
    began, status = _newest_ended(known, commit)
    if starts:
        began, status = max(began, *starts.values()), "running"
    yield MetricValue(names.LAST_ATTEMPT, (database,), began)
    for one in RUN_STATUSES:
        yield MetricValue(names.RUN_STATUS, (database, one), one == status)
    success = _last_success(known, commit)
    if success != NEVER or not (known.stateless or known.unread):
        yield MetricValue(names.LAST_SUCCESS, (database,), success)
    if known.record is not None:
        yield MetricValue(names.EXIT_CODE, (database,), known.record.last.exit_code)
    yield MetricValue(names.RUNS_IN_FLIGHT, (database,), len(starts))
    yield MetricValue(names.IN_FLIGHT_SINCE, (database,), min(starts.values(), default=NEVER))


def _newest_ended(known: LedgerFacts, commit: CommitFacts | None) -> tuple[float, str]:
    """Return the start and outcome of the newest run that ended. A store outage can have lost its record."""
    ends = [(NEVER, "")]
    if commit is not None:
        ends.append((commit.began, "success" if commit.complete else "partial"))
    if known.record is not None:
        ends.append((epoch_seconds(known.record.last.started_at), known.record.last.outcome))
    return max(ends, key=lambda end: end[0])


def _last_success(known: LedgerFacts, commit: CommitFacts | None) -> float:
    noted = known.record.succeeded_at if known.record is not None else None
    moments = [commit.ended] if commit is not None and commit.complete else []
    moments += [epoch_seconds(noted)] if noted is not None else []
    return max(moments, default=NEVER)


def _counter_values(database: str, record: Record | None, live: LiveTotals | None) -> Iterator[MetricValue]:
    for outcome in get_args(Outcome):
        yield MetricValue(names.RUNS, (database, outcome), getattr(record, outcome, 0))
    retries, audited, mismatches, uploaded = (
        (record.retries, record.audited_chunks, record.audit_mismatches, record.uploaded_bytes)
        if record is not None
        else (0, 0, 0, 0)
    )
    if live is not None:
        retries, audited = retries + live.retries, audited + live.audited
        mismatches, uploaded = mismatches + live.mismatches, uploaded + live.uploaded
    yield MetricValue(names.RETRIES, (database,), retries)
    yield MetricValue(names.UPLOADED, (database,), uploaded)
    yield MetricValue(names.AUDITED, (database,), audited)
    yield MetricValue(names.MISMATCHES, (database,), mismatches)


def _commit_values(database: str, commit: CommitFacts) -> Iterator[MetricValue]:
    yield MetricValue(names.RUN_DURATION, (database,), round(commit.ended - commit.began, 3))
    yield MetricValue(names.SNAPSHOT, (database,), commit.snapshot)
    if commit.oldest_checked is not None:
        yield MetricValue(names.OLDEST_CHECKED, (database,), commit.oldest_checked)
    if commit.oldest_read is not None:
        yield MetricValue(names.AUDIT_OLDEST, (database,), commit.oldest_read)
    for kind, number in ({} if commit.drift is None else commit.drift).items():
        yield MetricValue(names.CONTRACT_DRIFT, (database, kind), number)


def about_table(database: str, entry: TableEntry) -> Iterator[MetricValue]:
    """Yield all values of a table."""
    labels = (database, entry.schema, entry.name)
    for status in TABLE_STATUSES:
        yield MetricValue(names.TABLE_STATUS, (*labels, status), status == entry.status)
    yield MetricValue(names.TABLE_REASON, (*labels, entry.reason.code), 1)
    if entry.status == "dropped":
        return
    if entry.carried_over is not True:
        yield MetricValue(names.TABLE_DURATION, labels, entry.duration_seconds)
    yield MetricValue(names.TABLE_CHECKED, labels, last_checked(entry))
    yield MetricValue(
        names.TABLE_CHANGED, labels, NEVER if entry.changed_at is None else epoch_seconds(entry.changed_at)
    )
    if entry.rows is not None:
        yield MetricValue(names.TABLE_ROWS, labels, entry.rows)
        yield from _part_values(labels, entry)


def _part_values(labels: tuple[str, str, str], entry: TableEntry) -> Iterator[MetricValue]:
    """Yield bytes and chunks. The objects' origins describe this run only if it extracted the table."""
    extracted = entry.status == "extracted" and entry.carried_over is not True
    new = [part for part in entry.objects if part.origin == "extracted" and extracted]
    chunks = max(len(entry.objects), len(entry.watermark.chunks) if entry.watermark is not None else 0)
    yield MetricValue(names.TABLE_BYTES, (*labels, "raw"), entry.raw_bytes or 0)
    yield MetricValue(names.TABLE_BYTES, (*labels, "stored"), entry.stored_bytes or 0)
    yield MetricValue(names.TABLE_BYTES, (*labels, "uploaded"), sum(part.stored_bytes for part in new))
    yield MetricValue(names.TABLE_CHUNKS, (*labels, "extracted"), len(new))
    yield MetricValue(names.TABLE_CHUNKS, (*labels, "unchanged"), chunks - len(new))
