"""Table choice by `--table` and `--exclude` from a manifest, for the commands that read no source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from floodmark.model import TableEntry, TableName
from floodmark.reader.reader import Table
from floodmark.source.selection import Pattern, pick_tables
from floodmark.state.manifest import Manifest


def included_tables(
    patterns: Sequence[str], manifest: Manifest, tables: Iterable[Table | TableEntry]
) -> frozenset[TableName]:
    """Return the tables that match any pattern. Raises ConfigError for a pattern that matches none."""
    names = [one.name if isinstance(one, Table) else one.table for one in tables]
    return frozenset(pick_tables(names, patterns, manifest.source.default_schema, "the snapshot"))


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
