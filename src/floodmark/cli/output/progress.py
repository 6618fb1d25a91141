"""Progress of a command on stderr: live on a terminal, log lines elsewhere. Data never goes this way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from floodmark.cli.output.log_events import Line
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Progress, Tally
from floodmark.cli.output.terminal import is_terminal
from floodmark.events import Event
from floodmark.stop import NEVER, Stop

if TYPE_CHECKING:
    from floodmark.cli.output.screen import Screen

_LINE_EVERY = 30.0  # seconds


class Lines:
    """Progress as log lines: for logs, pipes and terminals without control codes."""

    def __init__(self, streams: CommandStreams, tally: Tally, every: float = _LINE_EVERY) -> None:
        self._streams, self._tally, self._every = streams, tally, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_regularly, name="progress", daemon=True)

    # Nothing has to be removed from a log.
    clearing: Callable[[], bytes] | None = None

    def __call__(self, event: Event) -> None:
        self._tally.take(event)
        self._streams.log.observe(event)

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._streams.err.flush()

    def _write_regularly(self) -> None:
        while not self._over.wait(self._every):
            progress = self._tally.progress()
            if progress is not None:
                self._streams.log.write(progress_line(progress))


def progress(streams: CommandStreams, tally: Tally, stop: Stop = NEVER) -> Lines | Screen:
    """Return the progress display that suits stderr."""
    if not streams.live or not is_terminal(streams.err, streams.environ):
        return Lines(streams, tally)
    from floodmark.cli.output.screen import Screen  # noqa: PLC0415 - by need: a nightly job has no terminal

    return Screen(console(streams.err, streams.environ), tally, streams.log, stop)


def progress_line(progress: Progress) -> Line:
    """Return the line for a command's progress. Bytes have fields of their own, and so has what is only counted."""
    of_bytes = progress.unit == "bytes"
    done, total = ("done_bytes", "total_bytes") if of_bytes else ("done", "total")
    chunks = progress.chunks
    fields = {
        "step": progress.step,
        "percent": progress.percent,
        done: progress.done if progress.done or progress.total is not None else None,
        total: progress.total,
        "rate": None if progress.rate is None else round(progress.rate),
        "elapsed": round(progress.elapsed),
        "eta": None if progress.eta is None else round(progress.eta),
        "chunks_done": None if chunks is None else chunks.read,
        "chunks": None if chunks is None else chunks.total,
        "tables": {one.table.label: one.percent for one in progress.tables} or None,
    }
    return Line("progress", fields)
