"""Patterns of tables: which they pick, and what is said when they pick nothing."""

from __future__ import annotations

import pytest

from floodmark.config import Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.model import TableName
from floodmark.source.selection import (
    CandidateRelation,
    Pattern,
    TableChoice,
    choose_tables,
    exact_pattern,
    narrowed_away,
    rules_by_table,
)

PERSON, ADDRESS, AUDIT = TableName("public", "person"), TableName("public", "address"), TableName("app", "audit")
ODD = TableName("odd.schema", 'Table "x"')
STAR = TableName("public", "a*b")
VIEW, OWN, LEAF = TableName("public", "person_view"), TableName("floodmark", "journal"), TableName("public", "p_1")
CANDIDATES = [
    *(CandidateRelation(table) for table in (PERSON, ADDRESS, AUDIT, ODD, STAR)),
    CandidateRelation(VIEW, "exact", "a view", "view"),
    CandidateRelation(OWN, "schema", "Floodmark's own", "Floodmark table"),
    CandidateRelation(LEAF, "never", "a partition"),
]


def chosen(**selection: object) -> set[TableName]:
    return set(choose_tables(CANDIDATES, Selection(**selection), "public").tables)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.*", {PERSON, ADDRESS, AUDIT, ODD, STAR}),
        ("*", {PERSON, ADDRESS, STAR}),
        ("person", {PERSON}),
        ("public.person", {PERSON}),
        ("p*", {PERSON}),
        ("public.?erson", {PERSON}),
        ("pub*.address", {ADDRESS}),
        ("app.*", {AUDIT}),
        ("*.a*", {ADDRESS, AUDIT, STAR}),
        ('"odd.schema"."Table ""x"""', {ODD}),
        ('"odd.schema".*', {ODD}),
        ('public."a*b"', {STAR}),
        ('"a*b"', {STAR}),
        ('"per"so?', {PERSON}),
        ("public.person_view", {VIEW}),
        ("person_view", {VIEW}),
        ("floodmark.*", {OWN}),
        ("floodmark.journal", {OWN}),
    ],
)
def test_include_picks(pattern: str, expected: set[TableName]) -> None:
    assert chosen(include=(pattern,)) == expected


@pytest.mark.parametrize(
    "pattern",
    ["Person", "PUBLIC.person", "person_vie?", "*.person_view", "*.journal", "f*.journal", "p_1", "perso", "erson",
     '"p*"', "personx", "other.person"],
)  # fmt: skip
def test_include_that_picks_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(include=(pattern,))
    assert caught.value.on == f"tables.include: {pattern}"


def test_a_default_include_may_pick_nothing() -> None:
    assert choose_tables([], Selection(), "public") == TableChoice()
    with pytest.raises(ConfigError):
        choose_tables([], Selection(include=("public.*",)), "public")


def test_one_empty_pattern_among_others_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nope"):
        chosen(include=("*.*", "nope"))


def test_exclude_beats_include() -> None:
    assert chosen(include=("public.*", "person"), exclude=("person", "*.a?b")) == {ADDRESS}
    assert PERSON in chosen(exclude=("person_view",))


def test_an_exclude_that_matches_nothing_is_a_warning_unless_it_names_a_partition() -> None:
    choice = choose_tables(CANDIDATES, Selection(exclude=("nope", "persn", "person")), "public")
    assert PERSON not in choice.tables and ADDRESS in choice.tables
    assert [error.on for error in choice.idle] == ["tables.exclude: nope", "tables.exclude: persn"]
    assert choice.idle[1].hint == "Did you mean person or person_view?"
    with pytest.raises(ConfigError, match="a partition") as caught:
        chosen(exclude=("p_1",))
    assert caught.value.on == "tables.exclude: p_1"


def left_out(*more: CandidateRelation, **selection: object) -> set[tuple[str, str]]:
    choice = choose_tables([*CANDIDATES, *more], Selection(**selection), "public")  # type: ignore[arg-type]
    assert [one.table for one in choice.left_out] == sorted(one.table for one in choice.left_out)
    return {(one.table.label, one.kind) for one in choice.left_out}


def test_what_a_pattern_matches_and_does_not_pick_is_left_out() -> None:
    view, own = ("public.person_view", "view"), ("floodmark.journal", "Floodmark table")
    assert left_out() == {view, own}
    assert left_out(include=("public.*",)) == {view}
    assert left_out(include=("*.*", "person_view")) == {own}
    assert left_out(exclude=("*_view",)) == {own}
    assert left_out(include=("app.*",)) == set()
    assert left_out(only=("person",)) == set(), "the whole choice is told when the whole choice is made"


