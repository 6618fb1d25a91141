"""The grammar of the commands that write, compare and change the contract."""

from __future__ import annotations

from pathlib import Path

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands, Parser

_CONTRACT = CommandHelp(
    summary="manage the list of approved tables and columns",
    description=(
        "Write, compare and change the contract: the file with the tables and columns that are approved to leave the "
        "database. It reads the source's catalog and the choice of tables in floodmark.yaml. It writes no state. "
        "`check` ends with 3 if the database differs from the contract."
    ),
    variables=("FLOODMARK_SOURCE", "PGHOST, PGDATABASE, …", "NO_COLOR"),
    examples=(
        "floodmark contract check --output json",
        "floodmark contract accept public.person.email",
    ),
    exit_codes=(3, 10, 12),
)


def add_contract(commands: Commands) -> None:
    contract = commands.add("contract", _CONTRACT)
    inner = contract.add_subparsers(
        dest="contract_command", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )
    description = "Write a contract that approves all selected tables as they are now, for review."
    write = inner.add_parser("write", help="write a first contract, for review", description=description)
    write.add_argument("--force", action="store_true", help="overwrite the file; notes in it stay")
    description = "Compare the database with the contract. The exit code is 3 if there is a difference."
    check = inner.add_parser("check", help="compare the database with the contract", description=description)
    groups.add_output(check)
    description = (
        "Take over tables or columns as the source has them now. One that the source no longer has leaves the contract."
    )
    accept = inner.add_parser("accept", help="approve a table or a column as it is", description=description)
    accept.add_argument(
        "approved", nargs="+", metavar="NAME", help="TABLE or TABLE.COLUMN, such as public.person.email"
    )
    for command in (write, check, accept):
        places = command.add_argument_group("places")
        places.add_argument("--source", metavar="URL", help="the database to read, without a password")
        places.add_argument(
            "--config", type=Path, metavar="FILE", help="the configuration file (default: floodmark.yaml)"
        )
