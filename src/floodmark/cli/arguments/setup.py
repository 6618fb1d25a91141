"""The grammar of the commands that set Floodmark up or show it: init, config, demo and completion."""

from __future__ import annotations

from pathlib import Path

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands, Parser
from floodmark.layout import LAYOUTS

SHELLS = ("bash", "zsh", "fish")

_INIT = CommandHelp(
    summary="write a floodmark.yaml, and ask for values on a terminal",
    description=(
        "Write a floodmark.yaml in which each key is explained, and a JSON Schema for editors. If the database can be "
        "reached, the file suggests masks for columns that might hold personal data. It overwrites no file and writes "
        "no password."
    ),
    variables=("FLOODMARK_SOURCE", "PGHOST, PGDATABASE, …", "FLOODMARK_DESTINATION"),
    examples=(
        "floodmark init",
        "floodmark init --source postgresql://me@db/cases --destination s3://lake/cases",
    ),
    exit_codes=(10, 12),
)
_CONFIG = CommandHelp(
    summary="print what editors and other tools need for floodmark.yaml",
    description="Print the JSON Schema of floodmark.yaml. It reads no file and no environment variable.",
    variables=(),
    examples=("floodmark config schema", "floodmark config schema > floodmark.schema.json"),
    exit_codes=(),
)
_DEMO = CommandHelp(
    summary="play three days of a service's database, on a real PostgreSQL or MariaDB",
    description=(
        "Start a private server, fill it with an invented service, and run three times: on the first day, on a day "
        "without changes, and on a day with a few changes. It needs the extra `demo` for PostgreSQL. For MariaDB it "
        "needs the extra `mysql` and an installed server (on Debian: apt-get install mariadb-server)."
    ),
    variables=("NO_COLOR",),
    examples=("floodmark demo", "floodmark demo --source mariadb --directory /tmp/demo"),
    exit_codes=(3, 10, 12, 13),
)
_COMPLETION = CommandHelp(
    summary="print a completion script for a shell",
    description=(
        "Print a script that completes commands and options in bash, zsh or fish. Load it in the shell's start-up "
        "file, or save it in the folder where the shell looks for completions."
    ),
    variables=(),
    examples=(
        'eval "$(floodmark completion bash)"',
        "floodmark completion fish > ~/.config/fish/completions/floodmark.fish",
    ),
    exit_codes=(),
)


def add_init(commands: Commands) -> None:
    init = commands.add("init", _INIT)
    init.add_argument("--layout", choices=tuple(LAYOUTS), help="the layout of the destination")
    groups.add_places(init, source=True)


def add_config(commands: Commands) -> None:
    config = commands.add("config", _CONFIG)
    inner = config.add_subparsers(
        dest="config_command", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )
    description = "Print the JSON Schema of floodmark.yaml."
    schema = inner.add_parser("schema", help="print the JSON Schema of floodmark.yaml", description=description)
    schema.add_argument("--contract", action="store_true", help="that of floodmark.contract.yaml instead")


def add_demo(commands: Commands) -> None:
    demo = commands.add("demo", _DEMO)
    demo.add_argument(
        "--directory",
        type=Path,
        default=Path("floodmark-demo"),
        metavar="D",
        help="the folder of the demo's files (default: floodmark-demo)",
    )
    demo.add_argument(
        "--source", choices=("postgresql", "mariadb"), default="postgresql", help="the server (default: postgresql)"
    )


def add_completion(commands: Commands) -> None:
    commands.add("completion", _COMPLETION).add_argument("shell", choices=SHELLS, help="the shell")
