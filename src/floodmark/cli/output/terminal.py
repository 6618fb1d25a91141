"""The terminal behind a stream: if there is one, and how text fits it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from typing import Protocol

_USUAL_WIDTH = 80


class CanBeTerminal(Protocol):
    """A stream that knows if it is a terminal."""

    def isatty(self) -> bool: ...


def is_terminal(stream: CanBeTerminal, environ: Mapping[str, str]) -> bool:
    """Return true if the stream goes to a terminal that understands control codes."""
    return stream.isatty() and environ.get("TERM") not in ("dumb", "unknown")


def wrapped(text: str) -> str:
    """Break a text between words, so that it fits the terminal of stderr."""
    try:
        columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(2).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        columns = _USUAL_WIDTH
    return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)
