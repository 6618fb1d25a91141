"""The command line: parse, call, render, and map an error to its exit code.

Data goes to stdout, diagnostics to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from floodmark.cli.arguments import parse
from floodmark.cli.commands import COMMANDS
from floodmark.cli.failure import report
from floodmark.cli.logs import Log, chosen
from floodmark.cli.output import Session, Stream, is_terminal, open_what_is_closed

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command and return its exit code; see docs/cli.md. Raises nothing."""
    open_what_is_closed()
    session = Session(Stream(sys.stdout), Stream(sys.stderr), environ)
    try:
        options = _options(argv)
        if isinstance(options, int):
            return options
        session = _with_log(session, options)
        code = COMMANDS[options.command](options, session)
        session.out.flush()
    except (Exception, KeyboardInterrupt) as error:
        code = report(error, session)
    session.err.flush()
    return code


def _options(argv: Sequence[str] | None) -> argparse.Namespace | int:
    """Return the parsed options, or the exit code if parsing finished the command."""
    try:
        return parse(argv)
    except SystemExit as asked:  # --help and --version have printed their output
        return int(asked.code or 0)


def _with_log(session: Session, options: argparse.Namespace) -> Session:
    """Return a session with a log if the command is a long one."""
    if not hasattr(options, "log_format"):
        return session
    style, level = chosen(vars(options), session.environ, is_terminal(session.err, session.environ))
    return replace(session, log=Log(session.err.line, style, level))
