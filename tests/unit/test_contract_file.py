"""The contract's file and its comparison with tables, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from floodmark.config import Contract, ContractColumn, ContractTable, ContractTerms, Flags, Selection, load
from floodmark.config.contract_file import parse_contract, read_contract
from floodmark.config.contract_schema import contract_schema
from floodmark.config.load import load_tables
from floodmark.contract.apply import apply_contract
from floodmark.contract.compare import ShownTables, compare_contract, missing_tables
from floodmark.contract.edit import Approval, accept, contract_of
from floodmark.contract.text import contract_text
from floodmark.errors import ConfigError
from floodmark.model import Column, Fingerprint, TableName
from floodmark.observed import TableInfo
from floodmark.source.selection import CandidateRelation, choose_tables, literal_parts, rules_by_table

FILE = Path("floodmark.contract.yaml")
SCHEMA = Draft7Validator(contract_schema())
HEAD = "format: floodmark.contract\nversion: 1\n"
PERSON = TableName("public", "person")
BLOCK = "schemas:\n  public:\n    person:\n      columns:\n        id: bigint\n"


def info(*columns: Column, name: str = "person", **more: Any) -> TableInfo:
    empty = Fingerprint("", "")
    return TableInfo(
        table=TableName("public", name), oid=1, kind="table", columns=columns, parts=(), fingerprint=empty, **more
    )


def column(name: str, type: str = "text") -> Column:
    return Column(name, type, True)


def terms(contract: Contract, **choices: Any) -> ContractTerms:
    return ContractTerms(contract, **choices)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12) | st.sampled_from(
    [
        "on",
        "null",
        "1",
        "1e3",
        "~",
        "a: b",
        "#",
        "- x",
        "<<",
        "'",
        '"',
        "é",
        "a b",
        "numeric(10,2)",
        "text[]",
        "=",
        "\n",
    ]
)
attributes = st.lists(names, max_size=3).map(tuple)
columns = st.builds(ContractColumn, names, st.booleans(), st.none() | names, attributes)
tables = st.dictionaries(names, columns, max_size=3).flatmap(
    lambda found: st.builds(
        ContractTable,
        st.just(found),
        st.none() | st.just(tuple(found)),
        st.just((tuple(found),)) if found else st.just(()),
        st.none() | names,
    )
)
contracts = st.builds(
    Contract, st.dictionaries(st.builds(TableName, names, names), tables, max_size=3), st.none() | names
)


@settings(max_examples=40)
@given(contracts)
def test_a_file_reads_back_as_it_was_and_is_the_same_each_time(contract: Contract) -> None:
    text = contract_text(contract)
    again = parse_contract(text, FILE)
    assert again == contract and contract_text(again) == text
    SCHEMA.validate(yaml.safe_load(text))


def test_a_file_is_one_line_a_column() -> None:
    nino = ContractColumn("numeric(10,2)", True, "DPO, 3 May")
    found = {"id": ContractColumn("bigint"), "when": ContractColumn("timestamp with time zone"), "nino": nino}
    known = ContractTable(found, ("id",), (("nino", "id"),), "a: b")
    assert contract_text(Contract({PERSON: known}, "cases")).split("TABLE.COLUMN\n", 1)[1].splitlines()[1:] == [
        *HEAD.splitlines(), "database: cases", "schemas:", "  public:", "    person:", '      note: "a: b"',
        "      primary_key: [id]", "      unique_keys: [[nino, id]]", "      columns:", "        id: bigint",
        "        when: timestamp with time zone",
        '        nino: {type: "numeric(10,2)", masked: true, note: "DPO, 3 May"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("a: [", "line 1, column 5: not valid YAML"),
        ("[]", 'line 1: "The file" must hold keys'),
        ("version: 1", "line 1: format is missing"),
        (HEAD.replace("contract", "other"), "line 1: the format is another one"),
        (HEAD.replace("1", "2"), "line 2: this Floodmark does not know the version"),
        (f"{HEAD}tables: {{}}", "line 3: unknown key tables"),
        (f"{HEAD}{BLOCK}        id: text", "line 8: the key id appears twice"),
        (f"{HEAD}{BLOCK}    person: {{}}", "line 8: the key person appears twice"),
        (f"{HEAD}{BLOCK}        n: 1", "line 8: n must be a text"),
        (f"{HEAD}{BLOCK}        n:", "line 8: n must be a text"),
        (f"{HEAD}{BLOCK}        n: {{type: text, mask: true}}", "line 8: unknown key mask"),
        (f"{HEAD}{BLOCK}        n: {{masked: true}}", "line 8: type is missing"),
        (f"{HEAD}{BLOCK}        n: {{type: text, masked: 1}}", "line 8: masked must be true or false"),
        (f"{HEAD}{BLOCK}      primary_key: [other]", "line 8: a key names other"),
        (f"{HEAD}{BLOCK}      primary_key: id", "line 8: a key must be a list"),
        (f"{HEAD}schemas: {{a: &x {{b: {{columns: {{}}}}}}, c: *x}}", "line 3: a part of the file is used twice"),
        (f"{HEAD}schemas: {{? [a] : {{}}}}", "line 3: a key is no text"),
        (f"{HEAD}schemas: {{public: {{person: {{}}}}}}", "line 3: columns is missing"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_contract(text, FILE)
    assert says in refused.value.sentence and refused.value.hint is not None


def test_the_schema_refuses_what_the_parser_refuses() -> None:
    good: dict[str, Any] = yaml.safe_load(HEAD + BLOCK)
    SCHEMA.validate(good)
    table = good["schemas"]["public"]["person"]
    for wrong in (
        {**good, "tables": {}}, {**good, "version": 2}, {"version": 1}, {**good, "database": ""},
        *({**good, "schemas": {"public": {"person": one}}} for one in (
            {}, {**table, "more": 1}, {"columns": {"id": 1}}, {"columns": {"id": {"masked": True}}},
            {"columns": {"id": {"type": "text", "masked": 1}}}, {**table, "primary_key": "id"},
        )),
    ):  # fmt: skip
        assert not SCHEMA.is_valid(wrong)
        with pytest.raises(ConfigError):
            parse_contract(yaml.safe_dump(wrong), FILE)


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    for path, says in ((tmp_path / "none", "does not exist"), (tmp_path, "can't be read")):
        with pytest.raises(ConfigError, match=says):
            read_contract(path)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="byte 0 is not UTF-8"):
        read_contract(tmp_path / "bytes")


def test_the_section_in_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "floodmark.yaml"
    environ = {"FLOODMARK_SOURCE": "postgresql://db/cases", "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    config.write_text("detect: exact\n")
    assert load(Flags(config=config), environ).selection.contract is None
    config.write_text("contract:\n")  # a section without keys is in force
    with pytest.raises(ConfigError, match=r"floodmark\.contract\.yaml: the file does not exist"):
        load(Flags(config=config), environ)
    assert load(Flags(config=config), environ, state_only=True).selection.contract is None
    assert load_tables(Flags(config=config), environ, contract=False).contract_file == tmp_path / FILE
    (tmp_path / "other.yaml").write_text(HEAD + BLOCK)
    config.write_text(
        "contract: {file: other.yaml, columns: fail}\ntables: {rules: {person: {columns: {mask: {a: hash}}}}}"
    )
    found = load_tables(Flags(config=config), {"FLOODMARK_SOURCE": "postgresql://db/cases"}, contract=True)
    chosen = found.selection.contract
    assert chosen is not None and (chosen.tables, chosen.columns, chosen.types) == ("exclude", "fail", "accept")
    assert chosen.contract.tables == {PERSON: ContractTable({"id": ContractColumn("bigint")})}


def test_what_differs_and_what_is_done_about_it() -> None:
    approved = ContractTable(
        {"id": ContractColumn("bigint"), "gone": ContractColumn("text"), "nino": ContractColumn("text", masked=True)},
        ("id",), (("nino",),),
    )  # fmt: skip
    contract = Contract({PERSON: approved, TableName("public", "old"): ContractTable()})
    seen = info(column("id"), column("nino"), unapproved=(column("more"),), primary_key=("id",))
    shown = ShownTables(
        [seen, info(name="denied", denied="no right")], [TableName("a", "new")], [TableName("public", "old")]
    )

    def compared(**choices: Any) -> dict[str, tuple[str, str]]:
        found = compare_contract(terms(contract, **choices), shown)
        assert [one.table for one in found] == sorted(one.table for one in found)
        return {one.label if one.kind != "other_key" else "key": (one.kind, one.action) for one in found}

    same = {"public.old": ("gone_table", "told"), "key": ("other_key", "told")}
    assert compared() == {
        **same,
        "a.new": ("new_table", "excluded"), "public.denied": ("new_table", "excluded"),
        "public.person.more": ("new_column", "excluded"), "public.person.nino": ("unmasked", "excluded"),
        "public.person.gone": ("gone_column", "told"), "public.person.id": ("other_type", "told"),
    }  # fmt: skip
    failing = compared(tables="fail", columns="fail", types="fail")
    assert {name for name, (_, action) in failing.items() if action == "failed"} == {*failing} - {*same}
    told = compared(tables="include", columns="include", types="accept")
    assert {action for _, action in told.values()} == {"told"}
    assert missing_tables(terms(contract), [PERSON]) == [TableName("public", "old")]


def test_a_masked_column_has_no_type_to_compare() -> None:
    contract = Contract({PERSON: ContractTable({"nino": ContractColumn("character(9)", masked=True)})})
    assert compare_contract(terms(contract), ShownTables([info(column("nino"), masked=("nino",))])) == ()


def test_an_unreadable_table_is_no_difference() -> None:
    contract = Contract({PERSON: ContractTable({"id": ContractColumn("text")})})
    assert compare_contract(terms(contract), ShownTables([info(denied="no right")])) == ()


def test_refused_tables_are_marked() -> None:
    contract, new = Contract({PERSON: ContractTable({})}), TableName("a", "new")
    many = tuple(map(column, "abcde"))
    for columns, wanted in (
        ("fail", "a: the column (text) is not in the contract: the table fails"),
        ("exclude", "approves no column"),
    ):
        chosen = terms(contract, tables="fail", columns=columns)
        shown = ShownTables([info(unapproved=many)], [new])
        found = apply_contract(shown.tables, shown.unapproved, chosen, compare_contract(chosen, shown))
        assert [(one.table, one.denied_by) for one in found] == [(new, "contract"), (PERSON, "contract")]
        assert found[0].denied == "the table is not in the contract: the table fails" and wanted in str(found[1].denied)
    assert apply_contract([], [new], terms(contract), ()) == []


def test_the_choice_of_tables_and_columns() -> None:
    contract = Contract({PERSON: ContractTable({"id": ContractColumn("bigint"), "nino": ContractColumn("text", True)})})
    candidates = [CandidateRelation(PERSON), CandidateRelation(TableName("public", "new"))]
    for tables, read in (("exclude", 1), ("fail", 1), ("include", 2)):
        selection = load_selection(contract, tables=tables)
        choice = choose_tables(candidates, selection, "public")
        assert (len(choice.tables), len(choice.unapproved)) == (read, 2 - read)
    rule = rules_by_table(candidates, load_selection(contract), "public")[PERSON].columns
    assert [rule.approves(name) for name in ("id", "nino", "more")] == [True, False, False]
    assert rules_by_table(candidates, load_selection(contract, columns="include"), "public") == {}


def load_selection(contract: Contract, **choices: Any) -> Any:
    return Selection(contract=terms(contract, **choices))


def test_what_is_accepted() -> None:
    seen = {PERSON: info(column("id", "bigint"), column("more"), masked=("more",), primary_key=("id",))}
    first = contract_of(seen.values(), "cases")
    noted = Contract(
        {PERSON: ContractTable({"id": ContractColumn("integer", note="n"), "gone": ContractColumn("text")}, note="t")}
    )
    assert contract_of(seen.values(), "cases", noted).tables[PERSON].note == "t"
    one = accept(noted, [Approval(PERSON, "id")], seen).tables[PERSON]
    assert one.columns == {"id": ContractColumn("bigint", note="n"), "gone": ContractColumn("text")}
    more = accept(noted, [Approval(PERSON, "more"), Approval(PERSON, "gone")], seen).tables[PERSON]
    assert list(more.columns) == ["id", "more"] and more.columns["more"].masked
    assert accept(first, [Approval(PERSON)], seen) == first
    assert accept(noted, [Approval(PERSON)], {}).tables == {}
    for approval, shown in (
        (Approval(TableName("public", "x")), {}),
        (Approval(PERSON, "x"), seen),
        (Approval(PERSON, "id"), {}),
    ):
        with pytest.raises(ConfigError, match="can't accept a change"):
            accept(noted, [approval], shown)
    with pytest.raises(ConfigError, match="does not have the table"):
        accept(Contract(), [Approval(PERSON, "id")], seen)


def test_names_on_the_command_line() -> None:
    assert literal_parts('a."b.c".d', "x", most=3) == ("a", "b.c", "d")
    for text in ("a.*", "a.b.c.d", "a..b", '"a'):
        with pytest.raises(ConfigError):
            literal_parts(text, "x", most=3)
