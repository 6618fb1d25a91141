"""Columns of text that fit the terminal: names and numbers are never broken, less important columns go first."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from floodmark.cli.output.terminal import broken
from floodmark.escaping import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Row = Sequence[str]
_STYLES = {
    "extracted": "green",
    "success": "green",
    "added": "green",
    "changed": "green",
    "failed": "bold red",
    "dropped": "yellow",
    "partial": "yellow",
    "unread": "yellow",
    "unreadable": "bold red",
    "stopped": "yellow",
    "unchanged": "dim",
}
_GAP = 2
_MARGIN = 4
# The last column, if it holds sentences, gets at least this width, or it moves below its row.
_SENTENCE_WIDTH = 30


class Column(Struct, frozen=True):
    """A column's head and form.

    `right` aligns it to the right. `rank` says how soon it is left out on a narrow terminal: the greatest rank goes
    first, and 0 always stays. Only the last column can be a `sentence`, which is broken between words. `below` puts
    sentences below their rows even if there is room to the right.
    """

    title: str
    right: bool = False
    rank: int = 0
    sentence: bool = False
    below: bool = False


class _Form(Struct, frozen=True):
    """The chosen form of a table: the columns that are shown, their widths, and the place of the sentences.

    The sentences right of the columns are `room` wide. It is 0 if they go below their row, or if there are none.
    """

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    room: int = 0


def draw(columns: Sequence[Column], rows: Iterable[Row], to: Console) -> str:
    """Return the rows below their heads, in lines that are no wider than `to`, unless a single word is.

    No word is broken, so that a run's id can be copied. A name that takes more than half of the width gets a line of
    its own. Without a terminal nothing is left out or broken, and there are no control codes.
    """
    cells = [tuple(printable(cell) for cell in row) for row in rows]
    form = _choose_form(columns, cells, to.width if to.is_terminal else None)
    heads = tuple(column.title for column in columns)
    lines = list(_lines_of(heads, columns, form, to, head=True))
    for row in cells:
        lines += _lines_of(row, columns, form, to)
    return _drawn(lines, to)


def wrap(text: str, to: Console, margin: int = 0) -> str:
    """Return a sentence in lines that fit, each behind a margin. No word is broken."""
    lines = broken(text, max(to.width - margin, 20)) if to.is_terminal else [text]
    return "".join(f"{' ' * margin}{line}\n" for line in lines)


def _choose_form(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> _Form:
    from rich.cells import cell_len  # noqa: PLC0415 - by need: JSON is written without rich

    sentence = columns[-1].sentence
    fixed = range(len(columns) - sentence)
    natural = [max(cell_len(text) for text in (columns[n].title, *(row[n] for row in rows))) for n in fixed]
    longest = max((cell_len(row[-1]) for row in rows), default=0) if sentence else 0
    if width is None:
        return _Form(tuple(fixed), tuple(natural), longest)
    natural[0] = _name_width([cell_len(row[0]) for row in rows], cell_len(columns[0].title), width // 2)
    sentence_width = 0 if columns[-1].below else min(longest, _SENTENCE_WIDTH)
    shown = _fitting(columns, fixed, natural, width - (sentence_width + _GAP if sentence else 0))
    room = width - _total(shown, natural) - _GAP
    if sentence and (columns[-1].below or room < sentence_width):
        shown, room = _fitting(columns, fixed, natural, width), 0
    return _Form(tuple(shown), tuple(natural[n] for n in shown), room if sentence else 0)


def _name_width(lengths: Sequence[int], head: int, most: int) -> int:
    """Return the width of the first column: that of the longest name that does not get a line of its own."""
    return max([head, *(length for length in lengths if length <= most)])


def _fitting(columns: Sequence[Column], fixed: Iterable[int], widths: Sequence[int], most: int) -> list[int]:
    """Return the columns that are left after those of the greatest ranks were left out, so that the others fit."""
    shown = list(fixed)
    while _total(shown, widths) > most:
        ranks = [columns[n].rank for n in shown]
        if max(ranks) == 0:
            break
        del shown[ranks.index(max(ranks))]
    return shown


def _total(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[n] for n in shown) + _GAP * (len(shown) - 1)


def _lines_of(row: Row, columns: Sequence[Column], form: _Form, to: Console, *, head: bool = False) -> Iterator[Text]:
    """Yield the lines of one row."""
    from rich.cells import cell_len  # noqa: PLC0415 - by need: JSON is written without rich
    from rich.text import Text  # noqa: PLC0415 - by need

    first = row[0]
    if cell_len(first) > form.widths[0]:
        yield Text(first)
        first = ""
    line = Text()
    for place, (n, width) in enumerate(zip(form.shown, form.widths, strict=True)):
        cell = Text(first if n == 0 else row[n], style="bold" if head else _STYLES.get(row[n], ""))
        cell.align("right" if columns[n].right else "left", width)
        line.append_text(Text(" " * _GAP if place else "")).append_text(cell)
    if not columns[-1].sentence or not row[-1] or (head and not form.room):
        yield line
        return
    width = form.room or to.width - _MARGIN
    texts = [Text(text, style="bold" if head else "") for text in broken(row[-1], width if to.is_terminal else None)]
    if form.room:
        yield Text.assemble(line, " " * _GAP, texts[0])
        margin, texts = len(line) + _GAP, texts[1:]
    else:
        yield line
        margin = _MARGIN
    yield from (Text.assemble(" " * margin, text) for text in texts)


def _drawn(lines: Iterable[Text], to: Console) -> str:
    """Return the lines as `to` would print them."""
    from rich.console import Console  # noqa: PLC0415 - by need

    drawing = Console(
        file=io.StringIO(),
        force_terminal=to.is_terminal,
        color_system=to.color_system,  # type: ignore[arg-type]
        no_color=to.no_color,
        legacy_windows=False,
    )
    with drawing.capture() as capture:
        for line in lines:
            line.rstrip()
            drawing.print(line, soft_wrap=True)
    return capture.get()
