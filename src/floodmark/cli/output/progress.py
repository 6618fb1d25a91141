"""Progress of a run on stderr: live on a terminal, log lines elsewhere. Data never goes this way."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from floodmark.cli.output.log_events import Line
from floodmark.cli.output.streams import CommandStreams, console, is_terminal
from floodmark.cli.output.tally import Tally
from floodmark.events import ChunkDone, Event

if TYPE_CHECKING:
    from floodmark.cli.output.screen import Screen

_LINE_EVERY = 30.0  # seconds


class Lines:
    """Progress as plain lines: for logs, pipes and terminals without control codes."""

    def __init__(self, streams: CommandStreams, tally: Tally) -> None:
        self._streams, self._tally = streams, tally
        self._log = streams.log
        self._last_line = tally.clock()

    def __call__(self, event: Event) -> None:
        self._tally.take(event)
        if self._log.observe(event):
            self._last_line = self._tally.clock()
        elif isinstance(event, ChunkDone) and self._tally.clock() - self._last_line >= _LINE_EVERY:
            self._last_line = self._tally.clock()
            self._log.write(Line("progress", self._tally.sums()))

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._streams.err.flush()


def progress(streams: CommandStreams, tally: Tally) -> Lines | Screen:
    """Return the progress display that suits stderr."""
    if not is_terminal(streams.err, streams.environ):
        return Lines(streams, tally)
    from floodmark.cli.output.screen import Screen  # noqa: PLC0415 - by need: a nightly job has no terminal

    return Screen(console(streams.err, streams.environ), tally, streams.log)
