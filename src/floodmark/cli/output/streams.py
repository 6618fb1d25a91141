"""stdout and stderr as the commands use them. A reader that closes its end is no error, nor is a full stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from floodmark.cli.output.logs import Log
from floodmark.cli.output.terminal import is_terminal, wrapped
from floodmark.cli.signals import StopSignals
from floodmark.errors import FloodmarkError
from floodmark.escaping import printable, printable_json, printable_rows
from floodmark.events import Event, Retried
from floodmark.wording import pretty_json

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 100_000


def open_closed_streams() -> None:
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
    disk. For a stream of diagnostics, that is no error either: nobody can be told, and no work may fail for it.
    """

    def __init__(self, stream: TextIO, *, diagnostics: bool = False) -> None:
        self._stream = stream
        self._diagnostics = diagnostics
        self._lock = threading.RLock()
        self._gone = False

    @property
    def encoding(self) -> str:
        return self._stream.encoding or "utf-8"

    @property
    def gone(self) -> bool:
        """Return true if the stream can't be written any more, so that whatever is written now is discarded."""
        return self._gone

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text. Letters that the stream's encoding lacks become escapes."""
        data = text.encode(self.encoding, "backslashreplace")
        self._attempt(lambda: self._put(data, self.encoding))
        return len(text)

    def line(self, text: str) -> None:
        self.write(f"{text}\n")

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are. On a terminal they could control it: see `escaping`."""
        self._attempt(lambda: self._put(data, "utf-8"))

    def write_rows(self, block: bytes) -> None:
        """Write a block of rows as it is. On a terminal, a row's value could control the terminal: it is escaped."""
        if self.isatty():
            self.write(printable_rows(block))
        else:
            self.write_bytes(block)

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
            except OSError as error:
                self._gone = True
                self._silence()
                if not (self._diagnostics or isinstance(error, BrokenPipeError)):
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


class CommandStreams:
    """A command's streams and environment: data goes to `out`, diagnostics to `err`.

    A long command reports to `log`. By default that writes text, from level info on. It ends when `signals` say so.
    `live` allows live progress on a terminal.
    """

    def __init__(
        self,
        out: Stream,
        err: Stream,
        environ: Mapping[str, str],
        log: Log | None = None,
        signals: StopSignals | None = None,
        *,
        live: bool = True,
    ) -> None:
        self.out, self.err, self.environ = out, err, environ
        self.log = Log(err.line, "text", "info") if log is None else log
        self.signals = StopSignals() if signals is None else signals
        self.live = live

    def notice(self, text: str, hint: str | None = None) -> None:
        """Write a message to stderr, and a hint below it. Names in both can hold any character.

        On a terminal, both are broken between words.
        """
        texts = [f"floodmark: {printable(text)}", *([] if hint is None else [f"  {printable(hint)}"])]
        terminal = is_terminal(self.err, self.environ)
        for one in texts:
            self.err.line(wrapped(one, "  ") if terminal else one)

    def write_paragraph(self, text: str) -> None:
        """Write sentences to stderr as one line. On a terminal, a long line breaks between words.

        There the line takes the place of the `^C` that a terminal shows for Ctrl-C.
        """
        text = printable(text)
        self.err.line(f"\r{wrapped(text)}" if is_terminal(self.err, self.environ) else text)

    def print_json(self, document: object) -> None:
        """Write a result to stdout as JSON. Bytes are a finished document."""
        self.out.write_json(document if isinstance(document, bytes) else pretty_json(document))

    def notice_no_run(self) -> None:
        self.notice("no run has been committed yet")

    def report_retry(self, event: Event) -> None:
        """Write a message about a retry. An observer for commands that have no log."""
        if isinstance(event, Retried):
            self.notice(f"retry {event.attempt}: {event.what}: {event.why}")


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
