"""Progress on a terminal, drawn with rich."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from floodmark.cli.output.escaping import printable
from floodmark.cli.output.logs import Log
from floodmark.cli.output.tally import Tally, rate
from floodmark.events import Event
from floodmark.wording import plural

_SHOWN_TABLES = 8


class Screen:
    """Progress on a terminal: the tables in progress and a summary line, redrawn in place, removed at the end."""

    def __init__(self, to: Console, tally: Tally, log: Log) -> None:
        self._tally, self._log = tally, log
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

    def picture(self) -> Table:
        """Return what the screen shows now."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "right", "right", "right"):
            grid.add_column(justify=justify, no_wrap=True, overflow="ellipsis")
        running = self._tally.running()
        now = self._tally.clock()
        for name, work in running[:_SHOWN_TABLES]:
            speed = rate(work.raw_bytes, now - (work.since or now))
            chunks = f"{work.done}/{plural(work.to_extract, 'chunk')}"
            cells = (printable(name.label), plural(work.rows, "row"), speed, chunks)
            grid.add_row(*map(Text, cells))
        if len(running) > _SHOWN_TABLES:
            grid.add_row(Text(f"and {plural(len(running) - _SHOWN_TABLES, 'more table')}"))
        whole = Table.grid()
        whole.add_row(grid)
        whole.add_row(Text(self._tally.overall(), style="bold"))
        return whole
