"""The source's comments on loaded tables and columns. A target that keeps them brings them up to date without rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import UNSET

from floodmark.errors import FloodmarkError
from floodmark.events import Warned
from floodmark.load.target import LoadTarget, LoadWatch, StagedTable
from floodmark.reader.reader import Table


@runtime_checkable
class CommentedTarget(Protocol):
    """A target that keeps comments. Comments are part of no shape: a new one loads no table again."""

    def outdated_comments(self, tables: Sequence[StagedTable]) -> Sequence[StagedTable]:
        """Return those of these loaded tables whose comments differ from the snapshot's. Writes nothing."""
        ...

    def write_comments(self, staged: StagedTable) -> None:
        """Write the comments of one loaded table, after `prepare`. Raises FloodmarkError."""
        ...


def outdated_comments(target: LoadTarget, tables: Sequence[StagedTable]) -> Sequence[StagedTable]:
    """Return the loaded tables whose comments the target does not have."""
    return target.outdated_comments(tables) if isinstance(target, CommentedTarget) and tables else ()


def write_comments(target: LoadTarget, tables: Sequence[StagedTable], watch: LoadWatch) -> None:
    """Write the comments of loaded tables. If that fails, the load goes on: the rows are as they should be."""
    if not isinstance(target, CommentedTarget):
        return
    for one in tables:
        try:
            target.write_comments(one)
        except FloodmarkError as error:
            watch.observer(Warned(f"{one.table.label} keeps its old comments: {error.sentence}"))


def table_comment(table: Table) -> str:
    """Return the source's comment on a table, or an empty text."""
    return "" if table.entry.comment is UNSET else table.entry.comment


def column_comments(table: Table) -> tuple[str, ...]:
    """Return the source's comment on each column, or an empty text."""
    return tuple("" if column.comment is UNSET else column.comment for column in table.columns)


def comments_digest(table: Table) -> str:
    """Return a digest (hex) of all comments of a table, or an empty text if it has none."""
    facts = (table_comment(table), column_comments(table))
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest() if any((facts[0], *facts[1])) else ""
