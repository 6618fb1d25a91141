"""Which table is given up: the one that stayed locked, and no other that only has the same label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from floodmark.errors import TableError, TableLocked
from floodmark.model import Chunk, TableName
from floodmark.observed import Observation, Part, Question
from floodmark.source.base import SourceSnapshot
from floodmark.source.waiting import WaitsOnce

ONE, OTHER, FREE = TableName("a.b", "c"), TableName("a", "b.c"), TableName("public", "free")
SEEN = Observation(1, 0, 0, 7)


class Fake:
    """A snapshot in which one table is locked. `asked` counts how often somebody waited for it, or would have."""

    def __init__(self, locked: TableName, error: type[TableError] = TableLocked) -> None:
        self.locked, self.error, self.asked = locked, error, 0

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        if any(question.table == self.locked for question in questions):
            self.asked += 1
            raise self.error("can't observe", on=self.locked.label)
        return [SEEN for _ in questions]


def questions(*tables: TableName) -> list[Question]:
    return [Question(table, Part(str(table), table, 7, 1, 8192, True), Chunk("1", 0, 8), True, 3) for table in tables]


def waits_once(fake: Fake, locked: set[TableName]) -> Any:
    return WaitsOnce(cast(SourceSnapshot, fake), locked, 5)


def test_a_locked_table_is_asked_for_once_in_a_run() -> None:
    fake, locked = Fake(ONE), set[TableName]()
    for snapshot in (waits_once(fake, locked), waits_once(fake, locked)):
        for asked in (questions(FREE, ONE), questions(ONE), questions(ONE, FREE)):
            with pytest.raises(TableLocked, match="kept it locked for 5 s"):
                snapshot.observe(asked)
        assert snapshot.observe(questions(FREE)) == [SEEN]
    assert (fake.asked, locked) == (1, {ONE})


def test_of_two_tables_with_one_label_the_free_one_is_not_given_up() -> None:
    fake, locked = Fake(ONE), set[TableName]()
    snapshot = waits_once(fake, locked)
    with pytest.raises(TableLocked):
        snapshot.observe(questions(ONE, OTHER))
    assert locked == set()
    assert snapshot.observe(questions(OTHER)) == [SEEN]
    with pytest.raises(TableLocked):
        snapshot.observe(questions(ONE))
    assert locked == {ONE}


def test_another_error_gives_no_table_up() -> None:
    fake, locked = Fake(ONE, TableError), set[TableName]()
    for _ in range(2):
        with pytest.raises(TableError, match="can't observe"):
            waits_once(fake, locked).observe(questions(ONE))
    assert (fake.asked, locked) == (2, set())
