"""`floodmark demo`: play three days of a service's database on a private PostgreSQL server."""

from __future__ import annotations

import argparse
from typing import TextIO, cast

from floodmark.cli.output.streams import CommandStreams
from floodmark.demo import story


def demo(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Run the demo in a directory."""
    return story.main(options.directory, cast(TextIO, streams.out))  # file-like enough for printing
