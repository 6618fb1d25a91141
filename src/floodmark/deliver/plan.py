"""The plan of a delivery: the tables to send and their timestamps. It makes no request. `deliver` sends the tables.

A table is sent if the cursor does not record its current content for this receiver, or if it is due again. If an
earlier attempt began to send a table and the table has not changed, it keeps that attempt's timestamp. Any other table
gets a timestamp later than all that were ever used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.errors import ConfigError
from floodmark.layout import timestamp_moment, timestamp_text
from floodmark.model import TableName
from floodmark.reader.changes import compare_snapshots
from floodmark.reader.cursor import StoredCursor
from floodmark.reader.reader import Snapshot, Table
from floodmark.state.consumers import Delivery, TakenTable


class Plan(Struct, frozen=True):
    """The tables to send, and the cursor's next content.

    `kept` is what the cursor still records as delivered. `sending` is what will be sent, with timestamps. `sending`
    also includes tables that an earlier delivery did not finish and this one does not cover; a later delivery sends
    them.
    """

    stale: tuple[Table, ...]
    unchanged: tuple[Table, ...]
    gone: tuple[TableName, ...]
    kept: tuple[TakenTable, ...]
    sending: tuple[TakenTable, ...]

    @property
    def moves(self) -> bool:
        """Return true if the cursor must change."""
        return bool(self.stale or self.gone)


def planned(
    snapshot: Snapshot,
    cursor: StoredCursor,
    form: str,
    resend_after_days: int | None,
    only: Collection[TableName] | None,
) -> Plan:
    """Plan what to send in this form. `only` limits the plan to these tables."""
    before = _delivery(cursor)
    taken = cursor.taken if before is None or before.form == form else ()
    found = compare_snapshots([(table, table.taken) for table in snapshot.tables], taken, snapshot.unread)
    marks = {name_of(mark): mark for mark in taken}
    due = [table for table in found.unchanged if _is_due(marks[table.name], resend_after_days)]
    stale = [*(one.table for one in found.changed), *due]
    if only is not None:
        stale = [table for table in stale if table.name in only]
    gone = found.gone if only is None else ()
    sent_again = {table.name for table in stale}
    sending = _sending(stale, cursor, form)
    if only is not None:
        sending += tuple(mark for mark in _unfinished(cursor, form) if name_of(mark) not in sent_again)
    return Plan(
        stale=tuple(sorted(stale, key=lambda table: table.name)),
        unchanged=tuple(table for table in found.unchanged if table.name not in sent_again),
        gone=gone,
        kept=tuple(mark for mark in taken if name_of(mark) not in {*sent_again, *gone}),
        sending=sending,
    )


def require_same_target(cursor: StoredCursor, name: str, url: str) -> None:
    """Refuse a cursor of another target, because this target would then get nothing. Raises ConfigError."""
    if cursor.cursor is None:
        return
    before = _delivery(cursor)
    if before is None or before.url != url:
        is_of = "a consumer's" if before is None else f"of the delivery to {before.url}"
        raise ConfigError(
            "this name is taken",
            on=name,
            why=f"the cursor of that name is {is_of}",
            hint="Give this delivery a name of its own; to start again, delete that cursor from the state.",
        )


def name_of(mark: TakenTable) -> TableName:
    return TableName(mark.schema, mark.name)


def _sending(stale: Iterable[Table], cursor: StoredCursor, form: str) -> tuple[TakenTable, ...]:
    """Return the tables to send, each with its timestamp: an earlier attempt's, or one later than all used ones."""
    before = _delivery(cursor)
    again = {name_of(mark): mark for mark in _unfinished(cursor, form)}
    fresh = _later_than([*cursor.taken, *(() if before is None else before.sending)])
    marks = []
    for table in stale:
        old, mark = again.get(table.name), table.taken
        same = old is not None and (old.checksum, old.shape) == (mark.checksum, mark.shape)
        marks.append(replace(mark, timestamp=old.timestamp if same and old is not None else fresh))
    return tuple(marks)


def _unfinished(cursor: StoredCursor, form: str) -> tuple[TakenTable, ...]:
    """Return what an earlier attempt began to send in this form. The receiver can have a part of it."""
    before = _delivery(cursor)
    return before.sending if before is not None and before.form == form else ()


def _later_than(known: Iterable[TakenTable]) -> str:
    """Return the current time, or one second after the last known timestamp, whichever is later."""
    used = max((mark.timestamp for mark in known if mark.timestamp is not UNSET), default=None)
    moment = datetime.now(UTC)
    if used is not None:
        moment = max(moment, timestamp_moment(used) + timedelta(seconds=1))
    return timestamp_text(moment)


def _is_due(mark: TakenTable, days: int | None) -> bool:
    """Return true if the table is due again, because the receiver can have lost it."""
    if days is None or not isinstance(mark.timestamp, str):
        return False
    return timestamp_moment(mark.timestamp) < datetime.now(UTC) - timedelta(days=days)


def _delivery(cursor: StoredCursor) -> Delivery | None:
    found = None if cursor.cursor is None else cursor.cursor.delivery
    return found if isinstance(found, Delivery) else None
