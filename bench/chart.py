"""The chart of a full extraction as SVG: one row per program, and one panel per figure, with every number as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape

from msgspec import Struct

from bench.measure import Series
from bench.outcome import Outcome
from bench.report import number

WIDTH, LEFT, ROW, TOP, GAP = 880, 258, 26, 84, 14
BAR_HEIGHT = 14
# The space right of the longest bar, for its number.
NUMBER = 52
# A bar is cut if it is longer than so many bars of Floodmark.
CUT = 4
# The chart has its own background, so that it can be read on a page of any colour.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .head { font-size: 15px; font-weight: 600 } .small { font-size: 12px; fill: #59636e }
  .ours { font-weight: 600 } .page { fill: #ffffff; stroke: #d1d9e0 }
  .bar { fill: #8c959f } .ours-bar { fill: #0969da } .axis { stroke: #d1d9e0 }
  .gap { stroke: #ffffff; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 } .page { fill: #0d1117; stroke: #3d444d }
    .bar { fill: #6e7681 } .ours-bar { fill: #4493f8 } .axis { stroke: #3d444d } .gap { stroke: #0d1117 }
  }
"""


class Panel(Struct, frozen=True):
    """A figure of all programs, in seconds."""

    title: str
    figure: Callable[[Series], float]


PANELS = (
    Panel("wall time", lambda one: one.seconds),
    Panel("server’s processor time", lambda one: one.server_cpu_seconds),
    Panel("client’s processor time", lambda one: one.client_cpu_seconds),
)


def svg(outcome: Outcome) -> str:
    """Return the chart of a full extraction. The first series is Floodmark's, and sets the scale."""
    return "\n".join(_lines(outcome)) + "\n"


def words(series: Sequence[Series]) -> str:
    """Return all that the chart shows as one text, for readers who can't see it."""
    return "; ".join(
        f"{one.name}: " + (", ".join(f"{panel.title} {number(panel.figure(one))} s" for panel in PANELS))
        if one.samples
        else f"{one.name}: {one.note}"
        for one in series
    )


def _lines(outcome: Outcome) -> Iterator[str]:
    series = outcome.series
    height = TOP + ROW * len(series) + 40
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title words">'
    )
    yield f'<title id="title">{escape(outcome.title)}, in seconds: less is better</title>'
    yield f'<desc id="words">{escape(words(series))}</desc>'
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>'
    yield _text(16, 28, f"{outcome.title[:1].upper()}{outcome.title[1:]}, in seconds: less is better", "head")
    yield _text(16, 48, " ".join(outcome.notes[:1]), "small")
    for place, one in enumerate(series):
        yield _text(16, _baseline(place), _label(one), "ours" if _is_ours(one) else "")
        if not one.samples:
            yield _text(LEFT, _baseline(place), one.note.partition(":")[0], "small")
    for place, panel in enumerate(PANELS):
        yield from _panel(place, panel, series)
    yield _text(16, height - 14, f"A bar with a gap is longer than drawn. {_rounds(series)}", "small")
    yield "</svg>"


def _panel(place: int, panel: Panel, series: Sequence[Series]) -> Iterator[str]:
    width = (WIDTH - LEFT - 16) // len(PANELS)
    left, room = LEFT + place * width, width - GAP - NUMBER
    figures = [panel.figure(one) if one.samples else None for one in series]
    known = [figure for figure in figures if figure is not None]
    limit = max(min(max(known), CUT * (known[0] or max(known))), 0.01)
    yield _text(left, TOP - 10, panel.title, "ours")
    yield f'<line class="axis" x1="{left}" y1="{TOP - 2}" x2="{left}" y2="{TOP + ROW * len(series)}"/>'
    for row, (one, figure) in enumerate(zip(series, figures, strict=True)):
        if figure is not None:
            yield from _bar(left, row, room, figure, limit, "ours-bar" if _is_ours(one) else "bar")


def _bar(left: int, row: int, room: int, figure: float, limit: float, kind: str) -> Iterator[str]:
    length = max(1.0, room * min(figure, limit) / limit)
    top = TOP + ROW * row + (ROW - BAR_HEIGHT) // 2
    yield f'<rect class="{kind}" x="{left}" y="{top}" width="{length:.1f}" height="{BAR_HEIGHT}"/>'
    if figure > limit:
        middle = left + room - 16
        yield f'<line class="gap" x1="{middle}" y1="{top + BAR_HEIGHT + 2}" x2="{middle + 8}" y2="{top - 2}"/>'
    yield _text(round(left + length + 5), _baseline(row), number(figure), "")


def _label(series: Series) -> str:
    return series.name + (" ¹" if series.samples and series.note else "")


def _rounds(series: Sequence[Series]) -> str:
    most = max(len(one.samples) for one in series)
    fewer = " ¹ Fewer rounds: see bench/README.md." if any(one.samples and one.note for one in series) else ""
    return f"Medians of {most} rounds in turn, with warm caches.{fewer}" if most > 1 else f"One round.{fewer}"


def _is_ours(series: Series) -> bool:
    return series.name.startswith("floodmark")


def _baseline(row: int) -> int:
    return TOP + ROW * row + 18


def _text(x: int, y: int, text: str, kind: str) -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text{chosen} x="{x}" y="{y}">{escape(text)}</text>'
