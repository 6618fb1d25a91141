"""The command line: parse, call, render; map an error to its exit code. stdout is data, stderr is talk."""

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
    """What was typed, or the exit code where that was all."""
    try:
        return parse(argv)
    except SystemExit as asked:  # --help and --version have printed what they had to
        return int(asked.code or 0)


def _with_log(session: Session, options: argparse.Namespace) -> Session:
    """The session of a command that works for long has a log."""
    if not hasattr(options, "log_format"):
        return session
    style, level = chosen(vars(options), session.environ, is_terminal(session.err, session.environ))
    return replace(session, log=Log(session.err.line, style, level))
