"""stdout and stderr as the commands use them. A closed reader is no error, and no name can control a terminal."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from msgspec import Struct

from floodmark.errors import FloodmarkError

if TYPE_CHECKING:
    from rich.console import Console

# Control characters (C0, DEL, C1), characters that are invisible or change text direction, and lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e01ef]"
)
_PLAIN_WIDTH = 100_000


def printable(text: str) -> str:
    r"""Escape every character that could control a terminal, such as \x1b."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def printable_json(document: bytes) -> bytes:
    """Escape such characters in a document as JSON does. The line breaks between values stay."""

    def escaped(match: re.Match[str]) -> str:
        if match[0] < " ":
            return match[0]  # JSON has these only between values: inside a string they are already escaped
        units = match[0].encode("utf-16-be")
        return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

    return _UNPRINTABLE.sub(escaped, document.decode("utf-8")).encode("utf-8")


def open_what_is_closed() -> None:
    """Connect a closed standard stream (`>&-`) to the null device.

    Otherwise the next file or connection gets the stream's number, and with it the output meant for the stream.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it stays open


class Stream:
    """A standard stream. After its reader closes it (`| head`), output is discarded.

    It is file-like as far as rich needs it. Raises FloodmarkError if writing fails for another reason, such as a full
    disk.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._gone = False

    @property
    def encoding(self) -> str:
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text. Letters that the stream's encoding lacks become escapes."""
        data = text.encode(self.encoding, "backslashreplace")
        self._attempt(lambda: self._put(data, self.encoding))
        return len(text)

    def line(self, text: str) -> None:
        self.write(f"{text}\n")

    def write_json(self, document: bytes) -> None:
        """Write a JSON document, always as UTF-8."""
        data = printable_json(document).rstrip() + b"\n"
        self._attempt(lambda: self._put(data, "utf-8"))

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        with self._lock:
            if self._gone:
                return
            try:
                action()
            except BrokenPipeError:
                self._gone = True
                self._silence()
            except OSError as error:
                self._gone = True
                self._silence()
                raise FloodmarkError("the output can't be written", why=error.strerror) from None

    def _put(self, data: bytes, encoding: str) -> None:
        """Write all of it. Under PYTHONUNBUFFERED the stream is unbuffered, and one write can take only a part."""
        buffer = getattr(self._stream, "buffer", None)
        if buffer is None:
            self._stream.write(data.decode(encoding))
            return
        self._stream.flush()
        rest = memoryview(data)
        while rest:
            rest = rest[buffer.write(rest) :]
        buffer.flush()

    def _silence(self) -> None:
        """Point the descriptor at the null device, so that buffered data causes no error at exit."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)


class Talk(Protocol):
    """The log of a long command: see `floodmark.cli.logs`."""

    style: str

    def say(self, level: str, event: str, fields: Mapping[str, object]) -> None: ...


class Session(Struct, frozen=True):
    """A command's streams: data goes to `out`, diagnostics to `err`. A long command reports through its `log`."""

    out: Stream
    err: Stream
    environ: Mapping[str, str]
    log: Talk | None = None


def is_terminal(stream: Stream, environ: Mapping[str, str]) -> bool:
    """Return true if the stream goes to a terminal that understands control codes."""
    return stream.isatty() and environ.get("TERM") not in ("dumb", "unknown")


def console(stream: Stream, environ: Mapping[str, str]) -> Console:
    """Return a rich console that interprets no markup and uses control codes only on a terminal."""
    from rich.console import Console  # noqa: PLC0415 - by need: JSON is written without rich

    terminal = is_terminal(stream, environ)
    return Console(
        file=stream,  # type: ignore[arg-type]
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        no_color=bool(environ.get("NO_COLOR")),
        width=None if terminal else _PLAIN_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
    )
