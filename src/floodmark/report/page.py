"""Histories → one HTML file. Templates and scripts are in assets/; Jinja2 escapes every value."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from floodmark.escaping import printable
from floodmark.report.attention import age_text
from floodmark.report.facts import StateHistory, UnreadState
from floodmark.report.library import chart_library, require_report_extra
from floodmark.report.places import without_secrets_in_urls
from floodmark.report.summary import NightTotal, Overview, StateView, overview, state_view
from floodmark.version import __version__
from floodmark.wording import duration_text, plural, size_text

if TYPE_CHECKING:
    from jinja2 import Template  # optional extra

# The most tables in one page. 5,000 tables and 60 nights take less than a megabyte.
_MOST_TABLES = 30_000


def render_html(histories: Sequence[StateHistory | UnreadState], now: datetime) -> str:
    """Return the report as one HTML document that loads nothing.

    The states that need attention come first, and of these the oldest. Raises ConfigError if the extra `report` is not
    installed.
    """
    require_report_extra()
    whole = _shown_whole(histories)
    views = sorted(
        (
            state_view(state, slug, now, tables=shown)
            for state, slug, shown in zip(histories, _slugs(histories), whole, strict=True)
        ),
        key=lambda view: (view.severity, -(view.age_seconds or 0), view.title),
    )
    return _rendered(overview(views), views, now)


def _rendered(front: Overview, views: Sequence[StateView], now: datetime) -> str:
    library, script = chart_library(), _asset("report.js")
    return _template().render(
        front=front,
        views=views,
        now=now,
        version=__version__,
        style=_asset("report.css"),
        library=library,
        script=script,
        script_sources=f"{_source_hash(library)} {_source_hash(script)}",
    )


def _shown_whole(histories: Sequence[StateHistory | UnreadState]) -> list[bool]:
    """Return for each state if its tables are in the page: as many states as fit, the smallest first."""
    sizes = [state.table_count if isinstance(state, StateHistory) else 0 for state in histories]
    kept: set[int] = set()
    left = _MOST_TABLES
    for at in sorted(range(len(sizes)), key=sizes.__getitem__):
        left -= sizes[at]
        if left >= 0 or not kept:
            kept.add(at)
    return [at in kept for at in range(len(sizes))]


def _slugs(histories: Sequence[StateHistory | UnreadState]) -> list[str]:
    """Return a name for the links to each state. Databases of the same name get a number."""
    known: Counter[str] = Counter()
    found = []
    for state in histories:
        name = state.database if isinstance(state, StateHistory) else ""
        # No name holds a ~ after this, so no name looks like one with a number.
        name = quote(name or "state", safe="").replace("~", "%7E")
        known[name] += 1
        found.append(name if known[name] == 1 else f"{name}~{known[name]}")
    return found


@cache
def _asset(name: str) -> str:
    return files("floodmark.report").joinpath("assets", name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    """Return what a Content-Security-Policy calls an inline script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - optional extra

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    environment.filters.update(
        size=lambda number: "–" if number is None else size_text(number),
        count=lambda number: "–" if number is None else f"{number:,}",
        plural=plural,
        seconds=_seconds_text,
        utc=_utc_text,
        age=age_text,
        place=without_secrets_in_urls,
        nights_json=_nights_json,
    )
    return environment.from_string(_asset("report.html.j2"))


def _visible(value: object) -> object:
    """Show characters that are invisible or turn the direction of text. A name could pretend to be another one."""
    return printable(value) if type(value) is str else value


def _nights_json(nights: Sequence[NightTotal]) -> str:
    """Return the front chart's values. They hold dates and numbers, so nothing in them ends a script element."""
    values = [[one.day, one.moved_bytes, one.saved_bytes] for one in nights]
    return msgspec.json.encode(values).decode("ascii")


def _seconds_text(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f} s" if seconds < 100 else duration_text(int(seconds))


def _utc_text(moment: str | datetime | None) -> str:
    """Return a time in UTC to the minute."""
    if moment is None:
        return "–"
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"
