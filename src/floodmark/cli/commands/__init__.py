"""The commands. Each takes its options, calls the package that does the work, and shows the result.

A command's module is imported when the command is called, so that `floodmark --version` loads none of them.
"""

from __future__ import annotations

import argparse
import gc
from importlib import import_module
from typing import cast

from floodmark.cli.output.streams import CommandStreams

# The module of each command. The function in it has the command's name.
MODULES = {
    "run": "run",
    "plan": "plan",
    "status": "status",
    "history": "history",
    "show": "history",
    "diff": "diff",
    "changes": "changes",
    "cat": "cat",
    "load": "load",
    "schema": "schema",
    "deliver": "deliver",
    "report": "report",
    "exporter": "exporter",
    "verify": "verify",
    "prune": "prune",
    "notify": "notify",
    "journal": "journal",
    "contract": "contract",
    "doctor": "doctor",
    "init": "init",
    "config": "config",
    "demo": "demo",
    "completion": "completion",
}


# The commands that a signal ends at the next safe point.
INTERRUPTIBLE = frozenset({"run", "plan", "load", "deliver", "verify", "prune"})


# A manifest of a thousand tables is tens of thousands of objects, and none of them is garbage.
_ALLOCATIONS = 50_000


def _collect_less_garbage() -> None:
    """Let the collector look at what a command makes, and less often. It costs a fifth of a short run otherwise."""
    gc.freeze()  # the modules stay until the process ends
    gc.set_threshold(_ALLOCATIONS, 20, 20)
    gc.enable()  # `__main__` did without it while modules were loaded


def call(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Call the command that was parsed, and return its exit code."""
    module = import_module(f"floodmark.cli.commands.{MODULES[options.command]}")
    _collect_less_garbage()
    return cast(int, getattr(module, options.command)(options, streams))
