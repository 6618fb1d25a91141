"""The results of `run` and `plan` as text for people: changed tables with the reason, the others in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from floodmark.cli.output.figures import count, seconds, size
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.views import ChunkCounts, chunk_counts, has_work, statuses
from floodmark.escaping import printable
from floodmark.model import ContractDrift, Reason, TableEntry, TableName
from floodmark.pipeline.job import PlannedTable
from floodmark.pipeline.publish import RunResult
from floodmark.source.selection import LeftOut
from floodmark.state.manifest import Manifest
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_RUN = (
    Column("table"),
    Column("status"),
    Column("rows", right=True, rank=1),
    Column("size", right=True, rank=3),
    Column("chunks", right=True, rank=4),
    Column("time", right=True, rank=2),
    Column("reason", sentence=True),
)
_PLAN = (
    Column("table"),
    Column("chunks", right=True, rank=2),
    Column("to read", right=True, rank=1),
    Column("reason", sentence=True),
)
_CONTRACT = (Column("contract"), Column("action", rank=1), Column("difference", sentence=True))


def run_table(manifest: Manifest, told: Mapping[TableName, ChunkCounts], to: Console, *, verbose: bool = False) -> str:
    """Return a table of what a run did with each table that it worked on, and why. Unchanged tables are one line."""
    listed = [entry for entry in manifest.attempted if verbose or entry.status != "unchanged"]
    folded = len(manifest.attempted) - len(listed)
    return (draw(_RUN, [_run_row(entry, told) for entry in listed], to) if listed else "") + folded_line(folded)


def problems(manifest: Manifest, to: Console) -> str:
    """Return a table of what a run failed to read, and why. It is empty without a problem."""
    rows = [
        (one.table.label, one.status, reason_text(one.reason)) for one in manifest.attempted if one.status == "failed"
    ]
    return draw((Column("table"), Column("status"), Column("reason", sentence=True)), rows, to) if rows else ""


def _run_row(entry: TableEntry, told: Mapping[TableName, ChunkCounts]) -> tuple[str, ...]:
    chunks = chunk_counts(entry, told)
    return (
        entry.table.label,
        entry.status,
        count(entry.rows),
        size(entry.stored_bytes),
        f"{chunks.read}/{chunks.total}",
        seconds(entry.duration_seconds),
        reason_text(entry.reason),
    )


def run_line(result: RunResult, where: str, to: Console) -> str:
    """Return one line that sums up a run. It counts the tables that the run left out, or came too late for."""
    manifest, counts = result.manifest, statuses(result.manifest)
    parts = [f"{counts['unchanged']} unchanged", f"{counts['extracted']} extracted", f"{counts['failed']} failed"]
    if counts["dropped"]:
        parts.append(f"{counts['dropped']} dropped")
    done = f"{plural(len(manifest.attempted), 'table')}: {', '.join(parts)}"
    left_out = len(manifest.tables) - len(manifest.attempted) - result.overtaken
    if left_out > 0:
        done += f" ({plural(left_out, 'other table')} left out)"
    if result.overtaken:
        done += (
            f"; {plural(result.overtaken, 'table')} stay as another run committed them meanwhile, from a later snapshot"
        )
    done += f"; {size(result.uploaded_bytes)} uploaded in {seconds(result.duration_seconds)}"
    return wrap(done, to) + f"{printable(where)}\n"


def plan_table(tables: Sequence[PlannedTable], to: Console, *, verbose: bool = False) -> str:
    """Return a table of what a run would do with each table, and why. Unchanged tables are one line."""
    listed = [one for one in tables if verbose or has_work(one)]
    rows = [
        (
            one.table.label,
            f"{one.to_extract}/{one.chunks}",
            size(one.estimated_bytes) if one.estimated_bytes else "-",
            reason_text(one.reason),
        )
        for one in listed
    ]
    work = sum(map(has_work, tables))
    chunks = f"{count(sum(one.to_extract for one in tables))} of {plural(sum(one.chunks for one in tables), 'chunk')}"
    estimate = sum(one.estimated_bytes for one in tables)
    about = f", about {size(estimate)} to read" if estimate else ""  # not every source knows it
    line = f"{work} of {plural(len(tables), 'table')} to work on; {chunks}{about}\n"
    return (draw(_PLAN, rows, to) if rows else "") + folded_line(len(tables) - len(listed)) + line


def reason_text(reason: Reason) -> str:
    return f"{reason.code}: {reason.detail}"


def left_out_lines(relations: Iterable[LeftOut], to: Console) -> str:
    """Return how many relations of each kind are left out by default, and how to land them."""
    counts = Counter(one.kind for one in relations)
    if not counts:
        return ""
    kinds = ", ".join(plural(number, kind) for kind, number in sorted(counts.items()))
    return wrap(f"Left out by default: {kinds}. To land one, name it in full in tables.include.", to)


def contract_lines(drift: Sequence[ContractDrift], to: Console) -> str:
    """Return a table of what differs from the contract, or an empty text."""
    rows = [(one.label, one.action, f"{one.kind}: {one.detail}") for one in drift]
    return f"{draw(_CONTRACT, rows, to)}\n" if rows else ""


def drift_of(manifest: Manifest) -> tuple[ContractDrift, ...]:
    """Return what differed from the contract in a run, if one was in force."""
    return () if manifest.contract is UNSET else manifest.contract.drift


def folded_line(number: int) -> str:
    """Return the line that replaces the unchanged tables."""
    return f"{plural(number, 'table')} unchanged; --verbose lists them\n" if number else ""
