"""`floodmark report`: one HTML file about one or many states."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from floodmark.backends import open_ledgers
from floodmark.cli.output.failure import report as report_error
from floodmark.cli.output.files import replace_file
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import several_states
from floodmark.errors import EXIT_OK, StorageError, UsageError
from floodmark.report import StateHistory, UnreadState, read_history, render_html
from floodmark.report.library import require_report_extra
from floodmark.state.ledger import Ledger

STDOUT = "-"


def report(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Write the report. A state that can't be read is shown as such, and the first one's exit code is returned.

    Raises ConfigError if the extra is missing, UsageError if the file can't be written.
    """
    require_report_extra()
    ledgers = open_ledgers(several_states(options, streams), streams.report_retry)
    if options.html != STDOUT:
        _require_folder(Path(options.html))
    histories = [_history(ledger, options.nights) for ledger in ledgers]
    page = render_html(histories, datetime.now(UTC)).encode("utf-8")
    if options.html == STDOUT:
        streams.out.write_bytes(page)
    else:
        _write(Path(options.html), page)
    return _told_problems(histories, ledgers, streams)


def _history(ledger: Ledger, nights: int) -> StateHistory | UnreadState:
    try:
        return read_history(ledger, nights)
    except StorageError as error:
        return UnreadState(ledger.url, error)


def _told_problems(
    histories: Sequence[StateHistory | UnreadState], ledgers: Sequence[Ledger], streams: CommandStreams
) -> int:
    """Tell which states could not be read, and return the first one's exit code."""
    code = EXIT_OK
    for history, ledger in zip(histories, ledgers, strict=True):
        if isinstance(history, UnreadState):
            problem = report_error(history.error, streams)
            code = code or problem
        elif not history.committed:
            streams.notice(f"no run has been committed yet: {ledger.url}")
    return code


def _require_folder(path: Path) -> None:
    """Raise UsageError before a long reading if the file can't be written for a plain reason."""
    if path.is_dir():
        raise UsageError("the report can't be written", on=str(path), why="it is a folder", hint="Name a file in it.")
    if not path.parent.is_dir():
        hint = f"Create {path.parent}, or name a file in an existing folder."
        raise UsageError("the report can't be written", on=str(path), why="its folder does not exist", hint=hint)


def _write(path: Path, page: bytes) -> None:
    try:
        replace_file(path, page)
    except OSError as error:
        hint = "Make its folder writable, or name another file."
        raise UsageError("the report can't be written", on=str(path), why=error.strerror, hint=hint) from None
