"""`changes`: the rows that changed since a run or a cursor, its exit codes, and rows on stdout and nowhere else."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import UNSET
from msgspec.structs import replace

from fix_cli import Tty, command_streams
from fix_documents import schema_of
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.main import main
from floodmark.errors import ObjectMissing, VerificationFailed
from floodmark.model import TableName
from floodmark.reader.reader import Snapshot
from floodmark.reader.reader import open as open_landed
from floodmark.reader.row_changes import RowChange, TableChange

CANARY = "c4n4ry-of-a-row"
HERE = ["--destination", "./out"]
CapSys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("FLOODMARK_", "PG")) or name in ("S3_DESTINATION", "NO_COLOR"):
            monkeypatch.delenv(name)


def run(capsys: CapSys, *statements: str, options: tuple[str, ...] = ()) -> str:
    """A run after a day's statements, and its id."""
    with closing(sqlite3.connect("a.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    assert main(["run", "--source", "sqlite:///a.db", *HERE, "--output", "json", *options]) == 0
    return str(json.loads(capsys.readouterr().out)["run_id"])


@pytest.fixture
def days(capsys: CapSys) -> list[str]:
    first = run(
        capsys,
        "CREATE TABLE person (id INTEGER, name TEXT, paid REAL)",
        f"INSERT INTO person VALUES (1, '{CANARY}', 1.5), (2, NULL, NULL), (3, 'c', NULL)",
        "CREATE TABLE old (id INTEGER)",
        "CREATE TABLE same (id INTEGER)",
    )
    second = run(
        capsys,
        "UPDATE person SET name = 'b', paid = 2 WHERE id = 2",
        "DELETE FROM person WHERE id = 3",
        "INSERT INTO person VALUES (4, 'd', 0)",
        "DROP TABLE old",
        "CREATE TABLE fresh (t TEXT)",
        "INSERT INTO fresh VALUES ('x')",
    )
    return [first, second]


def changes(capsys: CapSys, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["changes", *arguments, *HERE, "--output", "jsonl"]) == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    check = Draft202012Validator(schema_of("changes"))
    for line in lines:
        check.validate(line)
    return lines


def keyed(snapshot: Snapshot, key: tuple[str, ...] | None = ("id",)) -> Snapshot:
    """The snapshot with this primary key of `person`."""
    tables = [
        replace(one, primary_key=key or UNSET) if one.name == "person" else one for one in snapshot.manifest.tables
    ]
    return Snapshot(replace(snapshot.manifest, tables=tuple(tables)), snapshot.data)


def test_rows_as_json_lines(days: list[str], capsys: CapSys) -> None:
    begin, *rest = changes(capsys, "--since", days[0])
    assert begin == {"op": "compare", "since": days[0], "run_id": days[1]}
    assert [(one["op"], one["name"]) for one in rest if one["name"] != "person"] == [
        ("gone", "old"),
        ("created", "fresh"),
        ("insert", "fresh"),
    ]
    rows = [(one["op"], one["key"], one["old"], one["new"]) for one in rest if one["name"] == "person"]
    assert sorted(rows, key=str) == [
        ("delete", None, {"id": 2, "name": None, "paid": None}, None),
        ("delete", None, {"id": 3, "name": "c", "paid": None}, None),
        ("insert", None, None, {"id": 2, "name": "b", "paid": 2.0}),
        ("insert", None, None, {"id": 4, "name": "d", "paid": 0.0}),
    ]
    assert [one["op"] for one in changes(capsys, "fre*", "--since", days[0], "--run", days[1])] == [
        "compare",
        "created",
        "insert",
    ]
    assert changes(capsys, "--since", "current") == [{"op": "compare", "since": days[1], "run_id": days[1]}]


def test_rows_by_key_and_a_row_that_only_moved(days: list[str]) -> None:
    reader = open_landed("out")
    first, second = (keyed(reader.run(one)) for one in days)
    found = list(reader.row_changes(first, second, tables=[TableName("main", "person")]))
    by_op = {one.op: one for one in found}
    assert len(found) == 3
    assert by_op["update"] == RowChange(
        TableName("main", "person"),
        "update",
        b'{"id":2}',
        b'{"id":2,"name":null,"paid":null}',
        b'{"id":2,"name":"b","paid":2.0}',
        ("name", "paid"),
    )
    assert isinstance(by_op["delete"], RowChange) and by_op["delete"].key == b'{"id":3}'
    lines = list(reader.row_changes(first, keyed(second, ("id", "name")), tables=[TableName("main", "person")]))
    assert {one.op for one in lines} == {"insert", "delete"}, "with another key, lines are compared"


def test_a_key_that_two_rows_have_is_damage(days: list[str], capsys: CapSys) -> None:
    run(capsys, "INSERT INTO person VALUES (4, 'e', 0)")
    reader = open_landed("out")
    with pytest.raises(VerificationFailed, match="the same primary key") as told:
        list(reader.row_changes(keyed(reader.run(days[1])), keyed(reader.latest())))
    assert CANARY not in str(told.value) and told.value.exit_code == 14


def test_changed_columns_and_other_ways_of_writing_lines_are_told(days: list[str], capsys: CapSys) -> None:
    third = run(capsys, "ALTER TABLE person ADD COLUMN more TEXT")
    (_, changed) = changes(capsys, "--since", days[1])
    assert (changed["op"], [one["name"] for one in changed["columns_added"]]) == ("schema_changed", ["more"])
    assert "columns added: more" in changed["detail"]
    Path("floodmark.yaml").write_text("tables: {rules: {person: {where: id > 1}}}\n", encoding="utf-8")
    run(capsys)
    assert [(one["op"], one.get("name")) for one in changes(capsys, "--since", third)] == [
        ("compare", None),
        ("recoded", "person"),
    ]


def test_csv_gives_texts(capsys: CapSys) -> None:
    first = run(
        capsys,
        "CREATE TABLE t (id INTEGER, s TEXT)",
        "INSERT INTO t VALUES (1, ''), (2, NULL)",
        options=("--format", "csv"),
    )
    run(capsys, "UPDATE t SET s = 'a,\"b' WHERE id = 2", options=("--format", "csv"))
    rows = [(one["op"], one["old"] or one["new"]) for one in changes(capsys, "--since", first)[1:]]
    assert rows == [("insert", {"id": "2", "s": 'a,"b'}), ("delete", {"id": "2", "s": None})]


def test_the_changes_since_a_cursor_even_if_its_run_was_pruned(days: list[str], capsys: CapSys) -> None:
    reader = open_landed("out")
    reader.cursor("warehouse").advance(reader.run(days[0]))
    assert changes(capsys, "--since", "warehouse") == changes(capsys, "--since", days[0])
    run(capsys)
    assert main(["prune", "--keep-last", "1", "--grace", "0", *HERE]) == 0
    capsys.readouterr()
    assert main(["changes", "--since", "warehouse", *HERE]) == 13
    told = capsys.readouterr()
    assert told.out == "" and "prune deleted it" in told.err and "floodmark history" in told.err
    reader.cursor("warehouse").advance(reader.latest())
    assert len(changes(capsys, "--since", "warehouse")) == 1
    with pytest.raises(ObjectMissing):
        reader.row_changes(days[0])


def test_a_run_that_is_pruned_or_unknown_is_refused_with_what_is_left(days: list[str], capsys: CapSys) -> None:
    assert main(["prune", "--keep-last", "1", "--grace", "0", *HERE]) == 0
    capsys.readouterr()
    for name in (days[0], "20200101", "nobody"):
        assert main(["changes", "--since", name, *HERE]) == 2
        told = capsys.readouterr()
        assert told.out == "" and f"the oldest run that is left is {days[1]}" in told.err, told.err
    assert main(["changes", "--since", "../x", *HERE]) == 2
    assert main(["changes", "nothing", "--since", days[1], *HERE]) == 10


def test_text_counts_and_holds_no_value(days: list[str], capsys: CapSys) -> None:
    assert main(["changes", "--since", days[0], *HERE]) == 0
    told = capsys.readouterr().out
    rows = [line.split()[:5] for line in told.splitlines()]
    assert ["main.person", "rows", "2", "0", "2"] in rows and ["main.fresh", "created", "1", "0", "0"] in rows
    assert f"3 tables changed from {days[0]} to run {days[1]}" in told and CANARY not in told


def test_a_damaged_object_ends_it_with_14_and_nothing_of_the_table(days: list[str], capsys: CapSys) -> None:
    for path in Path("out").rglob("person-*.gz"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = changes(capsys, "person", "--since", days[0], code=14)
    assert [one["op"] for one in found] in ([], ["compare"])


def test_a_value_can_t_steer_a_terminal(capsys: CapSys) -> None:
    first = run(capsys, "CREATE TABLE t (s TEXT)")
    run(capsys, "INSERT INTO t VALUES (char(155) || '31m')")
    streams, out, _ = command_streams({}, out=Tty())
    assert call(parse(["changes", "--since", first, "--output", "jsonl", *HERE]), streams) == 0
    assert "\x9b" not in out.getvalue() and "31m" in out.getvalue()


def test_a_whole_table_is_one_change_or_none(days: list[str]) -> None:
    reader = open_landed("out")
    found = list(reader.row_changes(days[0], tables=[TableName("main", "same"), TableName("main", "old")]))
    assert [(one.op, one.table.name) for one in found] == [("gone", "old")] and isinstance(found[0], TableChange)
