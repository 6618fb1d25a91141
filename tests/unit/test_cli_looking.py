"""`diff` and `cat`: which runs and tables they take, their exit codes, and rows on stdout and nowhere else."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from fix_cli import EVIL, Tty, command_streams, entry, manifest
from floodmark.cli import landed
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.main import main
from floodmark.differences import ManifestDifference
from floodmark.escaping import printable_rows
from floodmark.model import Ended
from floodmark.state.manifest import Inflight, Manifest, Record
from floodmark.state.run_ids import find_runs

CANARY = "c4n4ry-of-a-row"
HERE = ["--destination", "./out"]
Reader = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("FLOODMARK_", "PG")) or name in ("S3_DESTINATION", "NO_COLOR"):
            monkeypatch.delenv(name)


def sql(*statements: str) -> None:
    with closing(sqlite3.connect("a.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def run(capsys: Reader, *options: str) -> str:
    """A run's id."""
    assert main(["run", "--source", "sqlite:///a.db", *HERE, "--output", "json", *options]) == 0
    return str(json.loads(capsys.readouterr().out)["run_id"])


@pytest.fixture
def days(capsys: Reader) -> list[str]:
    """Three runs, oldest first. On each later day something else is different."""
    sql("CREATE TABLE person (id INTEGER, name TEXT)", f"INSERT INTO person VALUES (1, '{CANARY}'), (2, NULL)")
    first = run(capsys)
    sql("INSERT INTO person VALUES (3, '')", "CREATE TABLE place (id INTEGER)")
    second = run(capsys)
    sql("ALTER TABLE place ADD COLUMN name TEXT")
    return [first, second, run(capsys)]


def diff(capsys: Reader, *arguments: str, code: int = 0) -> dict[str, str]:
    """The change of each table."""
    assert main(["diff", *arguments, *HERE, "--output", "json"]) == code
    return {table["name"]: table["change"] for table in json.loads(capsys.readouterr().out)["tables"]}


# --- diff ------------------------------------------------------------------------------------------------------


def test_diff_compares_the_current_run_with_its_parent_a_run_with_the_current_one_or_two(
    days: list[str], capsys: Reader
) -> None:
    first, second, third = days
    assert diff(capsys) == {"person": "unchanged", "place": "changed"}
    assert diff(capsys, first) == diff(capsys, first, "current") == {"person": "changed", "place": "added"}
    assert diff(capsys, first, second) == {"person": "changed", "place": "added"}
    assert diff(capsys, "current", first) == diff(capsys, third, first) == {"person": "changed", "place": "dropped"}
    assert diff(capsys, second, second) == {"person": "unchanged", "place": "unchanged"}


def test_diff_as_text(days: list[str], capsys: Reader) -> None:
    assert main(["diff", days[0], *HERE]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith(f"old: {days[0]}, ended ") and lines[1].startswith(f"new: {days[2]}, ended ")
    assert lines[3] == "table change rows before rows +/- size before size details"
    assert lines[4].startswith("main.person changed 2 3 +1 ") and lines[4].endswith("1 of 1 object new, 1 gone")
    assert lines[5:7] == [
        "main.place added - 0 0 - 0 B 0 objects",
        lines[6],
    ]
    assert lines[6].startswith("2 tables: 1 added, 0 dropped, 1 changed, 0 unchanged; rows 2 to 3 (+1), size ")
    assert main(["diff", *HERE]) == 0
    folded = capsys.readouterr().out
    assert "1 table unchanged; --verbose lists them" in folded and "main.person" not in folded
    assert main(["diff", *HERE, "--verbose"]) == 0
    shown = capsys.readouterr().out
    assert "main.person  unchanged" in shown and "--verbose" not in shown


def test_diff_ends_with_20_if_asked_and_there_is_a_difference(days: list[str], capsys: Reader) -> None:
    assert diff(capsys, "--detailed-exitcode", code=20)
    assert diff(capsys, days[2], "--detailed-exitcode") == {"person": "unchanged", "place": "unchanged"}


def test_the_first_run_is_all_new(capsys: Reader) -> None:
    sql("CREATE TABLE person (id INTEGER)")
    run_id = run(capsys)
    assert diff(capsys, "--detailed-exitcode", code=20) == {"person": "added"}
    assert main(["diff", *HERE]) == 0
    assert capsys.readouterr().out.startswith(f"old:      none: this is the first run\nnew:      {run_id}, ")


def test_a_run_that_is_pruned_or_unknown_is_refused(days: list[str], capsys: Reader) -> None:
    assert main(["prune", *HERE, "--keep-last", "1", "--grace", "0"]) == 0
    capsys.readouterr()
    refusals = {
        (): f"the run before the current one is not known: {days[2]}: prune has cut history there",
        (days[0],): f"this run is not known: {days[0]}: history holds no such run",
        (days[2], "2020"): "this run is not known: 2020: history holds no such run",
        ("current", f"postgresql://u:{CANARY}@h"): "this is no run's id",
    }
    for arguments, told in refusals.items():
        assert main(["diff", *arguments, *HERE]) == 2
        said = capsys.readouterr()
        assert told in said.err and "floodmark history" in said.err and said.out == "" and CANARY not in said.err
    assert main(["diff", "a", "b", "c", *HERE]) == 2
    assert "1 argument too many" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["diff"], ["cat", "person"]])
