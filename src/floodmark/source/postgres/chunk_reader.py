"""The reading of one chunk, with the checks that its rows are those that the snapshot means.

It needs no coordinator: transactions that see the snapshot, and facts about it. So threads of the run's own process and
processes on other machines read by the same code.
"""

from __future__ import annotations

from collections.abc import Set

import psycopg
from msgspec import Struct
from msgspec.structs import replace

from floodmark.errors import SnapshotLost, TableError
from floodmark.model import Chunk, Format
from floodmark.native import EncoderName
from floodmark.observed import Extracted, Observation, Part, Question
from floodmark.source.base import Write
from floodmark.source.postgres.connect import translated
from floodmark.source.postgres.coordinator import Connection
from floodmark.source.postgres.copying import CopiedRows, receive_groups, receive_rows
from floodmark.source.postgres.identity import ExpectedReads, LockedRelation, oids, replaced_because
from floodmark.source.postgres.imports import Task, Transactions
from floodmark.source.postgres.native_rows import NativeRows
from floodmark.source.postgres.statements import (
    IN_HEAP_ORDER,
    PgTable,
    copy_csv,
    copy_groups,
    copy_rows,
    holds_rows,
    locked_relations,
    names_of,
    observe_chunk,
    partition_members,
    reads_by_groups,
)
from floodmark.wording import plural


class ChunkReader(Struct, frozen=True):
    """Reads chunks in transactions that see one snapshot. Several threads can use it.

    `database` is the database's oid, and `xmin` the snapshot's.
    """

    transactions: Transactions
    database: int
    xmin: int
    maker: EncoderName
    row_format: Format

    def extract(self, known: PgTable, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        """Write a chunk's rows as lines, and return what was read. Raises SnapshotLost, TableError."""
        table, watched = known.info.table, known.info.watched
        in_order = part.by_block and (known.where is None or part.no_proof is None)
        planning = IN_HEAP_ORDER if in_order else ""
        with self.transactions.begin("can't extract", table.label, planning) as task:
            connection = task.connection
            copied = self._copy(connection, known, part, chunk, open_end, write)
            counted = copied.counted and watched is None
            read = self._require_meant(task, known, part, is_last=counted or not part.by_block)
            if not part.by_block:
                return Extracted(copied.lines, None)
            if counted:
                seen = Observation(copied.rows, 0, copied.frozen, part.relfilenode)
            else:
                question, expected = Question(table, part, chunk, open_end, self.xmin, watched), known.reads[part.id]
                seen, _ = answer_one(connection, question, expected, self.database, read - {expected.root})
        if known.where is None and seen.rows != copied.lines:
            why = f"it gave {plural(copied.lines, 'line')}, but {plural(seen.rows, 'row')} were counted"
            raise TableError("can't extract", on=table.label, why=why)
        return Extracted(copied.lines, seen)

    def _copy(
        self, connection: Connection, known: PgTable, part: Part, chunk: Chunk, open_end: bool, write: Write
    ) -> CopiedRows:
        if self.maker == "native":
            return NativeRows(connection, known, self.row_format).receive(part, chunk, open_end, write)
        if self.row_format == "csv":
            return receive_rows(connection, copy_csv(known, part, chunk, open_end), write, header=1)
        if reads_by_groups(known, part):
            return receive_groups(connection, copy_groups(known, part, chunk, open_end), write)
        return receive_rows(connection, copy_rows(known, part, chunk, open_end), write)

    def _require_meant(self, task: Task, known: PgTable, part: Part, *, is_last: bool) -> frozenset[int]:
        """Raise SnapshotLost unless the first statement of this transaction read the snapshot's relations and files.

        Return the relations that are locked. If `is_last`, the task ends with the question about them.
        """
        table, reads, connection = known.info.table, known.reads[part.id], task.connection
        query = locked_relations(reads.root, self.database)
        rows = task.last(query) if is_last and not reads.parent else connection.execute(query).fetchall()
        found = [LockedRelation(*row) for row in rows]
        _require_not_replaced(connection, table.label, reads, oids(found))
        if reads.parent and not reads.exact:  # a partition can have been attached just for this statement
            tree = {oid for (oid,) in connection.execute(partition_members(reads.root))}
            _require_not_replaced(connection, table.label, replace(reads, exact=True, all_below=True), tree)
        if any(one.rewritten for one in found):
            raise SnapshotLost("the table was rewritten after the snapshot", on=table.label)
        return oids(found)


def answer_one(
    connection: Connection, asked: Question, reads: ExpectedReads, database: int, before: Set[int]
) -> tuple[Observation, frozenset[int]]:
    """Ask one question. Return the observation and the relations that are locked now.

    `before` are the relations that earlier statements of the transaction locked.
    """
    if asked.probe:
        statement = holds_rows(asked.part, asked.chunk, asked.open, database)
    else:
        statement = observe_chunk(asked.part, asked.chunk, asked.open, asked.since, asked.watched, database)
    try:
        row = connection.execute(statement).fetchone()
    except psycopg.errors.LockNotAvailable as error:  # one of many questions: this names the table
        raise translated(error, "can't observe", asked.table.label) from None
    assert row is not None
    rows, young, frozen, newest, file_now, read = row
    _require_not_replaced(connection, asked.table.label, reads, frozenset(read), before)
    if file_now != asked.part.relfilenode:
        raise SnapshotLost("the table was rewritten after the snapshot", on=asked.table.label)
    return Observation(rows, young, frozen, asked.part.relfilenode, newest), frozenset(read)


def _require_not_replaced(
    connection: Connection, on: str, reads: ExpectedReads, found: Set[int], before: Set[int] = frozenset()
) -> None:
    why = replaced_because(reads, found, before)
    if why is None:
        return
    more = found - before - reads.below - reads.toast - {reads.root}
    if more:
        row = connection.execute(names_of(more)).fetchone()
        why += f": {row[0]}" if row is not None else ""
    raise SnapshotLost("the table was replaced after the snapshot", on=on, why=why)
