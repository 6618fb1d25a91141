"""`floodmark status`: one state with its tables and last runs, or many states with a line for each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from floodmark.backends import open_ledgers
from floodmark.cli.output import overview, render, render_state, views
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.overview import OverviewDocument, StateSummary
from floodmark.cli.output.render_overview import overview_text
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.views import StatusDocument
from floodmark.cli.settings import several_states
from floodmark.config import Settings
from floodmark.engine.local import LocalThreads
from floodmark.errors import EXIT_OK, FloodmarkError, StorageError
from floodmark.escaping import printable
from floodmark.events import ignore_event
from floodmark.retrying import Patience
from floodmark.state.ledger import Ledger
from floodmark.state.run_list import known_runs

# States that are read at once. One that can't be reached is tried twice: the others wait for it.
_AT_ONCE = 8
_PATIENCE = Patience(tries=2)
# Runs that a summary looks at.
_RUNS = 3


def status(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show the tables of one state, how fresh they are, and the last runs; or show a summary of each of many states."""
    states = several_states(options, streams)
    if len(states) > 1:
        return _show_many(options, streams, states)
    (ledger,) = open_ledgers(states, streams.report_retry)
    now = datetime.now(UTC)
    with prints_if_no_state(StatusDocument(), options, streams):
        document = _read(ledger, options.limit, options.since, now)
    if options.output == "json":
        streams.print_json(document)
    else:
        streams.out.write(_text(document, now, streams, verbose=options.verbose))
    if document.head is None:
        streams.notice_no_run()
    return EXIT_OK


def _read(ledger: Ledger, limit: int, since: datetime | None, now: datetime) -> StatusDocument:
    """Return the status of a state. Raises NoState if no run has ever begun there, StorageError."""
    # The runs come first: their manifests and the current one must not be in memory at once.
    runs = tuple(views.run_summary(run) for run in known_runs(ledger, limit, since))
    current = ledger.current()
    if current is None:
        ledger.require_begun()
        return StatusDocument(runs=runs)
    tables = tuple(views.table_status(entry, now) for entry in current.manifest.tables)
    return StatusDocument(head=current.head, tables=tables, runs=runs, drift=render.drift_of(current.manifest))


def _text(document: StatusDocument, now: datetime, streams: CommandStreams, *, verbose: bool) -> str:
    to = console(streams.out, streams.environ)
    text = ""
    if document.head is not None:
        text += render_state.status_table(document.head, document.tables, now, to, verbose=verbose) + "\n"
        text += render.contract_lines(document.drift, to)
    return text + (render_state.history_table(document.runs, to) if document.runs else "")


def _show_many(options: argparse.Namespace, streams: CommandStreams, states: Sequence[Settings]) -> int:
    """Show a summary of each state. A state that can't be read is listed with the reason, and gives the exit code."""
    ledgers = open_ledgers(states, ignore_event, _PATIENCE)
    now = datetime.now(UTC)
    summaries = overview.worst_first(_summaries(ledgers, options, now))
    if options.output == "json":
        streams.print_json(OverviewDocument(states=tuple(summaries)))
    else:
        streams.out.write(overview_text(summaries, console(streams.out, streams.environ)))
        for one in summaries if options.verbose else ():
            streams.out.write(_details_text(one, now, streams))
    unread = sum(one.error is not None for one in summaries)
    if unread:
        streams.notice(f"{unread} of {len(summaries)} states can't be read")
    return StorageError.exit_code if unread else EXIT_OK


def _summaries(ledgers: Sequence[Ledger], options: argparse.Namespace, now: datetime) -> list[StateSummary]:
    """Return the summaries of the states, read in parallel."""

    def read(ledger: Ledger) -> StateSummary:
        try:
            found = _read(ledger, max(_RUNS, options.limit), None, now)
        except FloodmarkError as error:
            return overview.summary(ledger.url, error, now)
        made = overview.summary(ledger.url, found, now)
        return replace(made, details=_narrowed(found, options)) if options.verbose else made

    done = []
    for _, found in LocalThreads(_AT_ONCE).run_tasks(read, ledgers):
        if isinstance(found, BaseException):
            raise found
        done.append(found)
    return done


def _narrowed(found: StatusDocument, options: argparse.Namespace) -> StatusDocument:
    """Return the status with the runs that the options ask for, as `known_runs` chooses them."""
    since: datetime | None = options.since
    moments = ((one, datetime.fromisoformat(one.finished_at or one.started_at)) for one in found.runs)
    kept = [one for one, moment in moments if since is None or moment >= since]
    return replace(found, runs=tuple(kept[: options.limit]))


def _details_text(one: StateSummary, now: datetime, streams: CommandStreams) -> str:
    if one.details is None:
        return ""
    heading = f"{one.database or '(no commit)'}: {one.state}"
    return f"\n{printable(heading)}\n" + _text(one.details, now, streams, verbose=True)
