"""The result of a verification, and the commands that fix its faults."""

from __future__ import annotations

import shlex
from typing import Literal

from msgspec import Struct

from floodmark.model import TableName
from floodmark.objects.stored import FaultCode
from floodmark.source.selection import exact_pattern

Code = FaultCode | Literal["inconsistent", "differs_from_source"]
Level = Literal["manifest", "objects", "content"]


class TableProblem(Struct, frozen=True):
    """A table's fault. `key` is the object's key, or None if the manifest's own entry is at fault."""

    code: Code
    key: str | None
    detail: str


class SourceReport(Struct, frozen=True):
    """The comparison of a table's chunks with the current database, in numbers of chunks.

    `same` chunks gave the same lines again. `changed` chunks hold other rows now, or can't be proven unchanged: no
    verdict. `wrong` chunks are proven unchanged, but give other lines than were recorded. `unread` chunks could not be
    read, for the reason in `why`.
    """

    same: int = 0
    changed: int = 0
    wrong: int = 0
    unread: int = 0
    why: str | None = None


class TableReport(Struct, frozen=True, kw_only=True):
    """A table that was verified. A table without a snapshot (never read) can't have a fault."""

    schema: str
    name: str
    has_snapshot: bool
    objects: int
    stored_bytes: int
    problems: tuple[TableProblem, ...] = ()
    source: SourceReport | None = None

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class VerifyReport(Struct, frozen=True, kw_only=True):
    """The verified parts: a run's manifest and, up to `level`, what it names.

    `manifests` is the number of manifests that were read in history.
    """

    run_id: str
    level: Level
    manifests: int
    tables: tuple[TableReport, ...]
    duration_seconds: float

    @property
    def faulty_tables(self) -> tuple[TableReport, ...]:
        return tuple(table for table in self.tables if table.problems)

    @property
    def repair_commands(self) -> tuple[str, ...]:
        """Return the commands that write the faulty parts again."""
        return tuple(full_run(table.table) for table in self.faulty_tables)


def full_run(table: TableName) -> str:
    """Return the command that extracts a table again, whatever is proven."""
    return f"floodmark run --table {shlex.quote(exact_pattern(table))} --full"
