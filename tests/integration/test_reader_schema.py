"""`floodmark schema`: documents that others' tools take, and that the landed lines satisfy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_lines import fill_with_kinds

import floodmark
from fix_cli import command_streams
from fix_runs import Nightly
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.errors import ConfigError, UsageError
from floodmark.reader.schema import SchemaReceiver, json_schemas, mojap


def validator(nightly: Nightly, table: str) -> Draft202012Validator:
    assert nightly.last is not None
    (schema,) = [one for one in json_schemas(nightly.last) if one["title"] == table]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_every_line_satisfies_its_tables_json_schema_and_others_do_not(nightly: Nightly) -> None:
    fill_with_kinds(nightly.database)
    nightly.database.execute(
        "CREATE TABLE strict (id int2 NOT NULL, v varchar(3), d date, z timestamptz, u uuid, b bytea, n numeric,"
        " j jsonb NOT NULL);"
        "INSERT INTO strict VALUES (1, 'äöü', '0044-03-15 BC', 'infinity', gen_random_uuid(), '', 'NaN', 'null')"
    )
    nightly.run()
    snapshot = floodmark.open(str(nightly.folder)).latest()
    for table in snapshot.tables:
        check = validator(nightly, table.label)
        lines = list(table.lines())
        assert lines and all(check.is_valid(json.loads(line)) for line in lines)
    check = validator(nightly, "public.strict")
    good: dict[str, Any] = json.loads(next(snapshot["strict"].lines()))
    wrong = {"id": [40000, None, "1"], "v": ["long"], "d": ["15.3.44", 1], "z": ["2026-01-01T00:00:00"], "u": ["x"]}
    for name, values in {**wrong, "b": ["00"], "n": ["1"]}.items():
        for value in values:
            assert not check.is_valid({**good, name: value}), (name, value)
    assert not check.is_valid({**good, "more": 1})
    assert not check.is_valid({name: value for name, value in good.items() if name != "v"})


def test_csv_has_no_json_schema(nightly: Nightly) -> None:
    nightly.database.execute("CREATE TABLE person (id int)")
    nightly.run(format="csv")
    assert nightly.last is not None and mojap(nightly.last)[0]["file_format"] == "csv"
    with pytest.raises(ConfigError, match=r"public\.person: its lines are text records"):
        json_schemas(nightly.last)


def test_mojap_metadata(nightly: Nightly) -> None:
    nightly.database.execute(
        "CREATE TABLE person"
        " (id bigint NOT NULL, paid numeric(10,2), bare numeric, at timestamptz, day date, doc jsonb)"
    )
    nightly.run()
    assert nightly.last is not None
    (document,) = mojap(nightly.last)
    assert document["name"] == "person" and document["file_format"] == "jsonl"
    assert [(column["name"], column["type"], column["nullable"]) for column in document["columns"]] == [
        ("id", "int64", False),
        ("paid", "decimal128(10,2)", True),
        ("bare", "decimal128(38,10)", True),
        ("at", "timestamp(us)", True),
        ("day", "date32", True),
        ("doc", "string", True),
    ]
    assert document["columns"][3]["datetime_format"] == "ISO8601"
    assert "datetime_format" not in document["columns"][4]
    (document,) = mojap(nightly.last, SchemaReceiver(text=("public.person.at", "public.person.id")))
    assert [(column["type"], "datetime_format" in column) for column in document["columns"]][::3] == [
        ("string", False),
        ("string", False),
    ]
    with pytest.raises(ConfigError, match="unknown column"):
        mojap(nightly.last, SchemaReceiver(text=("person.at",)))


def test_a_json_value_may_be_null_where_its_column_may_not(nightly: Nightly) -> None:
    nightly.database.execute(
        "CREATE TABLE doc (j jsonb NOT NULL, k json NOT NULL, l int[] NOT NULL, m text NOT NULL);"
        "INSERT INTO doc VALUES ('null', 'null', '{}', '')"
    )
    nightly.run()
    assert nightly.last is not None
    assert nightly.landed("public.doc") == [b'{"j":null,"k":null,"l":[],"m":""}\n']
    (document,) = mojap(nightly.last)
    assert [column["nullable"] for column in document["columns"]] == [True, True, False, False]


@pytest.mark.parametrize(
    ("run", "receiver", "person", "entry"),
    [
        ({}, SchemaReceiver(), "{db}", "{db}"),
        ({}, SchemaReceiver("moj-landing"), "{db}_public", "{db}_audit"),
        ({}, SchemaReceiver("moj-landing", "case_notes"), "case_notes", "case_notes"),
        ({"layout": "moj-landing", "compression": "none"}, SchemaReceiver(), "{db}_public", "{db}_audit"),
        ({"layout": "moj-landing", "compression": "none"}, SchemaReceiver("plain"), "{db}", "{db}"),
        ({"database_name": "its own"}, SchemaReceiver(), "its%20own", "its%20own"),
        ({"database_name": "its own"}, SchemaReceiver("moj-landing", "case_notes"), "case_notes", "case_notes"),
    ],
)
def test_tables_bear_the_names_in_the_keys_of_their_receiver(
    nightly: Nightly, run: dict[str, str], receiver: SchemaReceiver, person: str, entry: str
) -> None:
    nightly.database.execute(
        "CREATE TABLE person (id int); INSERT INTO person VALUES (1); CREATE SCHEMA audit;"
        'CREATE TABLE audit."an entry" (id int); INSERT INTO audit."an entry" VALUES (1); CREATE TABLE nothing (id int)'
    )
    nightly.run(**run, state_url=str(nightly.folder.with_name("state")))
    assert nightly.last is not None
    found = {document["name"]: document["database_name"] for document in mojap(nightly.last, receiver)}
    database = nightly.database.name
    assert set(found) == {"person", "nothing", "audit.an%20entry"}
    assert found["person"] == person.format(db=database)
    assert found["audit.an%20entry"] == entry.format(db=database)
    if "database_name" not in run or receiver != SchemaReceiver():  # a table without rows has no key that would tell
        assert found["nothing"] == found["person"]


@pytest.mark.parametrize("option", [["--layout", "plain"], ["--database-name", "a_b"], ["--text", "a.b.c"]])
def test_a_json_schema_has_no_receiver(option: list[str]) -> None:
    streams, _, _ = command_streams({})
    with pytest.raises(UsageError, match="need --format mojap"):
        call(parse(["schema", "--format", "json-schema", *option]), streams)
