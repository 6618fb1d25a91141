"""The commands of `floodmark config`, about the configuration file itself."""

from __future__ import annotations

import argparse

from floodmark.cli.output import Session
from floodmark.config.json_schema import json_schema_text
from floodmark.errors import EXIT_OK


def schema(options: argparse.Namespace, session: Session) -> int:
    """Print the JSON Schema of floodmark.yaml."""
    session.out.write_json(json_schema_text())
    return EXIT_OK


COMMANDS = {"schema": schema}
