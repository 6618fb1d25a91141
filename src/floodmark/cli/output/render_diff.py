"""The differences between two runs as text for people: changed tables with their details, the others in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from floodmark.cli.output.figures import both_times, count, size
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.render import folded_line
from floodmark.differences import ComparedRun, ManifestDifference, TableContent, TableDifference
from floodmark.escaping import printable
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_DIFF = (
    Column("table"),
    Column("change"),
    Column("rows before", right=True, rank=3),
    Column("rows", right=True, rank=2),
    Column("+/-", right=True, rank=1),
    Column("size before", right=True, rank=5),
    Column("size", right=True, rank=4),
    Column("details", sentence=True),
)


def diff_text(difference: ManifestDifference, to: Console, *, verbose: bool = False) -> str:
    """Return the two runs, each table that is different, and one line that sums up. The other tables are one line."""
    listed = [one for one in difference.tables if verbose or one.is_different]
    folded = sum(one.change == "unchanged" for one in difference.tables) if not verbose else 0
    table = draw(_DIFF, map(_row, listed), to) if listed else ""
    return _runs(difference) + "\n" + table + folded_line(folded) + wrap(_summary(difference), to)


def _runs(difference: ManifestDifference) -> str:
    old, new = difference.old, difference.new
    facts = [("old", "none: this is the first run" if old is None else _run(old)), ("new", _run(new))]
    if old is not None and difference.other_database:
        facts += [("database", "not the same in both runs"), ("  old", _database(old)), ("  new", _database(new))]
    return "".join(f"{name + ':':<10}{printable(text)}\n" for name, text in facts)


def _run(one: ComparedRun) -> str:
    return f"{one.run_id}, ended {both_times(one.finished_at)}"


def _database(one: ComparedRun) -> str:
    return f"{one.dialect} {one.database}, system identifier {one.system_identifier}"


def _row(one: TableDifference) -> tuple[str, ...]:
    return (
        one.table.label,
        one.change,
        count(_of(one.old, _rows)),
        count(_of(one.new, _rows)),
        _signed(_growth(one.old, one.new)),
        size(_of(one.old, _stored)),
        size(_of(one.new, _stored)),
        one.detail,
    )


def _summary(difference: ManifestDifference) -> str:
    """Return the numbers of tables by their change, and the sums over all tables."""
    tables = difference.tables
    counts = Counter(one.change for one in tables)
    parts = [f"{counts[change]} {change}" for change in ("added", "dropped", "changed", "unchanged")]
    if counts["unread"]:
        parts.append(f"{counts['unread']} unread")
    before, now = (sum(_of(one.old, _rows) or 0 for one in tables), sum(_of(one.new, _rows) or 0 for one in tables))
    stored = [size(sum(_of(side, _stored) or 0 for side in sides)) for sides in zip(*map(_sides, tables), strict=True)]
    sums = f"; rows {before:,} to {now:,} ({_signed(now - before)})" + (
        f", size {' to '.join(stored)}" if stored else ""
    )
    return f"{plural(len(tables), 'table')}: {', '.join(parts)}{sums}"


def _sides(one: TableDifference) -> tuple[TableContent | None, TableContent | None]:
    return one.old, one.new


def _of(content: TableContent | None, fact: Callable[[TableContent], int]) -> int | None:
    return None if content is None else fact(content)


def _rows(content: TableContent) -> int:
    return content.rows


def _stored(content: TableContent) -> int:
    return content.stored_bytes


def _growth(old: TableContent | None, new: TableContent | None) -> int:
    return (0 if new is None else new.rows) - (0 if old is None else old.rows)


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "0"
