"""Questions about many small tables in one statement, with the check that each answer is about its own table. Pure.

A statement names k tables, each by ONLY, and counts each one completely. PostgreSQL locks what each name leads to
before the statement begins. If the k expected relations are locked now, were not locked before, and no other relation
was locked with them, then each name led to one of them, and no two names to the same one. Two names can still have been
swapped. So the statement also asks for the `tableoid` of the counted rows: a scan gives each row the oid of the
relation that it reads. Names without rows are then left for relations without rows, whichever is which.

If anything differs, the caller asks one question at a time, and finds out which table it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

from floodmark.errors import SnapshotLost
from floodmark.observed import Observation, Question
from floodmark.source.postgres.identity import ExpectedReads
from floodmark.source.postgres.types import FIRST_USER_OID

# A statement about more tables would save little more, and hold more locks at a time.
MOST_QUESTIONS = 64
# Above this size, one more function call for each row costs more than a statement of its own.
MOST_BYTES = 256 * 1024
# If a table is locked, the others must not wait for it. The question about it waits as long as the limits allow.
SHORT_WAIT = "SET LOCAL lock_timeout = '100ms'"
_NO_ROWS = (0, 0, 0, None, None)


def suits(asked: Question, reads: ExpectedReads) -> bool:
    """Return True if a question can share a statement: one about all of a small table that locks only this table."""
    return (
        not asked.probe
        and asked.watched is None
        and asked.part.by_block
        and asked.part.total_bytes <= MOST_BYTES
        and asked.open
        and asked.chunk.start == 0
        and reads.exact
        and reads.only
        and not reads.parent
        and not reads.measured
        and reads.root >= FIRST_USER_OID
    )


def groups_of(questions: Sequence[Question], reads: Sequence[ExpectedReads]) -> Iterator[list[int]]:
    """Yield the numbers of the questions that share a statement. No relation is in two of them."""
    group: list[int] = []
    seen = set[int]()
    for number, (asked, expected) in enumerate(zip(questions, reads, strict=True)):
        if suits(asked, expected) and expected.root not in seen:
            seen.add(expected.root)
            group.append(number)
        if len(group) == MOST_QUESTIONS:
            yield group
            group = []
    if len(group) > 1:
        yield group


def answers_of(
    rows: Sequence[Sequence[Any]], questions: Sequence[Question], reads: Sequence[ExpectedReads], before: Set[int]
) -> tuple[list[Observation], frozenset[int]]:
    """Return the observations in the order of the questions, and the relations that are locked now.

    `before` are the relations that earlier statements of the transaction locked. Raises SnapshotLost.
    """
    counted = {row[0]: row[1:6] for row in rows}
    ((*_, files, locks),) = (row for row in rows if row[0] == -1)
    locked = frozenset(locks)
    toast = frozenset[int]().union(*(one.toast for one in reads))
    expected = {one.root for one in reads}
    if locked - before - toast != expected or len(expected) < len(reads) or len(files) < len(reads):
        raise SnapshotLost("a table was replaced after the snapshot", on=questions[0].table.label)
    found = []
    for number, (asked, one, file_now) in enumerate(zip(questions, reads, files, strict=True)):
        total, young, frozen, least_oid, greatest_oid = counted.get(number, _NO_ROWS)
        if total and not least_oid == greatest_oid == one.root:
            raise SnapshotLost("the table was replaced after the snapshot", on=asked.table.label)
        if file_now != asked.part.relfilenode:
            raise SnapshotLost("the table was rewritten after the snapshot", on=asked.table.label)
        found.append(Observation(total, young, frozen, asked.part.relfilenode))
    return found, locked
