"""Progress on a terminal, drawn with rich."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from floodmark.cli.output.figures import size
from floodmark.cli.output.logs import Log
from floodmark.cli.output.tally import Progress, Tally
from floodmark.cli.output.views import ChunkCounts
from floodmark.escaping import printable
from floodmark.events import Event
from floodmark.stop import Stop
from floodmark.wording import clock_text, plural

_NOUNS = {"objects": "object", "manifests": "manifest", "keys": "key"}
_STOPPING = "Stopping: what is in progress ends first. Ctrl-C again ends at once."
_SHOW_CURSOR = b"\x1b[?25h"


class Screen:
    """Progress on a terminal: the tables at work, a bar and the numbers, redrawn in place, removed at the end."""

    def __init__(self, to: Console, tally: Tally, log: Log, stop: Stop) -> None:
        self._tally, self._log, self._stop = tally, log, stop
        log.redirect(lambda line: to.print(Text(line)))  # above the display, not into it
        self._live = Live(
            get_renderable=self.picture,
            console=to,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        self._tally.take(event)
        self._log.observe(event)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def picture(self) -> RenderableType:
        """Return what the screen shows now."""
        progress = self._tally.progress()
        if self._stop.is_set():
            lines: list[RenderableType] = [_line(_STOPPING)]
        else:
            lines = [] if progress is None else _picture(progress)
        return Group(*lines)

    def clearing(self) -> bytes:
        """Return the control codes that remove the display and show the cursor, for a process that ends at once.

        It takes no lock: the thread that draws might hold it.
        """
        if not self._live.is_started:
            return _SHOW_CURSOR
        height = self._live._live_render.last_render_height
        return b"\r\x1b[2K" + b"\x1b[1A\x1b[2K" * (height - 1) + _SHOW_CURSOR


def _picture(progress: Progress) -> list[RenderableType]:
    """Return the tables at work, then the whole step: a bar and its numbers."""
    if progress.total is None and not progress.chunks:
        return [_line(f"{progress.step}, {_numbers(progress)}")]
    tables = [_tables_at_work(progress)] if progress.tables else []
    more = [_line(f"and {plural(progress.more_tables, 'more table')}")] if progress.more_tables else []
    return [*tables, *more, _bar(progress), _line(_numbers(progress))]


def _tables_at_work(progress: Progress) -> Table:
    rows = [
        (
            printable(one.table.label),
            _percent(one.percent),
            f"{size(one.done)} of {size(one.total)}" if one.total else "",
            _chunks(one.chunks),
        )
        for one in progress.tables
    ]
    used = [column for column in zip(*rows, strict=True) if any(column)]  # rich gives an empty column a place, too
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in used[1:]:
        grid.add_column(justify="right", no_wrap=True)
    for row in zip(*used, strict=True):
        grid.add_row(*map(Text, row))
    return grid


def _bar(progress: Progress) -> Table:
    bar = ProgressBar(100, progress.percent or 0, complete_style="cyan", finished_style="green")
    cells: list[RenderableType] = [Text(progress.step, "bold"), bar, Text(_percent(progress.percent), "bold")]
    cells += [Text(_chunks(progress.chunks))] if progress.chunks is not None else []
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    for cell in cells:
        grid.add_column(ratio=1 if cell is bar else None, no_wrap=True)
    grid.add_row(*cells)
    return grid


def _numbers(progress: Progress) -> str:
    """Return how much is done, the rate, and the times."""
    parts = [_amount(progress)]
    if progress.rate is not None and progress.done:
        parts.append(f"{_quantity(progress, int(progress.rate))}/s")
    parts.append(f"{clock_text(progress.elapsed)} elapsed")
    if progress.eta is not None:
        parts.append(f"{clock_text(progress.eta)} left")
    return ", ".join(filter(None, parts))


def _amount(progress: Progress) -> str:
    if progress.total is None:
        return _quantity(progress, progress.done) if progress.done else ""
    if progress.unit == "bytes":
        return f"{size(progress.done)} of {size(progress.total)}"
    return f"{progress.done:,} of {_quantity(progress, progress.total)}"


def _quantity(progress: Progress, number: int) -> str:
    return size(number) if progress.unit == "bytes" else plural(number, _NOUNS[progress.unit])


def _percent(number: int | None) -> str:
    return "" if number is None else f"{number}%"


def _chunks(counts: ChunkCounts | None) -> str:
    return "" if counts is None else f"{counts.read:,} of {plural(counts.total, 'chunk')}"


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
