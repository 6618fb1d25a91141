"""The grammar of the command that tries the channels of notifications."""

from __future__ import annotations

from pathlib import Path

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands, Parser

_NOTIFY = CommandHelp(
    summary="send a test message to those who are told how runs end",
    description=(
        "Send a test message to the channels that `notify` in floodmark.yaml lists, and show which of them took it. "
        "It needs neither a source nor a destination, and ends within ten seconds."
    ),
    variables=("AWS_PROFILE, …",),
    examples=("floodmark notify test", "floodmark notify test --to slack --output json"),
    exit_codes=(10, 13),
)


def add_notify(commands: Commands) -> None:
    notify = commands.add("notify", _NOTIFY)
    inner = notify.add_subparsers(
        dest="notify_command", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )
    description = "Send a test message to the channels in floodmark.yaml. The exit code is 13 if one was not sent."
    test = inner.add_parser("test", help="send a test message to each channel", description=description)
    test.add_argument("--to", metavar="NAME", help="only the channel of this name (default: all)")
    test.add_argument("--config", type=Path, metavar="FILE", help="the configuration file (default: floodmark.yaml)")
    groups.add_output(test)
