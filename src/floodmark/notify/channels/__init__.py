"""The channels for notifications. `open_channel` makes one from settings; `base` states their obligations."""

from __future__ import annotations

from importlib.util import find_spec

from floodmark.config import ChannelSettings
from floodmark.errors import ConfigError
from floodmark.notify.channels.base import WHAT, Channel
from floodmark.notify.channels.topic import TopicChannel
from floodmark.notify.channels.webhook import WebhookChannel
from floodmark.wording import install_hint

__all__ = ["Channel", "open_channel"]


def open_channel(settings: ChannelSettings) -> Channel:
    """Return a channel. It makes no request.

    Raises ConfigError for an address that apprise does not know, and without the extra `notify`.
    """
    if settings.kind == "topic":
        return TopicChannel(settings.name, settings.to.reveal())
    if settings.kind == "webhook":
        assert settings.secret is not None
        return WebhookChannel(settings.name, settings.to, settings.secret)
    if find_spec("apprise") is None:
        why = "it needs the extra `notify`, which is not installed"
        raise ConfigError(WHAT, on=settings.name, why=why, hint=install_hint("notify"))
    from floodmark.notify.channels.people import PeopleChannel  # noqa: PLC0415 - by need: apprise takes 0.1 s to load

    return PeopleChannel(settings.name, settings.to)
