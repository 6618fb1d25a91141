"""What the ledger tells of a database's runs: of those that committed, those that did not, and those at work.

A run that died without a word (killed, out of memory, its node gone) stays among those in flight until a later
run takes it out; one that could not even read its state leaves no trace here at all.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.layout import HEAD
from floodmark.model import Ended
from floodmark.state.inflight import noted
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Head, Inflight, Manifest, Record, Working, unreadable


class Known(Struct, frozen=True, kw_only=True):
    """What is known of one database's runs. `record` is None where no end of a run was ever noted.

    `stateless` runs leave nothing behind, and of `unread` ones nothing is known yet: there is no saying then that
    something never was.
    """

    head: Head | None = None
    manifest: Manifest | None = None
    record: Record | None = None
    at_work: tuple[Working, ...] = ()
    stateless: bool = False
    unread: bool = False

    @property
    def database(self) -> str:
        """The database's name, empty where nothing tells it."""
        if self.head is not None:
            return self.head.database
        return self.record.last.database if self.record is not None else ""

    def after(self, ended: Ended, manifest: Manifest | None) -> Known:
        """The same, once a run has ended, with the manifest it published if it did."""
        record = noted(UNSET if self.record is None else self.record, ended)
        rest = tuple(run for run in self.at_work if run.run_id != ended.run_id)
        return replace(self, manifest=manifest or self.manifest, record=record, at_work=rest)


def read(ledger: Ledger, before: Known | None = None) -> Known:
    """Read the ledger: two small objects, and the manifest where it is another than before.

    Raises StateUnreadable, StorageError.
    """
    head = ledger.head()
    if head is None and before is not None and before.head is not None:
        raise unreadable(f"{ledger.url}/{HEAD}", "it was there before, and is gone")
    if head is not None and (before is None or before.head is None or before.head.manifest != head.manifest):
        current = ledger.current()
        head, manifest = (current.head, current.manifest) if current is not None else (None, None)
    else:
        manifest = before.manifest if before is not None and head is not None else None
    inflight = ledger.in_flight()
    record = None if inflight.ended is UNSET else inflight.ended
    return Known(head=head, manifest=manifest, record=record, at_work=_at_work(inflight, record, manifest))


def seconds(moment: str) -> float:
    """An ISO 8601 moment in seconds since 1970. Raises StateUnreadable where it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        raise unreadable("a document of the state", "a time in it is none") from None


def _at_work(inflight: Inflight, record: Record | None, manifest: Manifest | None) -> tuple[Working, ...]:
    """The listed runs without those that must be dead: one that committed or ended, or that a later one outlived."""
    over = {record.last.run_id} if record is not None else set()
    over |= {manifest.run_id} if manifest is not None else set()
    since = seconds(record.last.started_at) if record is not None else 0.0
    return tuple(run for run in inflight.runs if run.run_id not in over and seconds(run.started_at) >= int(since))
