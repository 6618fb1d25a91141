"""The WAL summaries of a PostgreSQL server, and the part of the WAL that they must cover. Pure.

docs/change-detection.md holds the proof. A position in the WAL is a number of bytes here.

A checkpoint tells two facts that belong together. While the WAL was before its redo position, no transaction from
`next_xid` on had an id: PostgreSQL reads that counter after it has fixed the position. And every transaction below
`oldest_active` had ended: PostgreSQL looks for running ones before it fixes the position. A snapshot's xmax tells
neither. It is one above the newest transaction that ended, and transactions from it on can have written already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from floodmark.model import WalBase
from floodmark.source.base import Coverage

_XID_BITS = 32


class WalSummary(Struct, frozen=True):
    """A summary of the WAL records that begin in [start, end)."""

    timeline: int
    start: int
    end: int


class Checkpoint(Struct, frozen=True):
    """A finished checkpoint. Its ids have 64 bits. `oldest_active` is None if it was made while the server stopped."""

    timeline: int
    redo: int
    next_xid: int
    oldest_active: int | None

    @property
    def base(self) -> WalBase:
        return WalBase(self.timeline, lsn_text(self.redo), self.next_xid)


def parse_checkpoint(timeline: int, redo: str, next_xid: str, oldest_active: str) -> Checkpoint:
    """Return a checkpoint as pg_control_checkpoint() tells it: `next_xid` is epoch:xid, the other id has 32 bits."""
    epoch, _, low = next_xid.partition(":")
    following = (int(epoch) << _XID_BITS) + int(low)
    active = int(oldest_active)
    return Checkpoint(timeline, lsn_position(redo), following, _widened(active, following) if active else None)


def _widened(xid: int, following: int) -> int:
    """Return a 32-bit id as 64 bits: it is at most `following`, and less than one round of ids below it."""
    wide = (following >> _XID_BITS << _XID_BITS) + xid
    return wide if wide <= following else wide - 2**_XID_BITS


def lsn_position(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


class WalEnd(Struct, frozen=True):
    """The facts about a snapshot that tell up to which position the WAL matters.

    `inserted` is a position that was read after the snapshot, so every write that it shows lies before. With
    `unseen_writers`, somebody can write without a transaction id.
    """

    xmax: int
    inserted: int
    unseen_writers: bool

    def position(self, checkpoint: Checkpoint) -> int:
        """Return a position before which everything that the snapshot shows was written.

        If nothing ended that was active at the checkpoint or began later, that is the checkpoint's own.
        """
        active = checkpoint.oldest_active
        if active is not None and self.xmax <= active and not self.unseen_writers:
            return min(self.inserted, checkpoint.redo)
        return self.inserted


def covering(summaries: Iterable[WalSummary], base: WalBase, end: int) -> tuple[Coverage, Sequence[WalSummary]]:
    """Return if summaries cover the WAL from a base to `end` without a gap, and those that do.

    The list is `pending` if they have no gap and end too early: the next summary begins where the newest one ends.
    """
    found: list[WalSummary] = []
    known = [one for one in summaries if one.timeline == base.timeline]
    at = lsn_position(base.lsn)
    while at < end:
        following = max((one for one in known if one.start <= at < one.end), key=_end_of, default=None)
        if following is None:
            newest = max((one.end for one in known), default=at)
            return ("pending" if newest <= at else "broken"), ()
        found.append(following)
        at = following.end
    return "complete", found


def _end_of(summary: WalSummary) -> int:
    return summary.end
