"""The text of `floodmark --version`. This module loads next to nothing, because a start should take no time."""

from __future__ import annotations

import os

from floodmark.errors import FloodmarkError
from floodmark.version import __version__

_STDOUT = 1


def version_text() -> str:
    """Return the version and the maker of PostgreSQL's lines.

    Raises ConfigError for a wrong choice of the maker, and if it can't be loaded: no run could use it.
    """
    from floodmark.native import encoder_in_use, load_encoder  # noqa: PLC0415 - by need: a start prints no version

    maker = encoder_in_use(os.environ)
    if maker == "native":
        load_encoder()
    return f"floodmark {__version__}\nencoder: {maker}"


def write_version() -> bool:
    """Write the text to stdout. Return False if that is not possible: then the command line reports why."""
    try:
        data = f"{version_text()}\n".encode()
        return os.write(_STDOUT, data) == len(data)
    except (OSError, FloodmarkError):
        return False
