"""`floodmark notify test`: send a test message to the channels of the configuration."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from msgspec import Struct

from floodmark.cli.output.streams import CommandStreams
from floodmark.config.load import load_notify
from floodmark.config.settings import ChannelKind
from floodmark.errors import EXIT_OK, ConfigError, MessageError
from floodmark.escaping import printable
from floodmark.notify.job import LIMIT, OpenChannel, open_channels, send_all
from floodmark.notify.message import compose_test


class ChannelView(Struct, frozen=True, kw_only=True):
    """A channel, and the outcome of its test message. `why` and `hint` are null if the message was sent."""

    name: str
    kind: ChannelKind
    sent: bool
    why: str | None
    hint: str | None


class NotifyDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark notify test`."""

    channels: tuple[ChannelView, ...]


def notify(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Send a test message to each channel, and show which of them took it. `test` is the group's only command."""
    channels = _chosen(open_channels(load_notify(options.config, streams.environ)), options.to)
    messages = [(one.channel, compose_test(one.settings.name)) for one in channels]
    errors = send_all(messages, streams.report_retry, time.monotonic() + LIMIT)
    if options.output == "json":
        views = tuple(_view(one, error) for one, error in zip(channels, errors, strict=True))
        streams.print_json(NotifyDocument(channels=views))
    else:
        for one, error in zip(channels, errors, strict=True):
            streams.out.write(_lines(one, error))
    return MessageError.exit_code if any(errors) else EXIT_OK


def _chosen(channels: Sequence[OpenChannel], name: str | None) -> list[OpenChannel]:
    found = [one for one in channels if name in (None, one.settings.name)]
    if found:
        return found
    if not channels:
        hint = "Write notify: [{to_env: SLACK_WEBHOOK}] into floodmark.yaml: see docs/notifications.md."
        raise ConfigError("there is nobody to tell", why="the configuration has no `notify`", hint=hint)
    hint = f"Use one of the names it has: {', '.join(one.settings.name for one in channels)}."
    raise ConfigError("there is nobody to tell", why="the configuration has no channel of this name", hint=hint)


def _lines(channel: OpenChannel, error: MessageError | None) -> str:
    name = channel.settings.name
    if error is None:
        return f"{name}: sent\n"
    hint = "" if error.hint is None else f"  {printable(error.hint)}\n"
    return f"{name}: not sent: {printable(error.why or '')}\n{hint}"


def _view(channel: OpenChannel, error: MessageError | None) -> ChannelView:
    return ChannelView(
        name=channel.settings.name,
        kind=channel.settings.kind,
        sent=error is None,
        why=None if error is None else error.why,
        hint=None if error is None else error.hint,
    )
