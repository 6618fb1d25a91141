"""The parser class of Floodmark's command line, and the way to add a command to it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any, NoReturn

from floodmark.cli.arguments.help import CommandHelp, PlainFormatter, add_sections
from floodmark.cli.output.streams import Stream
from floodmark.cli.output.terminal import is_terminal
from floodmark.errors import UsageError

WHAT = "the command line is not understood"
_URL = re.compile(r"\S*://\S*")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, accepts no abbreviations, and colours its help on a terminal."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]
        self.formatter_class = PlainFormatter
        self.color = False  # Python 3.14 would colour the plain help, too

    def error(self, message: str) -> NoReturn:
        raise UsageError(WHAT, why=without_urls(message), hint=f"See `{self.prog} --help`.")

    def print_help(self, file: Any = None) -> None:
        if file is None and _is_coloured():
            from floodmark.cli.arguments.coloured import ColouredFormatter  # noqa: PLC0415 - by need: it loads rich

            self.formatter_class = ColouredFormatter
        super().print_help(file)


class Commands:
    """The commands of a parser, to which more can be added until it is complete."""

    def __init__(self, top: Parser) -> None:
        self._actions = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
        self._texts: list[tuple[Parser, CommandHelp]] = []

    def add(self, name: str, texts: CommandHelp) -> Parser:
        """Add a command, and return its parser."""
        added: Parser = self._actions.add_parser(name, help=texts.summary, description=texts.description)
        self._texts.append((added, texts))
        return added

    def complete(self) -> None:
        """Add the sections below the options in each command's help."""
        for command, texts in self._texts:
            add_sections(command, texts)


def _is_coloured() -> bool:
    return is_terminal(Stream(sys.stdout), os.environ) and not os.environ.get("NO_COLOR")


def without_urls(text: str) -> str:
    """Hide URLs, because one can hold a password."""
    return _URL.sub("***", text)
