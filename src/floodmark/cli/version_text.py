"""The text of `floodmark --version`. This module loads next to nothing, because a start should take no time."""

from __future__ import annotations

import os

from floodmark.errors import FloodmarkError
from floodmark.version import __version__

_STDOUT = 1


def version_text() -> str:
    """Return the version and the maker of PostgreSQL's lines. Raises ConfigError for a wrong choice of it."""
    from floodmark.native import encoder_in_use  # noqa: PLC0415 - by need: a start prints no version

    return f"floodmark {__version__}\nencoder: {encoder_in_use(os.environ)}"


def write_version() -> bool:
    """Write the text to stdout. Return False if that is not possible: then the command line reports why."""
    try:
        data = f"{version_text()}\n".encode()
        return os.write(_STDOUT, data) == len(data)
    except (OSError, FloodmarkError):
        return False
