"""Landed data for the commands that read no source: the settings, the current snapshot, and the choice of tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from floodmark.backends import open_ledger
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import no_state, state_settings
from floodmark.config import Settings
from floodmark.errors import ConfigError, UsageError
from floodmark.events import Observer
from floodmark.model import TableEntry, TableName
from floodmark.reader.reader import Reader, Snapshot, Table, open_data
from floodmark.reader.reader import open as open_landed
from floodmark.source.selection import Pattern, pick_tables
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Manifest
from floodmark.state.run_ids import CURRENT, NO_SUCH_RUN, find_runs
from floodmark.wording import plural

_UNCOMMITTED = {"failed": "failed", "stopped": "was stopped"}


def landed_settings(options: argparse.Namespace, streams: CommandStreams) -> Settings:
    """Return the settings of a command that reads landed data. Raises ConfigError if runs keep no state."""
    settings = state_settings(options, streams)
    if settings.state_url is None:
        raise no_state()
    return settings


def landed_reader(settings: Settings, observer: Observer) -> Reader:
    """Return the reader of the state and its data."""
    destination = settings.destination.url if settings.destination.layout == "plain" else ""
    return open_landed(destination or None, state=settings.state_url, observer=observer)


def current_snapshot(settings: Settings, observer: Observer) -> Snapshot:
    """Return the current snapshot of the state."""
    return landed_reader(settings, observer).latest()


def landed_ledger(settings: Settings, observer: Observer) -> Ledger:
    """Return the state of a command that needs one. Raises ConfigError if runs keep no state."""
    ledger = open_ledger(settings, observer)
    if ledger is None:
        raise no_state()
    return ledger


def current_run(ledger: Ledger) -> Current:
    """Return the run that head names. Raises NoState before the first commit."""
    current = ledger.current()
    if current is None:
        raise ledger.no_commit()
    return current


def committed_runs(ledger: Ledger, names: Sequence[str]) -> list[Manifest]:
    """Return the manifests of the runs that the command line names.

    Raises UsageError for an unknown run, and for a run that committed nothing.
    """
    try:
        return find_runs(ledger.history(), names)
    except UsageError as error:
        ledger.require_begun()
        ends = [one for one in ledger.in_flight().known_ends.values() if one.outcome in _UNCOMMITTED]
        found = [one for one in ends if error.on is not None and one.run_id.startswith(error.on)]
        if error.why != NO_SUCH_RUN or len(found) != 1:
            raise
        why = f"it {_UNCOMMITTED[found[0].outcome]} with exit code {found[0].exit_code}"
        hint = "`floodmark history` shows how far it came."
        raise UsageError("this run committed nothing", on=found[0].run_id, why=why, hint=hint) from None


def chosen_snapshot(settings: Settings, observer: Observer, run: str | None) -> Snapshot:
    """Return the snapshot of a run that the command line names, or the current one.

    Raises UsageError for a run that history does not hold.
    """
    ledger = landed_ledger(settings, observer)
    named = run not in (None, CURRENT)
    manifest = committed_runs(ledger, [run or ""])[0] if named else current_run(ledger).manifest
    destination = settings.destination.url if settings.destination.layout == "plain" else ""
    return Snapshot(manifest, open_data(destination or manifest.destination, observer))


def included_tables(
    patterns: Sequence[str], manifest: Manifest, tables: Iterable[Table | TableEntry]
) -> frozenset[TableName]:
    """Return the tables that match any pattern. Raises ConfigError for a pattern that matches none."""
    names = [one.name if isinstance(one, Table) else one.table for one in tables]
    return frozenset(pick_tables(names, patterns, manifest.source.default_schema, "the snapshot"))


def named_table(pattern: str, manifest: Manifest) -> TableEntry:
    """Return the one entry that a table's name picks. Raises ConfigError, UsageError."""
    names = [entry.table for entry in manifest.tables]
    picked = pick_tables(names, [pattern], manifest.source.default_schema, "the snapshot", "TABLE")
    if len(picked) > 1:
        raise UsageError("this command shows one table", on=pattern, why=f"it matches {plural(len(picked), 'table')}")
    return next(entry for entry in manifest.tables if entry.table in picked)


def named_snapshot_table(pattern: str, snapshot: Snapshot) -> Table:
    """Return the one table with rows to read that a name picks. Raises ConfigError, UsageError."""
    entry = named_table(pattern, snapshot.manifest)
    found = [table for table in snapshot.tables if table.name == entry.table]
    if found:
        return found[0]
    what, run = "this table has no rows to read", snapshot.run_id
    if entry.status == "dropped":
        hint = "Its last rows are in an earlier run: name one that `floodmark history` lists, with --run."
        raise ConfigError(what, on=entry.table.label, why=f"it was dropped in run {run}", hint=hint)
    why = f"no run has read it up to run {run} ({entry.reason.code})"
    raise ConfigError(what, on=entry.table.label, why=why, hint="`floodmark show` tells the reason.")


def excluded_tables(patterns: Sequence[str], manifest: Manifest) -> Callable[[TableName], bool]:
    """Return a test for tables that match any pattern, even tables that are gone.

    Raises ConfigError as `included_tables` does.
    """
    default_schema = manifest.source.default_schema
    there = [entry.table for entry in manifest.tables if entry.status != "dropped"]
    pick_tables(there, patterns, default_schema, "the snapshot", "--exclude")
    fits = [Pattern(text, default_schema, "--exclude").matches for text in patterns]
    return lambda table: any(fit(table) for fit in fits)


def names_one(patterns: Sequence[str]) -> bool:
    """Return true for one full table name. The output's form must not depend on how many tables a wildcard matches."""
    return len(patterns) == 1 and Pattern(patterns[0], "public", "--table").table is not None
