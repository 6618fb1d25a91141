"""Escapes for characters that could control a terminal. Names of tables and databases can hold any character."""

from __future__ import annotations

import re

# Control characters (DEL, C1), characters that are invisible or change text direction, and lone surrogates.
_FROM_DEL_ON = (
    "\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e01ef"
)
_UNPRINTABLE = re.compile(f"[\x00-\x1f{_FROM_DEL_ON}]")
# JSON has the others (C0) only between values: inside a string they are already escaped.
_UNPRINTABLE_IN_JSON = re.compile(f"[{_FROM_DEL_ON}]")


def printable(text: str) -> str:
    r"""Escape every character that could control a terminal, such as \x1b."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def printable_rows(block: bytes) -> str:
    """Escape such characters in a block of rows, but not the line breaks."""
    return "\n".join(map(printable, block.decode("utf-8").split("\n")))


def printable_json(document: bytes) -> bytes:
    """Escape such characters in a document as JSON does. The line breaks between values stay."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return _UNPRINTABLE_IN_JSON.sub(_json_escape, document.decode("utf-8")).encode("utf-8")


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
