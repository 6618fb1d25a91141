"""What the receiver of a landing zone may hold of a table that no manifest tells of: perhaps half of it.

Nothing that was put there can be looked at, or taken back. So before the first put the state is told which tables
will be sent and under which timestamp, and that stays there until a run has committed the table. Whoever dies, fails
or loses its snapshot in between: the table is sent again, whole and under a later timestamp, even where it is by then
again what was committed before, and nothing else would show that the receiver has something newer and worse. Only a
run that sent all of a table, and then proves each chunk that it sent in its next snapshot, does not send it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from floodmark.model import TableName
from floodmark.state.manifest import Begun, Manifest
from floodmark.state.rebase import sent_under

Begin = Callable[[Collection[Begun]], None]
Since = Literal["nothing", "whole", "half"]


class Sent:
    """What runs before this one had begun to send, and this one has. Without `begin` it serves this run alone."""

    def __init__(self, before: Collection[Begun], begin: Begin | None) -> None:
        self._begin = begin
        self._begun = list(before)
        self._own: list[Begun] = []
        self._unsent: set[Begun] = set()
        self._since: dict[TableName, Since] = {one.table: "half" for one in before}
        self.committed: tuple[Begun, ...] = ()

    def begin(self, tables: Sequence[TableName], timestamp: str) -> None:
        """These are about to be sent. Raises StorageError, Conflict: then they must not be."""
        told = [Begun(schema=table.schema, name=table.name, timestamp=timestamp) for table in tables]
        if self._begin is not None:
            self._begin(told)
        self._begun += told
        self._own += told
        self._since |= dict.fromkeys(tables, "half")

    def landed(self, table: TableName, *, put: bool) -> None:
        """All of it was sent that there was to send; nothing at all, unless something was `put`."""
        if not put:
            self._since.pop(table, None)
            self._unsent |= {one for one in self._own if one.table == table}
        elif table in self._since:
            self._since[table] = "whole"

    def since(self, table: TableName) -> Since:
        """What was sent of a table since the last commit."""
        return self._since.get(table, "nothing")

    def commit(self, latest: Callable[[TableName], str]) -> None:
        """A manifest tells of these tables now. `latest` is the timestamp under which what it says of a table was sent,
        "" for a table that it tells nothing new of: what was begun later, by whomever, is still to be made good. What
        this run began and then had no need to send is not."""
        self.committed = tuple(one for one in self._begun if one.timestamp <= latest(one.table) or one in self._unsent)


def latest_sent(manifest: Manifest) -> Callable[[TableName], str]:
    """The timestamp under which a table's receiver got what a manifest says of it, whichever run sent that. Of a table
    that has no rows, or is gone, nothing can be sent: that is as good as sent with the manifest."""
    entries = {entry.table: entry for entry in manifest.tables}

    def latest(table: TableName) -> str:
        entry = entries.get(table)
        if entry is None or entry.status == "dropped":
            return manifest.timestamp
        return "" if entry.status == "failed" else sent_under(entry) or manifest.timestamp

    return latest
