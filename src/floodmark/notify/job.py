"""The notifications of one run: choose what is due, send to all channels at once, and record it, within a fixed time.

Nothing here fails a run, and a run waits at most `LIMIT` seconds. Every step that can wait for someone else happens in
a daemon thread, which ends with the process if it is not done in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

from msgspec import Struct

from floodmark.config import ChannelSettings, NotifyKind, NotifySettings
from floodmark.errors import ConfigError, FloodmarkError, MessageError, MessageUnanswered
from floodmark.events import Event, Observer, Warned
from floodmark.notify.channels import Channel, open_channel
from floodmark.notify.channels.base import WHAT
from floodmark.notify.facts import RunFacts
from floodmark.notify.intervals import Outcome, due_kinds, read_notified, record_outcomes
from floodmark.notify.message import Message, compose
from floodmark.retrying import Patience, retrying
from floodmark.state.announced import Notified
from floodmark.state.documents import Documents

LIMIT = 10.0  # seconds
_RECALL_UNTIL, _SEND_UNTIL = 0.2, 0.8  # shares of the limit
_ANSWER = 4.0  # seconds to wait for each answer of a receiver

Result = TypeVar("Result")


class OpenChannel(Struct, frozen=True):
    """A channel with its settings."""

    settings: ChannelSettings
    channel: Channel


def open_channels(settings: NotifySettings, *, lenient: bool = False) -> tuple[OpenChannel, ...]:
    """Return all channels. Raises ConfigError; with `lenient`, a channel that can't be used is left out."""
    found = []
    for one in settings.channels:
        try:
            found.append(OpenChannel(one, open_channel(one)))
        except ConfigError:
            if not lenient:
                raise
    return tuple(found)


class Told(Struct, frozen=True):
    """The outcomes, one for each channel that wants to know. `notified` is None if nothing was recorded."""

    outcomes: tuple[Outcome, ...]
    notified: Notified | None = None


class _Due(Struct, frozen=True):
    open: OpenChannel
    kinds: tuple[NotifyKind, ...]


def tell(
    facts: RunFacts,
    channels: Sequence[OpenChannel],
    settings: NotifySettings,
    documents: Documents | None,
    observer: Observer,
    limit: float = LIMIT,
) -> Told:
    """Tell each channel what it wants to know about the end of a run. Returns after `limit` seconds at the latest.

    `documents` is the state. None means a run without state: then no interval counts.
    """
    begun, now = time.monotonic(), datetime.now(UTC)
    wanted = [one for channel in channels if (one := _wanted(channel, facts)).kinds]
    if not wanted:
        return Told(())
    notified = _recalled(documents, observer, begun + _RECALL_UNTIL * limit)
    due = [_Due(one.open, _due(one, notified, now)) for one in wanted]
    outcomes = [_held(one) for one, later in zip(wanted, due, strict=True) if not later.kinds]
    sent = [(one, compose(facts, one.kinds, settings.runbook_url)) for one in due if one.kinds]
    errors = send_all([(one.open.channel, text) for one, text in sent], observer, begun + _SEND_UNTIL * limit)
    outcomes += [_outcome(one, error) for (one, _), error in zip(sent, errors, strict=True)]
    recorded = None
    if documents is not None and notified is not None and sent:
        recorded = _recorded(documents, outcomes, now, observer, begun + limit)
    return Told(tuple(outcomes), recorded)


def send_all(
    messages: Sequence[tuple[Channel, Message]], observer: Observer, until: float
) -> list[MessageError | None]:
    """Send all messages at once, with retries, until a moment of the monotonic clock.

    Return the error of each, in their order, or None if the message was sent.
    """
    closed = threading.Event()
    last: dict[str, MessageError] = {}  # the last reason of each channel, in case that its next try takes too long

    def observe(event: Event) -> None:
        if not closed.is_set():
            observer(event)

    def attempt(channel: Channel, message: Message, patience: float) -> None:
        try:
            channel.send(message, patience)
        except MessageError as error:
            last[channel.name] = error
            raise

    def send(channel: Channel, message: Message) -> None:
        left = until - time.monotonic()
        patience = Patience(tries=4, shortest=0.3, longest=2.0, jitter=0.2, deadline=left)
        policy = retrying(
            f"notify {channel.name}", _passes, observe, patience, sleep=closed.wait, stopping=closed.is_set
        )
        policy(attempt, channel, message, max(0.1, min(_ANSWER, left)))

    tasks = [_Task(lambda one=one: send(*one)) for one in messages]  # type: ignore[misc]
    errors = [_error_of(task, channel, until, last) for task, (channel, _) in zip(tasks, messages, strict=True)]
    closed.set()
    return errors


class _Task(Generic[Result]):
    """A function at work in a daemon thread."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="notify")
        self._thread.start()

    def is_done(self, until: float) -> bool:
        """Wait until that moment of the monotonic clock at the latest. Return True if the function has ended."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error


def _wanted(channel: OpenChannel, facts: RunFacts) -> _Due:
    return _Due(channel, tuple(kind for kind in facts.kinds if kind in channel.settings.on))


def _due(one: _Due, notified: Notified | None, now: datetime) -> tuple[NotifyKind, ...]:
    return one.kinds if notified is None else due_kinds(notified, one.open.settings, one.kinds, now)


def _held(one: _Due) -> Outcome:
    return Outcome(channel=one.open.settings.name, kinds=one.kinds, result="held")


def _outcome(one: _Due, error: MessageError | None) -> Outcome:
    name = one.open.settings.name
    if error is None:
        return Outcome(channel=name, kinds=one.kinds, result="sent")
    return Outcome(channel=name, kinds=one.kinds, result="failed", why=error.why, hint=error.hint)


def _recalled(documents: Documents | None, observer: Observer, until: float) -> Notified | None:
    """Return what was told before. Without it, everything is told."""
    if documents is None:
        return None
    task = _Task(lambda: read_notified(documents))
    if not task.is_done(until) or task.error is not None:
        observer(Warned(f"the times of earlier notifications can't be read: {_why(task.error)}"))
        return None
    return task.result


def _recorded(
    documents: Documents, outcomes: Sequence[Outcome], now: datetime, observer: Observer, until: float
) -> Notified | None:
    task = _Task(lambda: record_outcomes(documents, outcomes, now))
    if not task.is_done(until) or task.error is not None:
        observer(Warned(f"notifications can't be recorded: {_why(task.error)}"))
        return None
    return task.result


def _passes(error: BaseException) -> bool:
    return isinstance(error, FloodmarkError) and error.retryable


def _error_of(
    task: _Task[None], channel: Channel, until: float, last: Mapping[str, MessageError]
) -> MessageError | None:
    if not task.is_done(until):
        return last.get(channel.name) or MessageUnanswered(WHAT, on=channel.name, why="no answer in time")
    if task.error is None or isinstance(task.error, MessageError):
        return task.error
    return MessageError(WHAT, on=channel.name, why=_why(task.error))


def _why(error: BaseException | None) -> str:
    """Return a cause. An error that is not ours can hold anything, so only its class is shown."""
    if error is None:
        return "no answer in time"
    return error.sentence if isinstance(error, FloodmarkError) else type(error).__name__
