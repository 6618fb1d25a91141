"""The command line: parse, call, render; map an error to its exit code. stdout is data, stderr is talk."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from floodmark.cli.arguments import parse
from floodmark.cli.commands import COMMANDS
from floodmark.cli.failure import report
from floodmark.cli.output import Session, Stream

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see docs/cli.md. Raises nothing."""
    session = Session(Stream(sys.stdout), Stream(sys.stderr), os.environ)
    try:
        code = _command(argv, session)
        session.out.flush()
    except (Exception, KeyboardInterrupt) as error:
        code = report(error, session)
    session.err.flush()
    return code


def _command(argv: Sequence[str] | None, session: Session) -> int:
    try:
        options = parse(argv)
    except SystemExit as asked:  # --help and --version have printed what they had to
        return int(asked.code or 0)
    return COMMANDS[options.command](options, session)
