"""`floodmark config`: print what editors and other tools need for floodmark.yaml."""

from __future__ import annotations

import argparse

from floodmark.cli.output.streams import CommandStreams
from floodmark.config.contract_schema import contract_schema
from floodmark.config.json_schema import json_schema
from floodmark.errors import EXIT_OK


def config(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Print the JSON Schema of floodmark.yaml, or of a contract. `schema` is the group's only command."""
    streams.print_json(contract_schema() if options.contract else json_schema())
    return EXIT_OK
