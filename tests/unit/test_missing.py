"""The words for a column that a filter uses and the table does not have: they repeat no row's value."""

from __future__ import annotations

import pytest

from floodmark.source.missing import missing_column

HIDDEN = "it uses a column that the table does not have"


@pytest.mark.parametrize(
    ("word", "name", "why"),
    [
        ("statsu", "statsu", "the table has no column statsu"),
        ('"full name"', "full name", 'the table has no column "full name"'),
        ("STATSU", "statsu", "the table has no column STATSU"),
        ("t.zzz", "zzz", "the table has no column t.zzz"),
        ('"Jane Smith"', "Jane Smith", HIDDEN),
        ('"jane"', "jane", HIDDEN),
        ("Jane", "jane", HIDDEN),
        ("t.Jane", "jane", HIDDEN),
    ],
)
def test_a_word_is_shown_only_if_it_can_be_no_value(word: str, name: str, why: str) -> None:
    found, hint = missing_column(word, name, ["status", "Full Name"])
    assert found == why
    assert hint.startswith("Did you mean ") or "single quotes" in hint