def test_a_child_of_a_chosen_table_is_left_out_if_it_is_not_chosen_itself() -> None:
    child = CandidateRelation(TableName("old", "person"), parents=(PERSON,))
    grandchild = CandidateRelation(TableName("old", "person_1999"), parents=(child.table,))
    assert left_out(child, include=("public.p*",)) == {("old.person", "child table"), ("public.person_view", "view")}
    assert ("old.person", "child table") not in left_out(child, include=("public.p*", "old.*"))
    assert left_out(child, include=("public.address",)) == set()
    assert left_out(child, include=("person",), exclude=("old.*",)) == set()
    assert left_out(child, grandchild, include=("old.person",)) == {("old.person_1999", "child table")}


def test_only_and_skip_narrow_what_is_selected() -> None:
    assert chosen(only=("person", "app.*")) == {PERSON, AUDIT}
    assert chosen(include=("public.*",), skip=("person",)) == {ADDRESS, STAR}
    assert chosen(only=("p*", "a*"), skip=("person",)) == {ADDRESS, STAR}
    with pytest.raises(ConfigError, match=r"--table: app\.audit.*tables.include"):
        chosen(include=("public.*",), only=("app.audit",))
    with pytest.raises(ConfigError, match=r"--table: person_view.*a view"):
        chosen(only=("person_view",))
    with pytest.raises(ConfigError, match="--exclude: nope"):
        chosen(skip=("nope",))


def test_narrowed_away_needs_no_source() -> None:
    assert narrowed_away(PERSON, Selection(skip=("person",)), "public")
    assert narrowed_away(PERSON, Selection(only=("address",)), "public")
    assert not narrowed_away(PERSON, Selection(only=("address", "p*"), skip=("app.*",)), "public")
    assert not narrowed_away(PERSON, Selection(exclude=("person",)), "public")


def test_an_error_offers_close_matches_that_can_be_typed() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean .*public\.person"):
        chosen(only=("public.persn",))
    with pytest.raises(ConfigError, match=r"Did you mean public\.address"):
        chosen(only=("adress",))


def test_an_error_says_why_a_wildcard_does_not_reach_it() -> None:
    for pattern, what in (("*.person_view", "a view"), ("*.journal", "Floodmark's own"), ("p_1", "a partition")):
        with pytest.raises(ConfigError, match=what):
            chosen(include=(pattern,))


def test_the_order_is_the_names() -> None:
    tables = choose_tables(CANDIDATES, Selection(), "public").tables
    assert list(tables) == sorted(tables)
    assert len(tables) == 5


@pytest.mark.parametrize("pattern", ["", ".", "a.", ".a", "a.b.c", '"a', 'a"b', '""', '"".a', 'public."a""'])
def test_a_malformed_pattern_is_an_error(pattern: str) -> None:
    with pytest.raises(ConfigError, match="can't read a table pattern"):
        Pattern(pattern, "public", "tables.include")


def test_without_a_dot_a_pattern_means_the_default_schema() -> None:
    assert Pattern("person", "main", "x").table == TableName("main", "person")
    assert Pattern("*", "a.b", "x").matches(TableName("a.b", "t"))
    assert not Pattern("*", "a.b", "x").matches(TableName("aXb", "t"))


@pytest.mark.parametrize("table", [PERSON, ODD, STAR, TableName("Ünïcode", "a?b c/d\n"), TableName("a b", '"')])
def test_spelled_names_exactly_that_table(table: TableName) -> None:
    pattern = Pattern(exact_pattern(table), "public", "x")
    assert pattern.table == table
    assert pattern.matches(table)


def test_rules_are_for_exact_existing_tables() -> None:
    rule = TableRule(where="true")
    rules = {"person": rule, '"odd.schema"."Table ""x"""': rule}
    assert rules_by_table(CANDIDATES, Selection(rules=rules), "public") == {PERSON: rule, ODD: rule}
    for key, why in (("p*", "wildcard"), ("nope", "the source has no table"), ("p_1", "a partition")):
        with pytest.raises(ConfigError, match=why) as caught:
            rules_by_table(CANDIDATES, Selection(rules={key: rule}), "public")
        assert caught.value.on == f"tables.rules: {key}"
    with pytest.raises(ConfigError, match="another rule"):
        rules_by_table(CANDIDATES, Selection(rules={"person": rule, "public.person": rule}), "public")
