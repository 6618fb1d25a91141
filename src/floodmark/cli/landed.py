"""Landed data for the commands that read no source: the settings, the current snapshot, and the choice of tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import no_state, state_settings
from floodmark.config import Settings
from floodmark.errors import UsageError
from floodmark.events import Observer
from floodmark.model import TableEntry, TableName
from floodmark.reader.reader import Snapshot, Table
from floodmark.reader.reader import open as open_landed
from floodmark.source.selection import Pattern, pick_tables
from floodmark.state.manifest import Manifest
from floodmark.wording import plural


def landed_settings(options: argparse.Namespace, streams: CommandStreams) -> Settings:
    """Return the settings of a command that reads landed data. Raises ConfigError if runs keep no state."""
    settings = state_settings(options, streams)
    if settings.state_url is None:
        raise no_state()
    return settings


def current_snapshot(settings: Settings, observer: Observer) -> Snapshot:
    """Return the current snapshot of the state."""
    destination = settings.destination.url if settings.destination.layout == "plain" else ""
    return open_landed(destination or None, state=settings.state_url, observer=observer).latest()


def included_tables(
    patterns: Sequence[str], manifest: Manifest, tables: Iterable[Table | TableEntry]
) -> frozenset[TableName]:
    """Return the tables that match any pattern. Raises ConfigError for a pattern that matches none."""
    names = [one.name if isinstance(one, Table) else one.table for one in tables]
    return frozenset(pick_tables(names, patterns, manifest.source.default_schema, "the snapshot"))


def named_table(pattern: str, manifest: Manifest) -> TableEntry:
    """Return the one entry that a table's name picks. Raises ConfigError, UsageError."""
    picked = included_tables([pattern], manifest, manifest.tables)
    if len(picked) > 1:
        raise UsageError("this command shows one table", on=pattern, why=f"it matches {plural(len(picked), 'table')}")
    return next(entry for entry in manifest.tables if entry.table in picked)


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
