"""What is told of columns that changed: which ones, and never more than fits in a line or two."""

from __future__ import annotations

import pytest

from floodmark.model import Column
from floodmark.pipeline.columns import SHOWN, column_changes, same_columns

MANY = "abcdefgh"


def columns(*told: str) -> list[Column]:
    """`name:type`, text where none is given."""
    pairs = (one.partition(":") for one in told)
    return [Column(name, kind or "text", True) for name, _, kind in pairs]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("a b", "a b", None),
        ("a b", "b a", None),
        ("a", "a x y", "columns added: x, y"),
        ("a z", "a", "columns removed: z"),
        ("a w:integer", "a w:bigint", "type changed: w (integer to bigint)"),
        ("a old", "a new", "columns added: new; removed: old"),
        (
            "a z w:integer",
            "a x y w:bigint",
            "columns added: x, y; removed: z; type changed: w (integer to bigint)",
        ),
        ("", " ".join(MANY), "columns added: a, b, c, d, e and 3 more"),
        (" ".join(MANY[:SHOWN]), "", "columns removed: a, b, c, d, e"),
        ("a", "a " + "x" * 1000, "columns added: " + "x" * 64 + "…"),
    ],
)
def test_what_is_told(before: str, now: str, told: str | None) -> None:
    assert column_changes(columns(*before.split()), columns(*now.split())) == told


AMOUNT = Column("a", "public.amount", True)
TOLD = Column("a", "public.amount", True, "numeric(12,2)")
WIDER = Column("a", "public.amount", True, "numeric(14,2)")


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ([TOLD], [TOLD], True),
        ([AMOUNT], [TOLD], True),
        ([AMOUNT], [AMOUNT], True),
        ([TOLD], [WIDER], False),
        ([TOLD], [AMOUNT], False),
        ([AMOUNT], [Column("a", "public.price", True, "numeric(12,2)")], False),
        ([AMOUNT], [Column("a", "public.amount", False, "numeric(12,2)")], False),
        ([AMOUNT], [TOLD, TOLD], False),
        ([AMOUNT, TOLD], [TOLD], False),
    ],
)
def test_to_say_what_lies_beneath_a_domain_changes_no_column(
    before: list[Column], now: list[Column], same: bool
) -> None:
    assert same_columns(before, now) is same


def test_what_is_told_of_a_domain_of_the_same_name() -> None:
    told = "type changed: a (public.amount, numeric(12,2) to public.amount, numeric(14,2))"
    assert column_changes([TOLD], [WIDER]) == told
    assert column_changes([AMOUNT], [TOLD]) is None
    assert column_changes([TOLD], [Column("a", "text", True)]) == "type changed: a (public.amount to text)"


def test_it_stays_short_whatever_changes() -> None:
    before = columns(*(f"{'k' * 500}{n}:{'t' * 500}" for n in range(3000)), *(f"{'g' * 500}{n}" for n in range(3000)))
    now = columns(*(f"{'k' * 500}{n}:{'u' * 500}" for n in range(3000)), *(f"{'n' * 500}{n}" for n in range(3000)))
    told = column_changes(before, now)
    assert told is not None and len(told) < 2000 and told.count("and 2,995 more") == 3


def test_a_comment_is_no_difference() -> None:
    plain, told = Column("a", "text", True), Column("a", "text", True, comment="new")
    assert same_columns([plain], [told]) and same_columns([told], [plain])
    assert not same_columns([told], [Column("a", "text", False, comment="new")])
