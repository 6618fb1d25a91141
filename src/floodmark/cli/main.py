"""The entry point of the console script: from a command line to an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from floodmark.cli import commands
from floodmark.cli.arguments import parse
from floodmark.cli.output.failure import report
from floodmark.cli.output.logs import Log, chosen
from floodmark.cli.output.streams import CommandStreams, Stream, open_closed_streams
from floodmark.cli.output.terminal import is_terminal
from floodmark.cli.signals import StopSignals


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command and return its exit code; see docs/cli.md. Raises nothing."""
    open_closed_streams()
    streams = CommandStreams(Stream(sys.stdout), Stream(sys.stderr, diagnostics=True), environ)
    try:
        options = _options(argv)
        if isinstance(options, int):
            return options
        streams = _with_log(streams, options)
        with streams.signals if options.command in commands.INTERRUPTIBLE else nullcontext():
            code = _call(options, streams)
    except (Exception, KeyboardInterrupt) as error:
        code = report(error, streams)
    streams.err.flush()
    return code


def _call(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Call the command and report its error, while its signals are watched for."""
    try:
        code = commands.call(options, streams)
        streams.out.flush()
        return code
    except Exception as error:
        return report(error, streams)


def _options(argv: Sequence[str] | None) -> argparse.Namespace | int:
    """Return the parsed options, or the exit code if parsing finished the command."""
    try:
        return parse(argv)
    except SystemExit as done:  # --help and --version have printed their output
        return int(done.code or 0)


def _with_log(streams: CommandStreams, options: argparse.Namespace) -> CommandStreams:
    """Return the streams with the log that the options ask for. Short commands have no such options."""
    if not hasattr(options, "log_format"):
        return streams
    terminal, live = is_terminal(streams.err, streams.environ), not getattr(options, "quiet", False)
    style, level = chosen(vars(options), streams.environ, terminal)
    brief = terminal and style == "text" and level in ("warning", "error")
    log = Log(streams.err.line, style, level, brief=brief)
    signals = StopSignals(style, terminal=terminal and live)
    return CommandStreams(streams.out, streams.err, streams.environ, log, signals, live=live)
