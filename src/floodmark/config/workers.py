"""The settings of a worker on another machine: the coordinator's without its secrets, and the worker's own."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from msgspec.structs import replace

from floodmark.config.load import SOURCE, load_source
from floodmark.config.settings import Flags, Metrics, NotifySettings, OpenLineageSettings, Secret, Settings
from floodmark.config.tables import MASK_KEY
from floodmark.errors import ConfigError
from floodmark.layout import LAYOUTS

CONFIG = "FLOODMARK_CONFIG"


def require_shareable(settings: Settings) -> None:
    """Refuse a run whose chunks other machines can't extract. Raises ConfigError.

    Only PostgreSQL can show one moment to several machines. A cluster can do a task twice: if a receiver moves objects
    away, the second one would land the same file again.
    """
    url, layout = settings.source.url, settings.destination.layout
    if url is not None and not url.reveal().strip().startswith("postgres"):
        why = "only PostgreSQL can show the same snapshot to several machines"
        _refuse_engine("source.url", why, "Remove the engine: threads of this process read this database.")
    if not LAYOUTS[layout].objects_stay:
        why = "a worker that answers late could land a file again after its receiver took it away"
        _refuse_engine(f"layout: {layout}", why, "Remove the engine, or run into a lake and `deliver` from there.")


def _refuse_engine(on: str, why: str, hint: str) -> NoReturn:
    raise ConfigError("can't run on a cluster", on=on, why=why, hint=hint)


def without_secrets(settings: Settings) -> Settings:
    """Return the settings that may go to another machine. A test fills in every Secret and finds none of them here.

    Workers tell nobody of a run, so what tells people and systems is left out as a whole.
    """
    return replace(
        settings,
        source=replace(settings.source, url=None),
        selection=replace(settings.selection, mask_key=None),
        metrics=Metrics(),
        notify=NotifySettings(),
        openlineage=OpenLineageSettings(),
    )


def with_own_secrets(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Complete settings that came from the coordinator with this machine's own source and mask key.

    The source is read as every command reads it: from FLOODMARK_SOURCE, from libpq's variables, or from the file that
    FLOODMARK_CONFIG names. A missing mask key is no error here: only a mask that hashes needs one. Raises ConfigError.
    """
    chosen = environ.get(CONFIG)
    try:
        source = load_source(Flags(config=Path(chosen) if chosen else None), environ)
    except ConfigError as error:
        raise _of_this_machine(error) from None
    key = environ.get(MASK_KEY)
    selection = replace(settings.selection, mask_key=Secret(key) if key else None)
    return replace(settings, source=source, selection=selection)


def _of_this_machine(error: ConfigError) -> ConfigError:
    """Return the error with the name of this machine, and with what can be set on it: a worker has no flags."""
    hint = f"Set {SOURCE}, or PGHOST and PGDATABASE, or {CONFIG} in the worker's environment: it needs its own access."
    return ConfigError(
        "a worker can't read the source", on=socket.gethostname(), why=f"{error.on}: {error.why}", hint=hint
    )
