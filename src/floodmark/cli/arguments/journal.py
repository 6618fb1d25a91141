"""The grammar of the commands that manage the change journal in a PostgreSQL source."""

from __future__ import annotations

import argparse
from pathlib import Path

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands, Parser
from floodmark.cli.arguments.values import span

_JOURNAL = CommandHelp(
    summary="manage the change journal in a PostgreSQL source",
    description=(
        "Install, watch and remove the change journal: triggers in the source that record which tables were written. "
        "With it, a run knows that a table is unchanged without reading it. It needs a role that owns the tables, and "
        "the extra `journal` to install and remove. With --sql, it prints the SQL instead of running it."
    ),
    variables=("FLOODMARK_SOURCE", "PGHOST, PGDATABASE, …"),
    examples=(
        "floodmark journal install --sql --grant-to floodmark > journal.sql",
        "floodmark journal enable 'public.*' --source postgresql://owner@db/cases",
    ),
    exit_codes=(10, 12),
)


def add_journal(commands: Commands) -> None:
    journal = commands.add("journal", _JOURNAL)
    inner = journal.add_subparsers(
        dest="journal_command", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )
    _add_install(inner)
    _add_tables(inner, "enable", "record writes to tables", "Create the missing triggers on tables, and repair others.")
    status = inner.add_parser(
        "status", help="show the journal's state", description="Show the journal's revision, tables and triggers."
    )
    groups.add_output(status)
    _add_source(status)
    _add_tables(inner, "disable", "stop recording", "Remove the triggers from tables and from their partitions.")
    _add_trim(inner)
    remove = inner.add_parser(
        "remove", help="remove the journal", description="Remove all triggers, and the schema with all it holds."
    )
    _add_sql(remove)
    _add_source(remove)


def _add_install(inner: argparse._SubParsersAction[Parser]) -> None:
    description = "Create the schema floodmark with the journal, or bring it up to date. No table is changed."
    install = inner.add_parser("install", help="create the journal's schema", description=description)
    install.add_argument(
        "--grant-to",
        action="append",
        default=[],
        metavar="ROLE",
        help="let this role read it; can be repeated",
    )
    _add_sql(install)
    install.add_argument(
        "--from",
        dest="start",
        metavar="REVISION",
        help="the installed revision, for --sql (default: base, for no journal)",
    )
    _add_source(install)


def _add_tables(inner: argparse._SubParsersAction[Parser], name: str, help: str, description: str) -> None:
    command = inner.add_parser(name, help=help, description=description)
    command.add_argument("table", nargs="+", metavar="TABLE", help="a table or a pattern, such as 'public.*'")
    _add_sql(command)
    _add_source(command)


def _add_trim(inner: argparse._SubParsersAction[Parser]) -> None:
    description = "Delete the rows that only runs from before a time span need."
    trim = inner.add_parser("trim", help="delete old rows of the journal", description=description)
    trim.add_argument(
        "--keep", type=span, default=30 * 86400, metavar="SPAN", help="keep the rows of this time span (default: 30d)"
    )
    _add_source(trim)


def _add_sql(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sql", action="store_true", help="print the SQL, and change nothing")


def _add_source(command: argparse.ArgumentParser) -> None:
    places = command.add_argument_group("places")
    places.add_argument("--source", metavar="URL", help="the database, without a password")
    places.add_argument("--config", type=Path, metavar="FILE", help="the configuration file (default: floodmark.yaml)")