def test_before_the_first_run_they_say_where_they_looked(command: list[str], capsys: Reader) -> None:
    assert main([*command, *HERE]) == 13
    said = capsys.readouterr()
    assert "/out/_floodmark: no head.json is there" in said.err and said.out == ""
    assert main([*command, "--destination", "s3://moj-reg-dev/x"]) == 10
    assert "there is no state to read" in capsys.readouterr().err


def test_two_runs_are_found_in_one_pass_over_history() -> None:
    runs = [manifest(run_id=f"2026112{day}T010203Z-aaaaaa") for day in range(5, 0, -1)]
    read: list[Manifest] = []

    def history() -> Any:
        for one in runs:
            read.append(one)
            yield one

    assert find_runs(history(), [runs[3].run_id, runs[1].run_id]) == [runs[3], runs[1]]
    assert read == runs[:4]
    assert find_runs(history(), []) == [] and read == runs[:4]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the state hold these manifests, the newest first."""

    def stand_in(*manifests: Manifest, inflight: Inflight = Inflight()) -> None:  # noqa: B008
        current = SimpleNamespace(manifest=manifests[0])
        held = SimpleNamespace(
            current=lambda: current,
            history=lambda: iter(manifests),
            in_flight=lambda: inflight,
            require_begun=lambda: None,
        )
        monkeypatch.setattr(landed, "open_ledger", lambda settings, observer: held)

    return stand_in


def test_another_database_is_said_and_names_never_steer_a_terminal(ledger: Callable[..., None], capsys: Reader) -> None:
    old = manifest(entry(EVIL), run_id="20261123T010203Z-aaaaaa")
    moved = replace(manifest(entry(EVIL)).source, database=EVIL, system_identifier="8")
    ledger(replace(manifest(entry(EVIL)), source=moved), old)
    assert main(["diff", "20261123", *HERE, "--detailed-exitcode", "--verbose"]) == 20
    shown = capsys.readouterr().out
    assert "database: not the same in both runs" in shown and "\x1b" not in shown and "x\\x1b[31m" in shown
    assert main(["diff", "20261123", *HERE, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["other_database"] is True


@pytest.mark.parametrize("command", [["diff", "20261122"], ["cat", "person", "--run", "20261122"]])
def test_a_run_that_committed_nothing_is_told_from_an_unknown_one(
    command: list[str], ledger: Callable[..., None], capsys: Reader
) -> None:
    end = Ended(
        run_id="20261122T010203Z-bbbbbb",
        database="cases",
        started_at="2026-11-22T01:02:03Z",
        ended_at="2026-11-22T01:02:04Z",
        outcome="stopped",
        exit_code=143,
    )
    ledger(manifest(entry()), inflight=Inflight(ended=Record(last=end, uncommitted=(end,))))
    assert main([*command, *HERE]) == 2
    told = "this run committed nothing: 20261122T010203Z-bbbbbb: it was stopped with exit code 143"
    assert told in capsys.readouterr().err


def test_the_documented_keys_are_those_of_the_document(capsys: Reader) -> None:
    text = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
    told = text.split("\n## floodmark diff\n")[1].split("\n## ")[0]
    sql("CREATE TABLE person (id INTEGER)")
    run(capsys)
    assert main(["diff", *HERE, "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert tuple(document) == ManifestDifference.__struct_fields__
    keys = {*document, *document["new"], *document["tables"][0], *document["tables"][0]["new"]}
    assert [key for key in keys if f"`{key}`" not in told] == []


# --- cat -------------------------------------------------------------------------------------------------------


def cat(capsys: Reader, *arguments: str) -> str:
    assert main(["cat", *arguments, *HERE]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_cat_writes_rows_as_landed_or_as_csv_of_any_run(days: list[str], capsys: Reader) -> None:
    lines = [f'{{"id":1,"name":"{CANARY}"}}\n', '{"id":2,"name":null}\n', '{"id":3,"name":""}\n']
    assert cat(capsys, "person") == cat(capsys, "main.person", "--format", "jsonl") == "".join(lines)
    assert cat(capsys, "person", "--run", days[0]) == "".join(lines[:2])
    assert cat(capsys, "person", "--run", "current", "--limit", "1") == lines[0]
    assert cat(capsys, "person", "--format", "csv") == f'id,name\n1,{CANARY}\n2,\n3,""\n'
    assert cat(capsys, "place") == "" and cat(capsys, "place", "--format", "csv") == "id,name\n"


def test_csv_of_json_lines_is_what_sqlite_lands_as_csv(capsys: Reader) -> None:
    sql(
        'CREATE TABLE odd ("a,b" TEXT, v, "say ""x""" REAL)',
        "INSERT INTO odd VALUES ('', x'00ff', 0.1), (NULL, NULL, 1e300), ('say \"hi\"' || char(13, 10, 9), 7, -9e999)",
        "INSERT INTO odd VALUES (char(0, 0x1f980) || '\\', 'a,b', 0)",
    )
    run(capsys)
    made = cat(capsys, "odd", "--format", "csv")
    run(capsys, "--format", "csv")
    assert made == cat(capsys, "odd") and made.count("\x00") == 1
    assert main(["cat", "odd", *HERE, "--format", "jsonl"]) == 10
    said = capsys.readouterr()
    assert said.out == "" and "can't make JSON lines of CSV: main.odd" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["persn"], 10, "TABLE: persn: the snapshot has no such table\n  Did you mean main.person?"),
        (["other.person"], 10, "Did you mean main.person"),
        (["p*"], 2, "p*: it matches 2 tables"),
        (["person", "--run", "2020"], 2, "history holds no such run"),
        (["person", "--limit", "0"], 2, "a number from 1 on is expected"),
        (["person", "--format", "xml"], 2, "--format"),
        ([], 2, "TABLE"),
    ],
)
def test_cat_of_what_there_is_not(arguments: list[str], code: int, told: str, days: list[str], capsys: Reader) -> None:
    assert main(["cat", *arguments, *HERE]) == code
    said = capsys.readouterr()
    assert told in said.err and said.out == ""


