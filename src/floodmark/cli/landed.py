"""Landed data as the commands `load` and `schema` find it: the settings of a state, and its current snapshot."""

from __future__ import annotations

import argparse

from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import no_state, state_settings
from floodmark.config import Settings
from floodmark.events import Observer
from floodmark.reader.reader import Snapshot
from floodmark.reader.reader import open as open_landed


def landed_settings(options: argparse.Namespace, streams: CommandStreams) -> Settings:
    """Return the settings of a command that reads landed data. Raises ConfigError if runs keep no state."""
    settings = state_settings(options, streams)
    if settings.state_url is None:
        raise no_state()
    return settings


def current_snapshot(settings: Settings, observer: Observer) -> Snapshot:
    """Return the current snapshot of the state."""
    destination = settings.destination.url if settings.destination.layout == "plain" else ""
    return open_landed(destination or None, state=settings.state_url, observer=observer).latest()
