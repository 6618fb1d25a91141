"""The grammar of the commands that look into landed data: diff, changes and cat."""

from __future__ import annotations

from typing import get_args

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands
from floodmark.cli.arguments.values import count
from floodmark.model import Format

_STATE = ("FLOODMARK_DESTINATION", "FLOODMARK_STATE", "AWS_PROFILE, …")

_DIFF = CommandHelp(
    summary="show what differs between two runs",
    description=(
        "Show the tables that were added, dropped or changed between an OLD run and a NEW one: their columns, rows, "
        "sizes and objects. Without OLD, compare the current run with the one before it. Without NEW, compare OLD "
        "with the current one. Runs are named as for `show`. It needs only the state."
    ),
    variables=(*_STATE, "NO_COLOR"),
    examples=(
        "floodmark diff --destination s3://lake/cases",
        "floodmark diff 20261123T0102 current --state s3://lake/state --output json",
    ),
    exit_codes=(10, 13, 20),
)
_CHANGES = CommandHelp(
    summary="show the rows that changed since a run",
    description=(
        "Show the rows that were inserted, updated and deleted since a run, by primary key. Only the objects that "
        "differ between the two snapshots are read. Rows go to stdout with --output jsonl; text only counts them."
    ),
    variables=(*_STATE, "NO_COLOR"),
    examples=(
        "floodmark changes --since 20261123T0102 --destination s3://lake/cases",
        "floodmark changes person --since etl --output jsonl --state s3://lake/state",
    ),
    exit_codes=(10, 13, 14, 130),
)
_CAT = CommandHelp(
    summary="write the rows of one table to stdout",
    description=(
        "Write the rows of one table to stdout, in order. No byte of an object is written before the whole object "
        "matches its checksums. On a terminal, characters that could control it are escaped."
    ),
    variables=_STATE,
    examples=(
        "floodmark cat public.person --destination s3://lake/cases --limit 10",
        "floodmark cat person --run 20261123T0102 --format csv --state s3://lake/state",
    ),
    exit_codes=(10, 13, 14, 130),
)


def add_diff(commands: Commands) -> None:
    diff = commands.add("diff", _DIFF)
    diff.add_argument("old_run", nargs="?", metavar="OLD", help="the older run (default: the one before the current)")
    diff.add_argument("new_run", nargs="?", metavar="NEW", help="the newer run (default: the current one)")
    diff.add_argument(
        "--detailed-exitcode", action="store_true", help="exit with 20 if there is a difference, 0 if not"
    )
    groups.add_verbosity(diff, quiet=False)
    groups.add_output(diff)
    groups.add_places(diff, source=False)


def add_changes(commands: Commands) -> None:
    changes = commands.add("changes", _CHANGES)
    changes.add_argument(
        "tables", nargs="*", metavar="TABLE", help="only these tables: names or patterns as in tables.include"
    )
    changes.add_argument(
        "--since", required=True, metavar="RUN|CURSOR", help="the older run, or the cursor of a consumer"
    )
    changes.add_argument("--run", metavar="RUN", help="the newer run (default: the current run)")
    changes.add_argument(
        "--output", choices=("text", "jsonl"), default="text", help="the form of stdout (default: text)"
    )
    groups.add_places(changes, source=False)


def add_cat(commands: Commands) -> None:
    cat = commands.add("cat", _CAT)
    cat.add_argument("one_table", metavar="TABLE", help="the table: schema.table, or its name in the default schema")
    cat.add_argument("--run", metavar="RUN", help="the rows of this run's snapshot (default: the current run)")
    cat.add_argument("--limit", type=count, metavar="N", help="write only the first N rows, and read no more objects")
    cat.add_argument(
        "--format", dest="row_format", choices=get_args(Format), help="the form of the rows (default: as landed)"
    )
    groups.add_places(cat, source=False)
