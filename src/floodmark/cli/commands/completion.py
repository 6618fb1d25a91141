"""`floodmark completion`: print a completion script for bash, zsh or fish."""

from __future__ import annotations

import argparse

import shtab

from floodmark.cli.arguments import parser
from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import EXIT_OK


def completion(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Print the script. It completes commands, options and their choices."""
    streams.out.write(shtab.complete(parser(), shell=options.shell))
    return EXIT_OK
