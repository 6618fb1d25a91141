"""The text of `floodmark --version`. This module loads next to nothing, because a start should take no time."""

from __future__ import annotations

import os

from floodmark.version import __version__

_STDOUT = 1


def version_text() -> str:
    return f"floodmark {__version__}"


def write_version() -> bool:
    """Write the text to stdout. Return False if it did not take it: then the command line reports why."""
    data = f"{version_text()}\n".encode()
    try:
        return os.write(_STDOUT, data) == len(data)
    except OSError:
        return False
