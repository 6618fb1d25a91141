"""The state as text for people: the tables and how fresh they are, the runs, one manifest, one table of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from floodmark.cli.output.figures import both_times, count, local_minute, local_zone, seconds, size, utc_minute
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.render import folded_line, reason_text
from floodmark.cli.output.views import RunSummary, TableStatus, age
from floodmark.escaping import printable
from floodmark.model import TableEntry, TableName
from floodmark.state.manifest import Head, Manifest
from floodmark.wording import duration_text, plural

if TYPE_CHECKING:
    from rich.console import Console

_STATUS = (
    Column("table"),
    Column("status"),
    Column("as of", right=True),
    Column("rows", right=True, rank=1),
    Column("size", right=True, rank=2),
    Column("changed (UTC)", rank=3),
    Column("last decision", sentence=True),
)
_MANIFEST = (
    Column("table"),
    Column("status"),
    Column("rows", right=True, rank=1),
    Column("stored", right=True, rank=2),
    Column("raw", right=True, rank=4),
    Column("objects", right=True, rank=3),
    Column("as of (UTC)", rank=5),
    Column("changed by", rank=6),
    Column("sha256", rank=7),
    Column("reason", sentence=True),
)


def status_table(
    head: Head, tables: Sequence[TableStatus], now: datetime, to: Console, *, verbose: bool = False
) -> str:
    """Return the tables, how fresh they are, and the last decision about each. Unchanged tables are one line."""
    listed = [one for one in tables if verbose or one.status != "unchanged"]
    rows = [
        (
            TableName(one.schema, one.name).label,
            one.status,
            "never" if one.age_seconds is None else f"{duration_text(one.age_seconds)} ago",
            count(one.rows),
            size(one.stored_bytes),
            utc_minute(one.changed_at),
            reason_text(one.reason),
        )
        for one in listed
    ]
    ago = duration_text(age(head.committed_at, now))
    line = f"{plural(len(tables), 'table')} of {printable(head.database)}; run {head.run_id}, committed {ago} ago\n"
    return (draw(_STATUS, rows, to) if rows else "") + folded_line(len(tables) - len(listed)) + line


def history_table(runs: Sequence[RunSummary], to: Console) -> str:
    """Return one line per run. Below a run that did not commit, a line says how far it came and why it ended."""
    zone = local_zone(runs[0].started_at) if runs else None
    rows = [_history_row(one, local=zone is not None) for one in runs]
    lines = draw(_history_columns(zone), rows, to).splitlines()
    told = [line for run, line in zip(runs, lines[1:], strict=True) for line in (line, *_remarks(run, to))]
    return "".join(f"{line}\n" for line in (lines[0], *told))


def _history_columns(zone: str | None) -> tuple[Column, ...]:
    local = () if zone is None else (Column(f"ended ({zone})"),)
    return (
        Column("run"),
        Column("outcome"),
        Column("exit", right=True),
        *local,
        Column("ended (UTC)", rank=0 if zone is None else 3),
        Column("took", right=True),
        Column("changed", right=True, rank=1),
        Column("failed", right=True, rank=2),
        Column("dropped", right=True, rank=6),
        Column("written", right=True, rank=4),
        Column("stored", right=True, rank=5),
    )


def _history_row(one: RunSummary, *, local: bool) -> tuple[str, ...]:
    changed = "-" if one.tables is None else f"{count(one.extracted)} of {count(one.tables)}"
    return (
        one.run_id,
        one.outcome,
        count(one.exit_code),
        *((local_minute(one.finished_at),) if local else ()),
        utc_minute(one.finished_at),
        "-" if one.duration_seconds is None else seconds(one.duration_seconds),
        changed,
        count(one.failed),
        count(one.dropped),
        size(one.written_bytes),
        size(one.stored_bytes),
    )


def _remarks(one: RunSummary, to: Console) -> Iterable[str]:
    """Return how far a run came that did not commit, and why it ended, in lines that fit."""
    texts = []
    if one.chunks is not None and one.chunks_done is not None and one.chunks:
        texts.append(f"{one.chunks_done:,} of {plural(one.chunks, 'chunk')} extracted")
    if one.outcome == "unfinished":
        texts.append(f"it began {both_times(one.started_at)}, and is at work or was killed")
    if one.error is not None:
        texts.append(one.error)
    if not texts:
        return ()
    return wrap(printable("; ".join(texts)), to, margin=4).splitlines()


def manifest_table(manifest: Manifest, to: Console, *, verbose: bool = False) -> str:
    """Return one manifest with its facts about each table.

    Unchanged tables are one line, and so are those that the run left out, unless they failed.
    """
    listed = [entry for entry in manifest.tables if verbose or not _folds(entry)]
    rows = [
        (
            entry.table.label,
            entry.status,
            count(entry.rows),
            size(entry.stored_bytes),
            size(entry.raw_bytes),
            str(len(entry.objects)),
            utc_minute(entry.as_of),
            entry.changed_by or "-",
            _short_checksum(entry),
            reason_text(entry.reason),
        )
        for entry in listed
    ]
    folded = [entry for entry in manifest.tables if entry not in listed]
    left_out = sum(entry.carried_over is True for entry in folded)
    lines = folded_line(len(folded) - left_out)
    lines += f"{plural(left_out, 'table')} left out by this run; --verbose lists them\n" if left_out else ""
    return _facts(_manifest_facts(manifest)) + "\n" + (draw(_MANIFEST, rows, to) if rows else "") + lines


def _folds(entry: TableEntry) -> bool:
    return entry.status == "unchanged" or (entry.carried_over is True and entry.status != "failed")


def table_facts(manifest: Manifest, entry: TableEntry) -> str:
    """Return all facts about one table of a manifest, one below the other."""
    left_out = "; this run left the table out, and the entry is an earlier run's"
    facts = [
        ("table", entry.table.label),
        ("run", manifest.run_id),
        ("status", f"{entry.status}{left_out if entry.carried_over is True else ''}"),
        ("reason", reason_text(entry.reason)),
        ("as of", "never" if entry.as_of is None else both_times(entry.as_of)),
        ("changed", "-" if entry.changed_at is None else f"{both_times(entry.changed_at)}, by {entry.changed_by}"),
        ("rows", count(entry.rows)),
        ("size", f"{size(entry.raw_bytes)} of lines, {size(entry.stored_bytes)} stored"),
        ("time", seconds(entry.duration_seconds)),
        ("checksum", entry.checksum or "-"),
    ]
    if entry.encoding is not None:
        facts.append(("encoding", entry.encoding.digest))
    if entry.watermark is not None:
        facts.append(("chunks", f"{len(entry.watermark.chunks):,}"))
    if entry.primary_key is not UNSET:
        facts.append(("primary key", ", ".join(entry.primary_key)))
    if entry.comment is not UNSET:
        facts.append(("comment", entry.comment))
    return _facts(facts) + _columns_of(entry) + _objects_of(entry)


def _columns_of(entry: TableEntry) -> str:
    lines = [
        f"  {one.name} {one.type}{'' if one.nullable else ' not null'}{_comment(one.comment)}" for one in entry.columns
    ]
    return "".join(f"{printable(line)}\n" for line in (f"columns:     {len(lines)}", *lines))


def _comment(text: str | UnsetType) -> str:
    return "" if text is UNSET else f" -- {text}"


def _objects_of(entry: TableEntry) -> str:
    lines = [
        f"  {one.key}\n    {plural(one.rows, 'row')}, {size(one.stored_bytes)}, {one.origin}" for one in entry.objects
    ]
    head = f"objects:     {len(lines)}"
    return "".join(f"{printable(line)}\n" for text in (head, *lines) for line in text.split("\n"))


def _manifest_facts(manifest: Manifest) -> list[tuple[str, str]]:
    source = manifest.source
    shared = "" if manifest.consistent else ", not shared by all tables"
    return [
        ("run", f"{manifest.run_id}, by floodmark {manifest.tool_version}"),
        ("parent", manifest.parent or "none"),
        ("began", both_times(manifest.started_at)),
        ("ended", both_times(manifest.finished_at)),
        ("source", f"{source.dialect} {source.server_version}, database {source.database}"),
        ("snapshot", f"{both_times(source.snapshot.taken_at)}{shared}"),
        ("destination", f"{manifest.destination} ({manifest.layout})"),
    ]


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{name + ':':<13}{printable(text)}\n" for name, text in facts)


def _short_checksum(entry: TableEntry) -> str:
    return (entry.checksum or "-").removeprefix("sha256:")[:12]
