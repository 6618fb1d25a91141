"""The memory of notifications in the state: when each channel was last told of each kind of event, and how often.

It serves `min_interval` and the metrics. Two runs that update it at once lose nothing, because each write is a
compare-and-swap. A write that fails means one message too many, or one that is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import ChannelSettings, NotifyKind
from floodmark.layout import INFLIGHT, NOTIFIED
from floodmark.state.announced import Notified, NotifiedChannel, NotifiedKind
from floodmark.state.documents import Documents
from floodmark.wording import iso_time


class Outcome(Struct, frozen=True, kw_only=True):
    """The outcome of one channel's message. `held` was not sent, because the last one is too recent."""

    channel: str
    kinds: tuple[NotifyKind, ...]
    result: Literal["sent", "failed", "held"]
    why: str | None = None
    hint: str | None = None


def read_notified(documents: Documents) -> Notified | None:
    """Return what was told before, or None if no run has begun this state. Raises StateUnreadable, StorageError."""
    found = documents.fetch(Notified, NOTIFIED)
    if found is not None:
        return found[0]
    return None if documents.get(INFLIGHT) is None else Notified()


def record_outcomes(documents: Documents, outcomes: Sequence[Outcome], now: datetime) -> Notified:
    """Add these outcomes. Raises Conflict, OutcomeUnknown, StateUnreadable, StorageError."""

    def add(notified: Notified) -> tuple[Notified, Notified]:
        after = with_outcomes(notified, outcomes, now)
        return after, after

    return documents.change(NOTIFIED, Notified(), add, lambda there, ours: there == ours)


def due_kinds(
    notified: Notified, channel: ChannelSettings, kinds: Sequence[NotifyKind], now: datetime
) -> tuple[NotifyKind, ...]:
    """Return those kinds that the channel was not told of within its interval. Pure."""
    known = {kind.kind: kind.at for one in notified.channels if one.name == channel.name for kind in one.last}
    oldest = now - timedelta(seconds=channel.min_interval)
    return tuple(kind for kind in kinds if channel.min_interval == 0 or not _is_later(known.get(kind), oldest, now))


def with_outcomes(notified: Notified, outcomes: Sequence[Outcome], now: datetime) -> Notified:
    """Return the document with these outcomes. Pure."""
    channels = {one.name: one for one in notified.channels}
    for outcome in outcomes:
        if outcome.result != "held":
            before = channels.get(outcome.channel, NotifiedChannel(name=outcome.channel))
            channels[outcome.channel] = _with_outcome(before, outcome, iso_time(now))
    return replace(notified, channels=tuple(channels.values()))


def _with_outcome(before: NotifiedChannel, outcome: Outcome, at: str) -> NotifiedChannel:
    if outcome.result == "failed":
        return replace(before, failed=before.failed + 1)
    last = {one.kind: one for one in before.last}
    last |= {kind: NotifiedKind(kind=kind, at=at) for kind in outcome.kinds}
    return replace(before, sent=before.sent + 1, last=tuple(last.values()))


def _is_later(moment: str | None, oldest: datetime, now: datetime) -> bool:
    """Return True if a recorded time lies within the interval. A time in the future does not silence a channel."""
    try:
        return moment is not None and oldest < datetime.fromisoformat(moment) <= now
    except (ValueError, TypeError):
        return False