def test_cat_of_a_table_that_is_gone_names_a_way_to_its_last_rows(days: list[str], capsys: Reader) -> None:
    sql("DROP TABLE person")
    run(capsys)
    assert main(["cat", "person", *HERE]) == 10
    said = capsys.readouterr()
    assert "main.person: it was dropped in run" in said.err and "--run" in said.err and said.out == ""
    assert cat(capsys, "person", "--run", days[2]).count("\n") == 3


def test_cat_of_a_table_that_no_run_could_read(ledger: Callable[..., None], capsys: Reader) -> None:
    ledger(manifest(entry("secret", "failed", "denied", as_of=None)))
    assert main(["cat", "secret", *HERE]) == 10
    assert "public.secret: no run has read it up to run 20261124T010203Z-7f3a9c (denied)" in capsys.readouterr().err


def test_cat_of_a_landing_zone(ledger: Callable[..., None], capsys: Reader) -> None:
    ledger(replace(manifest(entry()), layout="moj-landing"))
    assert main(["cat", "person", *HERE]) == 10
    assert "can't read this destination" in capsys.readouterr().err


DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "a damaged object": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"), 14),
    "a missing object": (Path.unlink, 13),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("row_format", ["jsonl", "csv"])
def test_of_a_broken_object_nothing_is_written(damage: str, row_format: str, days: list[str], capsys: Reader) -> None:
    paths = list(Path("out").rglob("*person*.gz"))
    act, code = DAMAGES[damage]
    for path in paths:
        act(path)
    assert paths and main(["cat", "person", *HERE, "--format", row_format]) == code
    said = capsys.readouterr()
    assert said.out == "" and "person-00000.jsonl.gz" in said.err and CANARY not in said.err


def test_a_value_can_t_steer_a_terminal_and_other_readers_get_it_unaltered(capsys: Reader) -> None:
    evil = "\x9b2J\u202e[red]\x7f\ttab"
    sql("CREATE TABLE odd (t TEXT)", f"INSERT INTO odd VALUES ('{evil}'), ('two' || char(10) || 'lines')")
    run(capsys)
    assert evil.replace("\t", "\\t") in cat(capsys, "odd")
    assert f'\n{evil}\n"two\nlines"\n' in cat(capsys, "odd", "--format", "csv")
    for row_format in ("jsonl", "csv"):
        streams, out, _ = command_streams(out=Tty())
        assert call(parse(["cat", "odd", *HERE, "--format", row_format]), streams) == 0
        assert "\\x9b2J\\u202e[red]\\x7f\\ttab" in out.getvalue()
        assert not set("\x9b\u202e\x7f\t\x1b") & set(out.getvalue())
        assert out.getvalue().count("\n") == (2 if row_format == "jsonl" else 4)
    assert printable_rows(b"a\n\x1b[31m\r\n") == "a\n\\x1b[31m\\r\n"
