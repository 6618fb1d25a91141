"""Conversion of known facts to values of metrics. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from msgspec import UNSET, Struct

from floodmark.metrics import catalogue as names
from floodmark.metrics.catalogue import Metric
from floodmark.metrics.ledger_facts import LedgerFacts, epoch_seconds, key_seconds
from floodmark.metrics.live import LiveTotals
from floodmark.model import DriftKind, Outcome, Status, TableEntry
from floodmark.state.last_read import oldest_read
from floodmark.state.manifest import Manifest, Record
from floodmark.version import __version__

RUN_STATUSES = ("running", *get_args(Outcome))
TABLE_STATUSES = get_args(Status)
NEVER = 0.0


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
    """Yield all values of a database: its runs, and its tables if a run ever committed. Yields nothing for no facts."""
    database = live.database if live is not None and live.database else known.database
    if live is None and known.record is None and known.manifest is None and not known.at_work:
        return
    yield from _attempt_values(database, known, live)
    if not known.unread:
        yield from _counter_values(database, known.record, live)
    if known.notified is not None:
        for channel in known.notified.channels:
            yield MetricValue(names.NOTIFICATIONS, (database, channel.name, "sent"), channel.sent)
            yield MetricValue(names.NOTIFICATIONS, (database, channel.name, "failed"), channel.failed)
    if known.manifest is not None:
        yield from _commit_values(database, known.manifest)


def about_chunks(live: LiveTotals) -> Iterator[MetricValue]:
    """Yield a run's progress. Only a live page may show it, because a text that stays would show it for ever."""
    yield MetricValue(names.RUN_CHUNKS, (live.database, "planned"), live.planned)
    yield MetricValue(names.RUN_CHUNKS, (live.database, "done"), live.done)


def _attempt_values(database: str, known: LedgerFacts, live: LiveTotals | None) -> Iterator[MetricValue]:
    starts = {run.run_id: epoch_seconds(run.started_at) for run in known.at_work}
    starts |= {"": live.started} if live is not None else {}
    began, status = _newest_ended(known)
    if starts:
        began, status = max(began, *starts.values()), "running"
    yield MetricValue(names.LAST_ATTEMPT, (database,), began)
    for one in RUN_STATUSES:
        yield MetricValue(names.RUN_STATUS, (database, one), one == status)
    success = _last_success(known)
    if success != NEVER or not (known.stateless or known.unread):
        yield MetricValue(names.LAST_SUCCESS, (database,), success)
    if known.record is not None:
        yield MetricValue(names.EXIT_CODE, (database,), known.record.last.exit_code)
    yield MetricValue(names.RUNS_IN_FLIGHT, (database,), len(starts))
    yield MetricValue(names.IN_FLIGHT_SINCE, (database,), min(starts.values(), default=NEVER))


def _newest_ended(known: LedgerFacts) -> tuple[float, str]:
    """Return the start and outcome of the newest run that ended. A store outage can have lost its record."""
    ends = [(NEVER, "")]
    if known.manifest is not None:
        ends.append((epoch_seconds(known.manifest.started_at), "partial" if _failed(known.manifest) else "success"))
    if known.record is not None:
        ends.append((epoch_seconds(known.record.last.started_at), known.record.last.outcome))
    return max(ends, key=lambda end: end[0])


def _last_success(known: LedgerFacts) -> float:
    noted = known.record.succeeded_at if known.record is not None else None
    committed = known.manifest is not None and not _failed(known.manifest)
    moments = [known.manifest.finished_at] if known.manifest is not None and committed else []
    moments += [noted] if noted is not None else []
    return max(map(epoch_seconds, moments), default=NEVER)


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


def _commit_values(database: str, manifest: Manifest) -> Iterator[MetricValue]:
    took = epoch_seconds(manifest.finished_at) - epoch_seconds(manifest.started_at)
    yield MetricValue(names.RUN_DURATION, (database,), round(took, 3))
    yield MetricValue(names.SNAPSHOT, (database,), epoch_seconds(manifest.source.snapshot.taken_at))
    kept = [entry for entry in manifest.tables if entry.status != "dropped"]
    if kept:
        yield MetricValue(names.OLDEST_CHECKED, (database,), min(map(_last_checked, kept)))
    oldest = oldest_read(manifest.tables)
    if oldest is not None:
        yield MetricValue(names.AUDIT_OLDEST, (database,), key_seconds(oldest))
    if manifest.contract is not UNSET:
        counts = Counter(one.kind for one in manifest.contract.drift)
        for kind in sorted({*get_args(DriftKind), *counts}):
            yield MetricValue(names.CONTRACT_DRIFT, (database, kind), counts[kind])
    for entry in manifest.tables:
        yield from _table_values((database, entry.schema, entry.name), entry)


def _table_values(labels: tuple[str, str, str], entry: TableEntry) -> Iterator[MetricValue]:
    for status in TABLE_STATUSES:
        yield MetricValue(names.TABLE_STATUS, (*labels, status), status == entry.status)
    yield MetricValue(names.TABLE_REASON, (*labels, entry.reason.code), 1)
    if entry.status == "dropped":
        return
    if entry.carried_over is not True:
        yield MetricValue(names.TABLE_DURATION, labels, entry.duration_seconds)
    yield MetricValue(names.TABLE_CHECKED, labels, _last_checked(entry))
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


def _last_checked(entry: TableEntry) -> float:
    return NEVER if entry.as_of is None else epoch_seconds(entry.as_of)


def _failed(manifest: Manifest) -> bool:
    return any(entry.status == "failed" for entry in manifest.attempted)
