"""The help of a command: a paragraph, the variables that matter, two examples, and the exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import NamedTuple

# The environment variables that a help text can list, each with a short description.
VARIABLES = {
    "FLOODMARK_SOURCE": "the database to read; can hold a password",
    "PGHOST, PGDATABASE, …": "libpq's own variables, instead of a source URL",
    "FLOODMARK_DESTINATION": "the place of the data",
    "FLOODMARK_STATE": "the place of the state",
    "FLOODMARK_STATES": "the places of several states, divided by spaces",
    "FLOODMARK_MASK_KEY": "the key of the mask `hash`",
    "FLOODMARK_PUSHGATEWAY": "the URL of a Pushgateway",
    "FLOODMARK_LOG_FORMAT": "the default of --log-format",
    "FLOODMARK_LOG_LEVEL": "the default of --log-level",
    "AWS_PROFILE, …": "boto3's own variables, for S3",
    "FLOODMARK_ENCODER": "the maker of PostgreSQL's lines: native or server",
    "FLOODMARK_ENGINE": "the Dask scheduler whose workers do the work",
    "NO_COLOR": "if set, nothing is coloured",
}
# What each exit code means, in the words of docs/cli.md.
EXIT_CODES = {
    0: "success",
    1: "an internal error",
    2: "the command line is wrong",
    3: "some tables failed; or a difference from the contract",
    10: "a setting is missing, unknown or contradictory",
    11: "another process was first",
    12: "the source refused, broke or is not supported",
    13: "the destination, the state store or a channel refused or broke",
    14: "objects, manifest and database do not agree",
    15: "too much is gone, or there is no table: see --accept-loss",
    16: "the Dask cluster can't be reached, has no worker, or broke",
    20: "there is work or a difference, with --detailed-exitcode",
    130: "interrupted (SIGINT)",
    143: "terminated (SIGTERM)",
}


class CommandHelp(NamedTuple):
    """The texts of a command's help. The list of commands shows `summary`. `examples` are command lines."""

    summary: str
    description: str
    variables: tuple[str, ...]
    examples: tuple[str, str]
    exit_codes: tuple[int, ...]


class PlainFormatter(argparse.HelpFormatter):
    """A help formatter that keeps the lines of a text with line breaks, and wraps any other text."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}\n" for line in text.splitlines()).rstrip("\n")


def add_sections(parser: argparse.ArgumentParser, texts: CommandHelp) -> None:
    """Add the sections below the options."""
    codes = (0, 1, 2, *texts.exit_codes)
    parser.add_argument_group("environment", _columns((name, VARIABLES[name]) for name in texts.variables))
    parser.add_argument_group("examples", "\n".join(texts.examples) + "\n")
    parser.add_argument_group("exit codes", _columns((str(code), EXIT_CODES[code]) for code in codes))


def _columns(rows: Iterable[tuple[str, str]]) -> str:
    kept = list(rows)
    width = max((len(name) for name, _ in kept), default=0)
    return "".join(f"{name:<{width}}  {text}\n" for name, text in kept)
