"""The commands. Each takes its options, calls the package that does the work, and shows the result.

A command's module is imported when the command is called, so that `floodmark --version` loads none of them.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import cast

from floodmark.cli.output.streams import CommandStreams

# The module of each command. The function in it has the command's name.
MODULES = {
    "run": "run",
    "plan": "plan",
    "status": "history",
    "history": "history",
    "show": "history",
    "diff": "diff",
    "cat": "cat",
    "load": "load",
    "schema": "schema",
    "deliver": "deliver",
    "exporter": "exporter",
    "verify": "verify",
    "prune": "prune",
    "notify": "notify",
    "journal": "journal",
    "doctor": "doctor",
    "init": "init",
    "config": "config",
    "demo": "demo",
    "completion": "completion",
}


# The commands that a signal ends at the next safe point.
INTERRUPTIBLE = frozenset({"run", "plan", "load", "deliver", "verify", "prune"})


def call(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Call the command that was parsed, and return its exit code."""
    module = import_module(f"floodmark.cli.commands.{MODULES[options.command]}")
    return cast(int, getattr(module, options.command)(options, streams))
