"""The guards against silent success: does this run lose more than the user allows? Pure.

A loss must be larger than the guard's percentage. So with the default of 50%, one of two tables can be gone, and two of
three can't. Tables count only if they belong to this run, so not those that --table or --exclude leaves out. The rows
are those of the whole database: a table that was left out or could not be read keeps those of its last snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from floodmark.config import Guards
from floodmark.errors import LossRefused
from floodmark.model import Reason, TableName
from floodmark.pipeline.plans import ChunkPlan, TablePlan
from floodmark.wording import plural

# A database with fewer rows can lose all of them: on some nights a small queue is empty.
FEWEST_ROWS = 100
_SHOWN = 10
_WHAT = "this run would lose too much, so it commits nothing"
_HINT = (
    "Check that the source is the right database, and that nothing was lost in it. To accept it once: --accept-loss."
)
_NO_TABLE = (
    "Check that the source is the right database, that it has tables, and tables.include and tables.exclude. "
    "To accept it once: --accept-loss."
)


class Gone(Struct, frozen=True):
    """A table of the last manifest that is no table of its own any more: the reason, and if a partition has its name.

    The source still has the rows of a table that was attached to another one.
    """

    why: str
    attached: bool = False

    @property
    def reason(self) -> Reason:
        return Reason("attached" if self.attached else "dropped", self.why)


def refused_tables(
    guards: Guards,
    selected: Collection[TableName],
    gone: Mapping[TableName, Gone],
    known: Collection[TableName] | None,
) -> LossRefused | None:
    """Return the refusal of a run because of its tables, or None. No row needs to be read for it.

    `known` are the tables of the last manifest that belong to this run, and `gone` those of them that the source no
    longer has as tables. A first run, and one without state, knows none: then `known` is None. A database that has no
    table is refused each time, also after its state was once accepted.
    """
    if not known:
        return None if selected or guards.first_run_empty == "accept" else _no_table_at_all()
    # Without any selected table, the manifest would also lose those that the source still has.
    lost = sorted((name for name, one in gone.items() if not one.attached) if selected else known)
    attached = sum(one.attached for one in gone.values()) if selected else 0
    number = len(lost) + attached + len(set(known) & set(selected))
    if not _exceeds(len(lost), number, guards.tables_gone):
        return None
    what = "are gone from the source" if selected else "would be dropped, because no table is selected"
    return LossRefused(
        _WHAT,
        on=f"{len(lost)} of {plural(number, 'table')} {what} (guards.tables_gone: {guards.tables_gone}%)",
        why=_listed(table.label for table in lost),
        hint=_HINT if selected else _NO_TABLE,
    )


def refused_rows(guards: Guards, before: Mapping[TableName, int], after: Mapping[TableName, int]) -> LossRefused | None:
    """Return the refusal of a run because of its rows, or None.

    `before` are the rows of the last manifest, by the tables that the new one has an entry for. `after` are the rows of
    the new one, without the tables that are gone. New tables count there too, so that renamed tables are no loss.
    """
    rows, lost = sum(before.values()), sum(before.values()) - sum(after.values())
    if rows < FEWEST_ROWS or not _exceeds(lost, rows, guards.rows_removed):
        return None
    losses = {table: number - after.get(table, 0) for table, number in before.items()}
    most = sorted((table for table, number in losses.items() if number > 0), key=lambda table: (-losses[table], table))
    return LossRefused(
        _WHAT,
        on=f"{lost:,} of {plural(rows, 'row')} are gone (guards.rows_removed: {guards.rows_removed}%)",
        why=_listed(f"{table.label} ({before[table]:,} to {after.get(table, 0):,})" for table in most),
        hint=_HINT,
    )


def rows_if_known(plan: TablePlan) -> int | None:
    """Return the number of a table's rows if it is known before anything is extracted, else None."""
    rows = [_chunk_rows(chunk) for chunk in plan.chunks]
    return None if None in rows else sum(number for number in rows if number is not None)


def _chunk_rows(chunk: ChunkPlan) -> int | None:
    if chunk.proven is not None:
        known = chunk.remembered.object if chunk.remembered is not None else None
        return 0 if known is None else known.rows
    part = chunk.part
    return 0 if part.by_block and part.measured and not part.heap_blocks else None


def _no_table_at_all() -> LossRefused:
    why = "no table is selected (guards.first_run_empty: fail)"
    return LossRefused("there is nothing to extract, so this run begins nothing", why=why, hint=_NO_TABLE)


def _exceeds(lost: int, number: int, limit: int | None) -> bool:
    return limit is not None and lost * 100 > limit * number


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
