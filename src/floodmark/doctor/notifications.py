"""The channels that are told how runs end. No check sends a message: `floodmark notify test` does."""

from __future__ import annotations

from collections.abc import Iterator

from floodmark.config import ChannelSettings, NotifySettings
from floodmark.doctor.finding import Finding, of_error, ok, warning
from floodmark.errors import ConfigError
from floodmark.notify.channels import open_channel

_WORDS = {"people": "through apprise", "webhook": "by a signed request", "topic": "through SNS"}


def check_notify(settings: NotifySettings) -> Iterator[Finding]:
    """Yield one finding for each channel. A channel that can't be used ends a run before it begins."""
    if not settings.channels:
        yield ok("notify", "nobody is told how runs end")
    for one in settings.channels:
        yield _check_channel(one)
    if settings.channels and not any("failed" in one.on for one in settings.channels):
        fix = "Add failed to `on` of a channel, or watch the job in another way."
        yield warning("notify", "no channel is told of failed runs", fix)


def _check_channel(settings: ChannelSettings) -> Finding:
    check = f"notify: {settings.name}"
    try:
        open_channel(settings)
    except ConfigError as error:
        return of_error(check, error)
    kinds = ", ".join(settings.on)
    return ok(check, f"{_WORDS[settings.kind]}, of {kinds}; `floodmark notify test` sends a message")
