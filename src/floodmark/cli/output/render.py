"""Views as text: tables for people, without markup, and without control codes unless they go to a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from floodmark.cli.output.escaping import printable
from floodmark.cli.output.views import ChunkCounts, RunSummary, TableStatus, age, chunk_counts, has_work, statuses
from floodmark.model import TableEntry, TableName
from floodmark.pipeline.job import PlannedTable
from floodmark.state.manifest import Head, Manifest
from floodmark.wording import duration_text, plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Sequence[str]
_STYLES = {"extracted": "green", "failed": "bold red", "dropped": "yellow", "unchanged": "dim"}
_WIDE = 10_000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def run_table(manifest: Manifest, told: Mapping[TableName, ChunkCounts], to: Console) -> str:
    """Return a table of what a run did with each table, and why the failed ones failed."""
    rows = []
    for entry in manifest.tables:
        chunks = chunk_counts(entry, told)
        rows.append(
            (
                entry.table.label,
                entry.status,
                entry.reason.code,
                count(entry.rows),
                size(entry.stored_bytes),
                f"{chunks.read}/{chunks.total}",
                seconds(entry.duration_seconds),
            )
        )
    heads = ("table", "status", "reason", ">rows", ">size", ">chunks", ">time")
    return table(heads, rows, to) + _failures(manifest.tables)


def run_line(manifest: Manifest, uploaded_bytes: int, duration: float, where: str) -> str:
    """Return one line that sums up a run."""
    counts = statuses(manifest)
    parts = [f"{counts['unchanged']} unchanged", f"{counts['extracted']} extracted", f"{counts['failed']} failed"]
    if counts["dropped"]:
        parts.append(f"{counts['dropped']} dropped")
    done = f"{plural(len(manifest.tables), 'table')}: {', '.join(parts)}"
    return f"{done}; {size(uploaded_bytes)} uploaded in {seconds(duration)}; {printable(where)}\n"


def plan_table(tables: Sequence[PlannedTable], to: Console) -> str:
    """Return a table of what a run would do with each table, and why."""
    rows = [
        (
            one.table.label,
            one.reason.code,
            f"{one.to_extract}/{one.chunks}",
            size(one.estimated_bytes) if one.estimated_bytes else "-",
            one.reason.detail,
        )
        for one in tables
    ]
    work = sum(map(has_work, tables))
    chunks = f"{sum(one.to_extract for one in tables)} of {plural(sum(one.chunks for one in tables), 'chunk')}"
    estimate = sum(one.estimated_bytes for one in tables)
    about = f", about {size(estimate)} to read" if estimate else ""  # not every source knows it
    line = f"{work} of {plural(len(tables), 'table')} to work on; {chunks}{about}\n"
    return table(("table", "reason", ">chunks", ">to read", "why"), rows, to) + line


def status_table(head: Head, tables: Sequence[TableStatus], now: datetime, to: Console) -> str:
    """Return every table, how fresh it is, and the last decision about it."""
    rows = [
        (
            TableName(one.schema, one.name).label,
            count(one.rows),
            size(one.stored_bytes),
            "never" if one.age_seconds is None else f"{duration_text(one.age_seconds)} ago",
            f"{one.status} ({one.reason.code})",
            one.changed_at or "-",
        )
        for one in tables
    ]
    ago = duration_text(age(head.committed_at, now))
    line = f"{plural(len(tables), 'table')} of {printable(head.database)}; run {head.run_id}, committed {ago} ago\n"
    return table(("table", ">rows", ">size", ">as of", "last decision", "changed at"), rows, to) + line


def history_table(runs: Iterable[RunSummary], to: Console) -> str:
    """Return one line per run."""
    heads = ("run", "finished", ">tables", ">extracted", ">unchanged", ">failed", ">dropped", ">written", ">stored")
    rows = [
        (
            one.run_id,
            one.finished_at,
            *(count(number) for number in (one.tables, one.extracted, one.unchanged, one.failed, one.dropped)),
            size(one.written_bytes),
            size(one.stored_bytes),
        )
        for one in runs
    ]
    return table(heads, rows, to)


def manifest_table(manifest: Manifest, to: Console) -> str:
    """Return one manifest with its facts about each table."""
    rows = [
        (
            entry.table.label,
            entry.status,
            f"{entry.reason.code}: {entry.reason.detail}",
            count(entry.rows),
            size(entry.raw_bytes),
            size(entry.stored_bytes),
            str(len(entry.objects)),
            entry.as_of or "-",
            entry.changed_by or "-",
            (entry.checksum or "-").removeprefix("sha256:")[:12],
        )
        for entry in manifest.tables
    ]
    heads = ("table", "status", "reason", ">rows", ">raw", ">stored", ">objects", "as of", "changed by", "sha256")
    return _facts(manifest) + "\n" + table(heads, rows, to)


def table(heads: Row, rows: Iterable[Row], to: Console) -> str:
    """Return columns of text as wide as needed. A head that begins with `>` aligns its column to the right."""
    from rich.table import Table  # noqa: PLC0415 - by need: JSON is written without rich
    from rich.text import Text  # noqa: PLC0415 - by need

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        if head.startswith(">"):
            grid.add_column(head[1:], justify="right", no_wrap=True)
        else:
            grid.add_column(head, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    return _drawn(grid, to)


def count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def size(number: int | None) -> str:
    """Format bytes for people: three significant digits, units of a thousand."""
    if number is None:
        return "-"
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1
    return f"{value:.{digits}f} {_UNITS[unit]}"


def seconds(number: float) -> str:
    return f"{number:.1f} s" if number < 100 else duration_text(int(number))


def _facts(manifest: Manifest) -> str:
    source = manifest.source
    facts = (
        ("run", f"{manifest.run_id}, by floodmark {manifest.tool_version}"),
        ("parent", manifest.parent or "none"),
        ("time", f"{manifest.started_at} to {manifest.finished_at}"),
        ("source", f"{source.dialect} {source.server_version}, database {source.database}"),
        ("snapshot", f"{source.snapshot.taken_at}{'' if manifest.consistent else ', not shared by all tables'}"),
        ("destination", f"{manifest.destination} ({manifest.layout})"),
    )
    return "".join(f"{name + ':':<13}{printable(text)}\n" for name, text in facts)


def _failures(entries: Iterable[TableEntry]) -> str:
    failed = [entry for entry in entries if entry.status == "failed"]
    return "".join(f"failed: {printable(f'{one.table.label}: {one.reason.detail}')}\n" for one in failed)


def _drawn(grid: Table, to: Console) -> str:
    """Return the grid as `to` would print it. Without a terminal it has no control codes.

    No word is broken: on a narrow terminal the lines are longer than its width, so that a run's id can be copied.
    """
    from rich.console import Console  # noqa: PLC0415 - by need

    needed = to.measure(grid, options=to.options.update(width=_WIDE)).minimum
    drawing = Console(
        file=io.StringIO(),
        width=max(to.width, needed),
        force_terminal=to.is_terminal,
        color_system=to.color_system,  # type: ignore[arg-type]
        no_color=to.no_color,
        legacy_windows=False,
    )
    with drawing.capture() as capture:
        drawing.print(grid)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
