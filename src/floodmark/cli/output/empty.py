"""The JSON of a command that finds no state: its document with empty lists and nulls."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import NoState


@contextmanager
def prints_if_no_state(document: object, options: argparse.Namespace, streams: CommandStreams) -> Iterator[None]:
    """Print the document if the command ends because there is no state, and JSON was asked for."""
    try:
        yield
    except NoState:
        if getattr(options, "output", "json") == "json":
            streams.print_json(document)
        raise
