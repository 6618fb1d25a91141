"""The grammar of the command line. Each group of commands has a module, and `groups` holds the options they share.

A wrong command line raises UsageError. The message repeats no value, because one can be a URL with a password.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from floodmark.cli.arguments.consumers import add_deliver, add_load, add_schema
from floodmark.cli.arguments.contract import add_contract
from floodmark.cli.arguments.journal import add_journal
from floodmark.cli.arguments.looking import add_cat, add_changes, add_diff
from floodmark.cli.arguments.maintenance import add_doctor, add_exporter, add_prune, add_report, add_verify
from floodmark.cli.arguments.notifications import add_notify
from floodmark.cli.arguments.parser import WHAT, Commands, Parser, without_urls
from floodmark.cli.arguments.runs import add_history, add_runs
from floodmark.cli.arguments.setup import add_completion, add_config, add_demo, add_init
from floodmark.cli.version_text import version_text
from floodmark.errors import UsageError
from floodmark.wording import plural

_DESCRIPTION = (
    "Land a database in S3, or in a folder, every night. Floodmark moves only what changed, and proves that the rest "
    "did not change. Run `floodmark COMMAND --help` for a command's options and examples."
)
# Each function with the commands that it adds.
_GROUPS = (
    (add_runs, ("run", "plan")),
    (add_history, ("status", "history", "show")),
    (add_diff, ("diff",)),
    (add_changes, ("changes",)),
    (add_cat, ("cat",)),
    (add_load, ("load",)),
    (add_schema, ("schema",)),
    (add_deliver, ("deliver",)),
    (add_report, ("report",)),
    (add_exporter, ("exporter",)),
    (add_verify, ("verify",)),
    (add_prune, ("prune",)),
    (add_notify, ("notify",)),
    (add_journal, ("journal",)),
    (add_contract, ("contract",)),
    (add_doctor, ("doctor",)),
    (add_init, ("init",)),
    (add_config, ("config",)),
    (add_demo, ("demo",)),
    (add_completion, ("completion",)),
)


class _Version(argparse.Action):
    """The option --version. Raises SystemExit, and ConfigError if the environment chooses an unknown encoder."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(version_text())
        parser.exit()


def parser(command: str | None = None) -> Parser:
    """Return the parser of the whole command line, or of the part with a command, which takes less time to make."""
    top = Parser(prog="floodmark", description=_DESCRIPTION)
    top.add_argument("--version", action=_Version, nargs=0, help="print the version, and the encoder of lines in use")
    commands = Commands(top)
    found = [add for add, names in _GROUPS if command in names]
    for add in found or (add for add, _ in _GROUPS):
        add(commands)
    commands.complete()
    return top


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line. Raises UsageError, and SystemExit after --help, --version and an empty line."""
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser().print_help()
        raise SystemExit(0)
    top = parser(given[0])
    _require_command(top, given[0])
    options, extra = top.parse_known_args(given)
    if extra:
        _refuse(parser(), options.command, extra)
    return options


def option_strings(command: str | None = None) -> list[str]:
    """Return the options of a command, or of `floodmark` itself, except --help."""
    top = parser()
    return _options(top if command is None else subcommands(top)[command])


def subcommands(top: Parser) -> dict[str, Parser]:
    """Return a parser's commands by name. A command with only options has none."""
    actions = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return {name: command for action in actions for name, command in action.choices.items()}


def _require_command(top: Parser, word: str) -> None:
    """Refuse a first word that is neither a command nor an option of `floodmark` itself. The error omits the word."""
    commands = subcommands(top)
    if word in commands or word in ("-h", "--help", *_options(top)):
        return
    if word.startswith("-"):
        why, hint = "there is an option before the command", "Write floodmark COMMAND [OPTION …]."
    else:
        why, hint = "there is no such command", _did_you_mean(word, commands).rstrip()
    raise UsageError(WHAT, why=why, hint=f"{hint} See `floodmark --help`.".lstrip())


def _refuse(top: Parser, command: str, extra: Sequence[str]) -> NoReturn:
    """Raise the error for unknown arguments. It names options and only counts the other arguments."""
    names = [text.partition("=")[0] for text in extra if text.startswith("-")]
    commands = subcommands(top)
    if not names:
        why = f"{plural(len(extra), 'argument')} too many"
        raise UsageError(WHAT, why=why, hint=f"See `floodmark {command} --help`.")
    having = [name for name, found in commands.items() if names[0] in _options(found)]
    hint = _did_you_mean(names[0], _options(commands[command]))
    if having:
        hint = f"{', '.join(having)} {'has' if len(having) == 1 else 'have'} it. "
    raise UsageError(
        WHAT,
        why=f"{command} has no option {without_urls(names[0])}",
        hint=f"{hint}See `floodmark {command} --help`.",
    )


def _options(of: Parser) -> list[str]:
    """Return a parser's options, except --help."""
    return [text for action in of._actions for text in action.option_strings if text not in ("-h", "--help")]


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    from floodmark.config.document import did_you_mean  # noqa: PLC0415 - by need: settings take long to load

    return did_you_mean(word, known)
