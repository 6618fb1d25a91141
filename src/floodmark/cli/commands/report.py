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
from floodmark.engine.local import LocalThreads
from floodmark.errors import EXIT_OK, StorageError, UsageError
from floodmark.events import ignore_event
from floodmark.report import StateHistory, UnreadState, read_history, render_html
from floodmark.report.library import require_report_extra
from floodmark.retrying import Patience
from floodmark.state.ledger import Ledger

STDOUT = "-"
# States that are read at once. Each has a manifest in memory, and a manifest can be large.
_AT_ONCE = 2
# With many states, one that can't be reached must not keep the others waiting for its retries.
_PATIENCE = Patience(tries=2)


def report(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Write the report. A state that can't be read is shown as such, and the first one's exit code is returned.

    Raises ConfigError if the extra is missing, UsageError if the file can't be written.
    """
    require_report_extra()
    states = several_states(options, streams)
    tell, patience = (streams.report_retry, Patience()) if len(states) == 1 else (ignore_event, _PATIENCE)
    ledgers = open_ledgers(states, tell, patience)
    if options.html != STDOUT:
        _require_folder(Path(options.html))
    histories = _histories(ledgers, options.nights)
    page = render_html(histories, datetime.now(UTC)).encode("utf-8")
    if options.html == STDOUT:
        streams.out.write_bytes(page)
    else:
        _write(Path(options.html), page)
    return _told_problems(histories, ledgers, streams)


def _histories(ledgers: Sequence[Ledger], nights: int) -> list[StateHistory | UnreadState]:
    """Return the histories in the order of the ledgers. They are read in parallel."""
    found: dict[str, StateHistory | UnreadState] = {}
    for ledger, history in LocalThreads(_AT_ONCE).run_tasks(lambda one: _history(one, nights), ledgers):
        if isinstance(history, BaseException):
            raise history
        found[ledger.url] = history
    return [found[ledger.url] for ledger in ledgers]


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
