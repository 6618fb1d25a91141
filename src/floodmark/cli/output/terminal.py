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


def broken(text: str, width: int | None, indent: str = "") -> list[str]:
    """Return a text in lines of a width, broken between words. No word is broken. Without a width it is one line.

    `indent` is put before each line but the first.
    """
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def wrapped(text: str, indent: str = "") -> str:
    """Break a text between words, so that it fits the terminal of stderr. `indent` is put before the later lines."""
    try:
        columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(2).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        columns = _USUAL_WIDTH
    return "\n".join(broken(text, columns, indent))
