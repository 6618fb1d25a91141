"""The states of a command that watches many databases: the flags, the environment's list, or the file's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config.load import STATE, STATES, load, read_file
from floodmark.config.settings import DestinationSettings, Flags, Settings
from floodmark.config.urls import check_place
from floodmark.places import bucket_of

# What divides the places in the environment's list. A place that holds one of these can be given as a flag.
_BETWEEN = re.compile(r"[\s,]+")


class WatchedStates(Struct, frozen=True):
    """The settings of each state, in the order given. `repeated` are places that were given more than once."""

    settings: tuple[Settings, ...]
    repeated: tuple[str, ...] = ()


def load_states(arguments: Flags, environ: Mapping[str, str]) -> WatchedStates:
    """Return the settings of each state that a command reads, each place once.

    A flag overrides the environment, and the environment overrides the file. Without a list, it is the one state of
    `load`, which can be missing. Raises ConfigError.
    """
    places = [check_place(url.strip(), origin) for url, origin in _listed(arguments, environ)]
    kept, repeated = _distinct(places)
    if not kept:
        return WatchedStates((load(arguments, environ, state_only=True),))
    first = load(replace(arguments, state=kept[0]), environ, state_only=True)
    if len(kept) == 1:
        return WatchedStates((first,), repeated)
    # The destination of the configuration is that of one database. Each state names its own.
    first = replace(first, destination=DestinationSettings(url=""))
    return WatchedStates(tuple(replace(first, state_url=url) for url in kept), repeated)


def _listed(arguments: Flags, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each place of the list in force, and where it was given."""
    if arguments.states or arguments.destination is not None:
        yield from ((url, "--state") for url in arguments.states)
        return
    if environ.get(STATES, "").strip():
        yield from ((url, STATES) for url in _BETWEEN.split(environ[STATES]) if url)
        return
    if not environ.get(STATE):
        file, name = read_file(arguments.config)
        yield from ((url, f"states[{number}] ({name})") for number, url in enumerate(file.states))


def _distinct(places: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return each place once, and those that were given again."""
    kept: dict[str, str] = {}
    repeated: dict[str, None] = {}
    for url in places:
        if _identity(url) in kept:
            repeated[url] = None
        else:
            kept[_identity(url)] = url
    return list(kept.values()), tuple(repeated)


def _identity(url: str) -> str:
    """Return a text that is the same for two ways to write one place."""
    return str(Path(url).resolve()) if bucket_of(url) is None else url.rstrip("/")
