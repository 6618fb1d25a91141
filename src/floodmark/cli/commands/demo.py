"""`floodmark demo`: play three days of a service's database on a private server."""

from __future__ import annotations

import argparse
from typing import TextIO, cast

from floodmark.cli.output.streams import CommandStreams
from floodmark.demo import story


def demo(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Run the demo in a directory."""
    out = cast(TextIO, streams.out)  # file-like enough for printing
    return story.main(options.directory, out, source=options.source)
