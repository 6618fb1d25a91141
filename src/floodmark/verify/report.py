"""What a verification found, and how to mend it."""

from __future__ import annotations

import shlex
from typing import Literal

from msgspec import Struct

from floodmark.model import TableName
from floodmark.source.selection import spelled

Code = Literal[
    "missing", "denied", "wrong_size", "wrong_checksum", "wrong_content", "inconsistent", "differs_from_source"
]
Level = Literal["manifest", "objects", "content"]


class Fault(Struct, frozen=True):
    """What is wrong with one object, before it is known which tables name it."""

    code: Code
    detail: str


class Problem(Struct, frozen=True):
    """What is wrong with a table. `key` is the object's, None where it is the manifest's own entry."""

    code: Code
    key: str | None
    detail: str


class SourceReport(Struct, frozen=True):
    """How a table's chunks compare with the database now, in numbers of chunks.

    `same` gave the same lines again. `changed` ones hold other rows by now, or can't be proven not to: no verdict.
    `wrong` ones are proven to be as they were, and give other lines than were recorded. `unread` could not be
    read, for the reason in `why`.
    """

    same: int = 0
    changed: int = 0
    wrong: int = 0
    unread: int = 0
    why: str | None = None


class TableReport(Struct, frozen=True, kw_only=True):
    """A table that was verified. One without a snapshot (never read) has nothing that could be wrong."""

    schema: str
    name: str
    has_snapshot: bool
    objects: int
    stored_bytes: int
    problems: tuple[Problem, ...] = ()
    source: SourceReport | None = None

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class Report(Struct, frozen=True, kw_only=True):
    """What was verified: a run's manifest and, up to `level`, what it names. `manifests` were read in history."""

    run_id: str
    level: Level
    manifests: int
    tables: tuple[TableReport, ...]
    duration_seconds: float

    @property
    def wrong(self) -> tuple[TableReport, ...]:
        return tuple(table for table in self.tables if table.problems)

    @property
    def mend(self) -> tuple[str, ...]:
        """The commands that write what is wrong anew."""
        return tuple(full_run(table.table) for table in self.wrong)


def full_run(table: TableName) -> str:
    """The command that extracts a table anew, whatever is proven."""
    return f"floodmark run --table {shlex.quote(spelled(table))} --full"
