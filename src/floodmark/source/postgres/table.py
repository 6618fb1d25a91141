"""A PostgreSQL table as the catalog showed it, with everything that a read needs."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from floodmark.model import TableInfo
from floodmark.source.postgres.identity import ExpectedReads


class PgTable(Struct, frozen=True):
    """A table to read. `columns_sql` are items `expression AS "name"`, in column order, valid on every part.

    `where` is the user's row filter, an SQL condition, or None. `raw_newlines` says that a line can hold newlines (a
    `json` value keeps them), which have to be replaced. `reads` gives, by a part's id, the relations that a statement
    about that part must lock.
    """

    info: TableInfo
    columns_sql: tuple[str, ...]
    where: str | None
    raw_newlines: bool
    reads: Mapping[str, ExpectedReads]
