"""The command line: what arrives where, and how a wrong one is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from floodmark.cli.arguments import option_strings, parse, parser, subcommands
from floodmark.cli.main import main
from floodmark.cli.settings import flags
from floodmark.config import Flags, Secret
from floodmark.errors import UsageError

CANARY = "c4n4ry-hunter2"


@pytest.mark.parametrize("command", ["run", "plan"])
def test_every_option_arrives(command: str) -> None:
    line = (
        f"{command} --source sqlite:///a.db --destination s3://b/c --state s3://d/e --config f.yaml "
        "--table a --table b --exclude c --exclude d --full --adopt-source --allow-unconditional-writes "
        "--connections 3 --output json"
    )
    options = parse(line.split())
    assert options.output == "json"
    assert flags(options) == Flags(
        config=Path("f.yaml"),
        source=Secret("sqlite:///a.db"),
        destination="s3://b/c",
        state="s3://d/e",
        tables=("a", "b"),
        exclude=("c", "d"),
        connections=3,
        full=True,
        adopt_source=True,
        allow_unconditional_writes=True,
    )


@pytest.mark.parametrize("command", ["run", "plan", "status", "history", "show", "diff"])
def test_nothing_given_is_nothing_set(command: str) -> None:
    options = parse([command])
    assert flags(options) == Flags()
    assert options.output == "text"


def test_what_single_commands_take() -> None:
    assert parse(["plan", "--detailed-exitcode"]).detailed_exitcode is True
    assert parse(["plan"]).detailed_exitcode is False
    assert parse(["history"]).limit == 20
    assert parse(["history", "--limit", "3"]).limit == 3
    assert parse(["show"]).run is None
    assert parse(["show", "x-1"]).run == "x-1"
    diff = parse(["diff", "x-1", "current", "--detailed-exitcode"])
    assert (diff.old_run, diff.new_run, diff.detailed_exitcode) == ("x-1", "current", True)
    cat = parse(["cat", "person", "--run", "x-1", "--format", "csv", "--limit", "7"])
    assert (cat.one_table, cat.run, cat.row_format, cat.limit) == ("person", "x-1", "csv", 7)
    assert flags(cat) == Flags()
    changes = parse(["changes", "person", "p*", "--since", "x-1", "--output", "jsonl"])
    assert (changes.tables, changes.since, changes.run, changes.output) == (["person", "p*"], "x-1", None, "jsonl")
    assert parse(["verify", "x-1", "--deep"]).run == "x-1"
    prune = parse(["prune", "--erase-before", "2026-11-01T02:00:00+02:00", "--grace", "1d"])
    assert (prune.erase_before, flags(prune).grace) == (datetime(2026, 11, 1, tzinfo=UTC), "1d")
    assert parse(["demo"]).directory == Path("floodmark-demo")
    assert parse(["demo", "--directory", "d"]).directory == Path("d")


def test_the_commands_and_their_options() -> None:
    assert list(subcommands(parser())) == [
        "run",
        "plan",
        "status",
        "history",
        "show",
        "diff",
        "changes",
        "cat",
        "load",
        "schema",
        "deliver",
        "report",
        "exporter",
        "verify",
        "prune",
        "notify",
        "journal",
        "contract",
        "doctor",
        "init",
        "config",
        "demo",
        "completion",
    ]
    assert list(option_strings()) == ["--version"]
    assert "--detailed-exitcode" in option_strings("plan") and "--detailed-exitcode" not in option_strings("run")


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: floodmark") and "verify" in said.out and said.err == ""


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("rum", ["no such command", "Did you mean run?", "floodmark --help"]),
        ("verfy --deep", ["no such command", "Did you mean verify?"]),
        ("warehouse", ["no such command", "floodmark --help"]),
        ("journal", ["COMMAND", "floodmark journal --help"]),
        ("journal enable", ["TABLE", "floodmark journal enable --help"]),
        ("journal trim --keep soon", ["--keep", "time span"]),
        ("--output json status", ["before the command", "floodmark COMMAND"]),
        ("--tables t run", ["before the command"]),
        ("config", ["COMMAND", "floodmark config --help"]),
        ("config shema", ["schema"]),
        ("config schema x", ["1 argument too many"]),
        ("config schema --output json", ["config has no option --output"]),
        ("verify a b", ["1 argument too many"]),
        ("prune", ["--keep-days", "--keep-last", "--erase-before", "required"]),
        ("prune --keep-last 0", ["--keep-last", "from 1"]),
        ("prune --keep-last 3 --keep-days 3", ["not allowed with"]),
        ("prune --erase-before yesterday", ["--erase-before", "date, such as"]),
        ("prune --erase-before 2999-01-01", ["--erase-before", "future"]),
        ("run --tabel x", ["run has no option --tabel", "Did you mean --table?"]),
        ("run --tab x", ["run has no option --tab", "Did you mean --table?"]),
        ("run --detailed-exitcode", ["run has no option --detailed-exitcode", "plan, diff have it"]),
        (
            "status --source sqlite:///x.db",
            ["status has no option --source", "run, plan, verify, doctor, init, demo have it"],
        ),
        ("run x y", ["2 arguments too many", "floodmark run --help"]),
        ("show a b c", ["1 argument too many"]),
        ("run --connections 0", ["--connections", "from 1"]),
        ("run --connections x", ["--connections"]),
        ("history --limit -1", ["--limit"]),
        ("run --output xml", ["--output", "json"]),
        ("run --source", ["--source", "expected one argument"]),
        ("run --full=1", ["--full"]),
    ],
)
def test_a_wrong_command_line(line: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert caught.value.exit_code == 2
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        f"run --sorce postgresql://u:{CANARY}@h/db",
        f"run --sorce=postgresql://u:{CANARY}@h/db",
        f"run postgresql://u:{CANARY}@h/db",
        f"run password={CANARY}",
        f"postgresql://u:{CANARY}@h/db",
        CANARY,
        f"run --connections postgresql://u:{CANARY}@h/db",
        f"run --output postgresql://u:{CANARY}@h/db",
        f"run --full=postgresql://u:{CANARY}@h/db",
        f"run -postgresql://u:{CANARY}@h/db",
    ],
)
def test_a_wrong_command_line_is_never_repeated(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("command", list(subcommands(parser())))
def test_the_parser_of_one_command_is_a_part_of_the_whole(command: str) -> None:
    """A command is parsed by a parser that has few others, so each must be found in its group."""
    part, whole = subcommands(parser(command)), subcommands(parser())
    assert command in part and len(part) <= 3
    assert part[command].format_help() == whole[command].format_help()
