"""The ledger's facts about a database's runs: committed, failed, and in progress.

A run that died without a report (killed, out of memory, its node gone) stays in flight until a later run removes it. A
run that could not even read its state leaves no trace here.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.errors import StateUnreadable, StorageDenied
from floodmark.layout import HEAD, NOTIFIED, timestamp_moment
from floodmark.model import Ended
from floodmark.state.announced import Notified
from floodmark.state.inflight import record_with
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Head, Inflight, Manifest, Record, Working, unreadable


class LedgerFacts(Struct, frozen=True, kw_only=True):
    """The known facts about one database's runs. `record` is None if no run's end was ever recorded.

    `stateless` runs leave nothing behind, and for `unread` ones nothing is known yet. In both cases nobody can say that
    an event never happened.
    """

    head: Head | None = None
    manifest: Manifest | None = None
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

    def after_run(self, ended: Ended, manifest: Manifest | None) -> LedgerFacts:
        """Return the facts after a run has ended, with the manifest that it published, if any."""
        record = record_with(UNSET if self.record is None else self.record, ended)
        rest = tuple(run for run in self.at_work if run.run_id != ended.run_id)
        return replace(self, manifest=manifest or self.manifest, record=record, at_work=rest)


def read_facts(ledger: Ledger, before: LedgerFacts | None = None) -> LedgerFacts:
    """Read the ledger: three small objects, and the manifest if it differs from the one before.

    Raises StateUnreadable, StorageError.
    """
    head = ledger.head()
    if head is None and before is not None and before.head is not None:
        raise unreadable(f"{ledger.url}/{HEAD}", "it existed before and is now missing")
    if head is not None and (before is None or before.head is None or before.head.manifest != head.manifest):
        current = ledger.current()
        head, manifest = (current.head, current.manifest) if current is not None else (None, None)
    else:
        manifest = before.manifest if before is not None and head is not None else None
    inflight = ledger.in_flight()
    record = None if inflight.ended is UNSET else inflight.ended
    return LedgerFacts(
        head=head,
        manifest=manifest,
        record=record,
        at_work=_at_work(inflight, record, manifest),
        notified=_notified(ledger),
    )


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


def _at_work(inflight: Inflight, record: Record | None, manifest: Manifest | None) -> tuple[Working, ...]:
    """Return the listed runs that can be alive.

    A run is dead if it committed or ended, or if a later run outlived it.
    """
    over = set(record.known_ends) if record is not None else set()
    over |= {manifest.run_id} if manifest is not None else set()
    since = epoch_seconds(record.last.started_at) if record is not None else 0.0
    return tuple(run for run in inflight.runs if run.run_id not in over and epoch_seconds(run.started_at) >= int(since))
