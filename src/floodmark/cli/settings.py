"""The settings of a command: its options, the environment and floodmark.yaml together."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from floodmark.cli.output.log_events import Line
from floodmark.cli.output.streams import CommandStreams
from floodmark.config import Flags, Secret, Settings, load, load_states
from floodmark.config.urls import FILES
from floodmark.errors import ConfigError

_GIVE_STATE = "Give --state URL or set FLOODMARK_STATE to the place where runs keep their state."


def flags(options: argparse.Namespace) -> Flags:
    """Return the settings that the command line gives."""
    source, gateway = getattr(options, "source", None), getattr(options, "push_gateway", None)
    return Flags(
        config=options.config,
        source=None if source is None else Secret(source),
        destination=options.destination,
        state=getattr(options, "state", None),
        states=tuple(getattr(options, "states", ())),
        layout=getattr(options, "layout", None),
        format=getattr(options, "format", None),
        numbers=getattr(options, "numbers", None),
        tables=tuple(getattr(options, "table", ())),
        exclude=tuple(getattr(options, "exclude", ())),
        connections=getattr(options, "connections", None),
        full=getattr(options, "full", False),
        adopt_source=getattr(options, "adopt_source", False),
        accept_loss=getattr(options, "accept_loss", False),
        no_audit=getattr(options, "no_audit", False),
        allow_unconditional_writes=getattr(options, "allow_unconditional_writes", False),
        metrics_port=getattr(options, "metrics_port", None),
        push_gateway=None if gateway is None else Secret(gateway),
        metrics_textfile=getattr(options, "metrics_textfile", None),
        grace=getattr(options, "grace", None),
        engine=getattr(options, "engine", None),
    )


def settings_of(options: argparse.Namespace, streams: CommandStreams) -> Settings:
    """Return the settings of a command that reads a source and writes to a destination."""
    return load(flags(options), streams.environ)


def state_settings(options: argparse.Namespace, streams: CommandStreams) -> Settings:
    """Return the settings of a command that reads only the state. The state can be missing: see `no_state`."""
    return load(flags(options), streams.environ, state_only=True)


def several_states(
    options: argparse.Namespace, streams: CommandStreams, hint: str = _GIVE_STATE
) -> tuple[Settings, ...]:
    """Return the settings of each state that a command reads, in the order given and each place once.

    The command's `--state` is that of `groups.add_places(…, several=True)`. With one state, the settings are those of
    `state_settings`. With more, they differ in `state_url` only, and `destination` is empty. Each `state_url` is set.
    Raises ConfigError.
    """
    found = load_states(flags(options), streams.environ)
    if any(one.state_url is None for one in found.settings):
        raise no_state(hint)
    if found.repeated:
        _warn(options, streams, f"given more than once, and read once: {', '.join(found.repeated)}")
    return found.settings


def _warn(options: argparse.Namespace, streams: CommandStreams, text: str) -> None:
    """Write a warning to the log of a command that has one, and to stderr for another command."""
    if hasattr(options, "log_format"):
        streams.log.write(Line("warning", {"message": text}))
    else:
        streams.notice(text)


def configured_database(settings: Settings | None, environ: Mapping[str, str]) -> str:
    """Return the database name in the configuration, or an empty string if only a service file holds it."""
    url = None if settings is None else settings.source.url
    parts = urlsplit("" if url is None else url.reveal())
    path = unquote(parts.path[1:])
    return (PurePath(path).stem if parts.scheme in FILES else path) or environ.get("PGDATABASE", "")


def no_state(hint: str = _GIVE_STATE) -> ConfigError:
    """Return the error of a command that can't work without state."""
    why = "runs to this landing zone are stateless and keep no record"
    return ConfigError("there is no state to read", why=why, hint=hint)
