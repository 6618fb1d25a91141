"""stdout and stderr as the commands use them: a reader that went away is no error, and no name steers a terminal."""

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

# Control characters (C0, DEL, C1), what turns the direction of text or can't be seen, and lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e01ef]"
)
_PLAIN_WIDTH = 100_000


def printable(text: str) -> str:
    """The text with every character that could steer a terminal written as an escape, such as \\x1b."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def printable_json(document: bytes) -> bytes:
    """The same document with such characters escaped as JSON has it; the line breaks between values stay."""

    def escaped(match: re.Match[str]) -> str:
        if match[0] < " ":
            return match[0]  # JSON has these only between values: inside a string they are escaped already
        units = match[0].encode("utf-16-be")
        return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

    return _UNPRINTABLE.sub(escaped, document.decode("utf-8")).encode("utf-8")


def open_what_is_closed() -> None:
    """Let a standard stream that was closed (`>&-`) lead nowhere. Otherwise the next file or connection that is opened
    gets its number, and with it what others write there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it stays open


class Stream:
    """A standard stream. Once its reader is gone (`| head`), what is written goes nowhere.

    It is file-like as far as rich needs it. Raises FloodmarkError where writing fails in another way, such
    as on a full disk.
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
        """Write text; letters that the stream's encoding lacks become escapes."""
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
        """Write all of it: under PYTHONUNBUFFERED the stream is bare, and one write may take only a part."""
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
        """Point the descriptor at nothing, so that what is still buffered fails nobody at exit."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)


class Talk(Protocol):
    """The log of a command that works for long: see `floodmark.cli.logs`."""

    style: str

    def say(self, level: str, event: str, fields: Mapping[str, object]) -> None: ...


class Session(Struct, frozen=True):
    """What a command talks with: data goes to `out`, talk to `err`. One that works for long talks by its `log`."""

    out: Stream
    err: Stream
    environ: Mapping[str, str]
    log: Talk | None = None


def is_terminal(stream: Stream, environ: Mapping[str, str]) -> bool:
    """Whether the stream goes to a terminal that understands control codes."""
    return stream.isatty() and environ.get("TERM") not in ("dumb", "unknown")


def console(stream: Stream, environ: Mapping[str, str]) -> Console:
    """A rich console that interprets nothing in what it is given, and uses control codes only on a terminal."""
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
