"""The data that a landing zone's receiver might hold of a table and no manifest describes, perhaps only a part of it.

A run can't inspect or take back what it put there. So before the first put it records in the state which tables it will
send and under which timestamp. The record stays until a run has committed the table. If a run dies, fails or loses its
snapshot in between, the table is sent again, whole and under a later timestamp. That holds even if the table has by
then the committed content again: nothing else would show that the receiver has something newer and worse. Only a run
that sent all of a table, and then proves each chunk that it sent in its next snapshot, does not send it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from floodmark.model import TableName
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Begun, Manifest
from floodmark.state.rebase import sent_under

Since = Literal["nothing", "whole", "half"]


class SentTables:
    """The tables that earlier runs and this run began to send. Without a ledger they serve only this run."""

    def __init__(self, before: Collection[Begun], ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._begun = list(before)
        self._own: list[Begun] = []
        self._unsent: set[Begun] = set()
        self._since: dict[TableName, Since] = {one.table: "half" for one in before}
        self.committed: tuple[Begun, ...] = ()

    def record_begun(self, tables: Sequence[TableName], timestamp: str) -> None:
        """Record that these tables are about to be sent.

        If it raises StorageError or Conflict, they must not be sent.
        """
        told = [Begun(schema=table.schema, name=table.name, timestamp=timestamp) for table in tables]
        if self._ledger is not None:
            self._ledger.begin(told)
        self._begun += told
        self._own += told
        self._since |= dict.fromkeys(tables, "half")

    def record_landed(self, table: TableName, *, put: bool) -> None:
        """Record that a table was sent completely. If nothing was `put`, nothing needed to be sent."""
        if not put:
            self._since.pop(table, None)
            self._unsent |= {one for one in self._own if one.table == table}
        elif table in self._since:
            self._since[table] = "whole"

    def sent_since(self, table: TableName) -> Since:
        """Return what was sent of a table since the last commit."""
        return self._since.get(table, "nothing")

    def record_committed(self, latest: Callable[[TableName], str]) -> None:
        """Record that a manifest now describes these tables.

        `latest` gives the timestamp under which the manifest's state of a table was sent, or "" if the manifest says
        nothing new about the table. A table that any run began to send later must still be sent again. A table that
        this run began to send, and then did not need to send, need not be.
        """
        self.committed = tuple(one for one in self._begun if one.timestamp <= latest(one.table) or one in self._unsent)


def latest_sent(manifest: Manifest) -> Callable[[TableName], str]:
    """Return a function that gives the timestamp under which the receiver got a table's state in the manifest.

    Any run can have sent it. For a table that is gone or has no rows, nothing can be sent: that counts as sent with the
    manifest.
    """
    entries = {entry.table: entry for entry in manifest.tables}

    def latest(table: TableName) -> str:
        entry = entries.get(table)
        if entry is None or entry.status == "dropped":
            return manifest.timestamp
        return "" if entry.status == "failed" else sent_under(entry) or manifest.timestamp

    return latest
