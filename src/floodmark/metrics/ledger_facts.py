"""The ledger's facts about a database's runs: committed, failed, and in progress.

A run that died without a report (killed, out of memory, its node gone) stays in flight until a later run removes it. A
run that could not even read its state leaves no trace here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import get_args

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.errors import StateUnreadable, StorageDenied
from floodmark.layout import HEAD, NOTIFIED, timestamp_moment
from floodmark.model import DriftKind, Ended, TableEntry
from floodmark.state.announced import Notified
from floodmark.state.inflight import record_with
from floodmark.state.last_read import oldest_read
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Head, Inflight, Manifest, Record, Working, unreadable

NEVER = 0.0


class CommitFacts(Struct, frozen=True, kw_only=True):
    """The facts about a commit that the metrics of its database show. All times are seconds since 1970.

    `oldest_checked` is None without a table, `oldest_read` without a chunk that can be proven. `drift` counts what
    differs from the contract by kind, and is None without a contract.
    """

    run_id: str
    began: float
    ended: float
    snapshot: float
    complete: bool
    oldest_checked: float | None
    oldest_read: float | None
    drift: Mapping[str, int] | None


class LedgerFacts(Struct, frozen=True, kw_only=True):
    """The known facts about one database's runs. `record` is None if no run's end was ever recorded.

    `committed` are the facts about the last commit if its manifest is not kept: see `without_manifest`. `stateless`
    runs leave nothing behind, and for `unread` ones nothing is known yet. In both cases nobody can say that an event
    never happened.
    """

    head: Head | None = None
    manifest: Manifest | None = None
    committed: CommitFacts | None = None
    record: Record | None = None
    at_work: tuple[Working, ...] = ()
    notified: Notified | None = None
    stateless: bool = False
    unread: bool = False

    @property
    def database(self) -> str:
        """Return the database's name, or an empty string if no document holds it."""
        if self.head is not None:
            return self.head.database
        return self.record.last.database if self.record is not None else ""

    @property
    def commit(self) -> CommitFacts | None:
        """Return the facts about the last commit. Raises StateUnreadable for an invalid time."""
        return self.committed if self.manifest is None else commit_facts(self.manifest)

    def without_manifest(self) -> LedgerFacts:
        """Return the same facts without the manifest, which can be large. Raises StateUnreadable."""
        return replace(self, manifest=None, committed=self.commit)

    def after_run(self, ended: Ended, manifest: Manifest | None) -> LedgerFacts:
        """Return the facts after a run has ended, with the manifest that it published, if any."""
        record = record_with(UNSET if self.record is None else self.record, ended)
        rest = tuple(run for run in self.at_work if run.run_id != ended.run_id)
        return replace(self, manifest=manifest or self.manifest, record=record, at_work=rest)


def read_facts(
    ledger: Ledger, before: LedgerFacts | None = None, await_turn: Callable[[], object] = lambda: None
) -> LedgerFacts:
    """Read the ledger: three small objects, and the manifest if it differs from the one before.

    `await_turn` is called before a manifest is read, which can be large. Raises StateUnreadable, StorageError.
    """
    known = _commit(ledger, LedgerFacts() if before is None else before, await_turn)
    inflight = ledger.in_flight()
    record = None if inflight.ended is UNSET else inflight.ended
    return replace(known, record=record, at_work=_at_work(inflight, record, known), notified=_notified(ledger))


def _commit(ledger: Ledger, before: LedgerFacts, await_turn: Callable[[], object]) -> LedgerFacts:
    """Return the facts about the last commit only. The manifest is that of `before` if head still names it."""
    head = ledger.head()
    if head is None and before.head is not None:
        raise unreadable(f"{ledger.url}/{HEAD}", "it existed before and is now missing")
    if head is None:
        return LedgerFacts()
    if before.head is not None and before.head.manifest == head.manifest:
        return LedgerFacts(head=head, manifest=before.manifest, committed=before.committed)
    await_turn()
    current = ledger.current()
    return LedgerFacts() if current is None else LedgerFacts(head=current.head, manifest=current.manifest)


def commit_facts(manifest: Manifest) -> CommitFacts:
    """Return the facts about a commit. Raises StateUnreadable for an invalid time."""
    kept = [entry for entry in manifest.tables if entry.status != "dropped"]
    oldest = oldest_read(manifest.tables)
    return CommitFacts(
        run_id=manifest.run_id,
        began=epoch_seconds(manifest.started_at),
        ended=epoch_seconds(manifest.finished_at),
        snapshot=epoch_seconds(manifest.source.snapshot.taken_at),
        complete=not any(entry.status == "failed" for entry in manifest.attempted),
        oldest_checked=min(map(last_checked, kept), default=None),
        oldest_read=None if oldest is None else key_seconds(oldest),
        drift=_drift_counts(manifest),
    )


def last_checked(entry: TableEntry) -> float:
    """Return the last time at which the source is known to have had the table's rows, 0 for never."""
    return NEVER if entry.as_of is None else epoch_seconds(entry.as_of)


def _drift_counts(manifest: Manifest) -> dict[str, int] | None:
    if manifest.contract is UNSET:
        return None
    counts = Counter(one.kind for one in manifest.contract.drift)
    return {kind: counts[kind] for kind in sorted({*get_args(DriftKind), *counts})}


def _notified(ledger: Ledger) -> Notified | None:
    """Return the numbers of notifications. Nothing else depends on them, so one that can't be read is left out."""
    with suppress(StorageDenied, StateUnreadable):
        found = ledger.documents.fetch(Notified, NOTIFIED)
        return found[0] if found is not None else None
    return None


def epoch_seconds(moment: str) -> float:
    """Return an ISO 8601 time in seconds since 1970. Raises StateUnreadable if it is invalid."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        raise unreadable("a document of the state", "it contains an invalid timestamp") from None


def key_seconds(timestamp: str) -> float:
    """Return a timestamp as in keys in seconds since 1970. Raises StateUnreadable if it is invalid."""
    try:
        return timestamp_moment(timestamp).timestamp()
    except (ValueError, OverflowError):
        raise unreadable("a document of the state", "it contains an invalid timestamp") from None


def _at_work(inflight: Inflight, record: Record | None, known: LedgerFacts) -> tuple[Working, ...]:
    """Return the listed runs that can be alive.

    A run is dead if it committed or ended, or if a later run outlived it.
    """
    over = set(record.known_ends) if record is not None else set()
    over |= {known.manifest.run_id} if known.manifest is not None else set()
    over |= {known.committed.run_id} if known.committed is not None else set()
    since = epoch_seconds(record.last.started_at) if record is not None else 0.0
    return tuple(run for run in inflight.runs if run.run_id not in over and epoch_seconds(run.started_at) >= int(since))
