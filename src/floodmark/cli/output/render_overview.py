"""Many states at a glance as text: a line for each, and below it what needs attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from floodmark.cli.output.figures import count, size
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.overview import StateSummary
from floodmark.wording import duration_text, plural

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = (
    Column("database"),
    Column("last run"),
    Column("age", right=True),
    Column("oldest table", right=True, rank=4),
    Column("tables", right=True, rank=1),
    Column("failed", right=True, rank=3),
    Column("rows", right=True, rank=2),
    Column("size", right=True, rank=5),
    Column("state", rank=6),
    Column("needs attention", sentence=True, below=True),
)


def overview_text(summaries: Sequence[StateSummary], to: Console) -> str:
    """Return a line for each state in this order, with what needs attention below it, and a line that sums them up."""
    names = Counter(one.database for one in summaries)
    return draw(_COLUMNS, [_row(one, names) for one in summaries], to) + wrap(totals_line(summaries), to)


def totals_line(summaries: Sequence[StateSummary]) -> str:
    """Return one line that sums up the states."""
    unread = sum(one.error is not None for one in summaries)
    attention = sum(bool(one.attention) for one in summaries) - unread
    tables, rows = sum(one.tables for one in summaries), sum(one.rows for one in summaries)
    parts = [f"{plural(len(summaries), 'state')}, {plural(tables, 'table')}, {plural(rows, 'row')}"]
    parts += [f"{count(attention)} {'needs' if attention == 1 else 'need'} attention"] if attention else []
    parts += [f"{count(unread)} can't be read"] if unread else []
    return "; ".join(parts)


def _row(one: StateSummary, names: Counter[str | None]) -> tuple[str, ...]:
    """Return the cells of a state. Its location replaces a name that is unknown or not the only one."""
    known = one.database is not None and names[one.database] == 1
    unread = one.error is not None
    return (
        one.database if known and one.database else one.state,
        "unreadable" if unread else one.outcome or "-",
        _age(one.age_seconds),
        _age(one.oldest_age_seconds),
        "-" if unread else count(one.tables),
        "-" if unread else count(one.failed),
        "-" if unread else count(one.rows),
        "-" if unread else size(one.stored_bytes),
        one.state,
        "; ".join(one.attention),
    )


def _age(seconds: int | None) -> str:
    return "-" if seconds is None else duration_text(seconds)
