"""`floodmark history` and `show`: read the state, and show its runs, one manifest or one table of it."""

from __future__ import annotations

import argparse

from floodmark.backends import open_ledger
from floodmark.cli.landed import committed_runs, named_table
from floodmark.cli.output import render_state, views
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.settings import no_state, state_settings
from floodmark.errors import EXIT_OK
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Manifest
from floodmark.state.run_ids import CURRENT
from floodmark.state.run_list import known_runs


def history(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show the runs, newest first, whatever their end."""
    ledger = _ledger(options, streams)
    summaries = tuple(views.run_summary(run) for run in known_runs(ledger, options.limit, options.since))
    if not summaries:
        with prints_if_no_state(views.HistoryDocument(), options, streams):
            ledger.require_begun()
    if options.output == "json":
        streams.print_json(views.HistoryDocument(runs=summaries))
    elif summaries:
        streams.out.write(render_state.history_table(summaries, console(streams.out, streams.environ)))
    elif options.since is not None:
        streams.notice("no run has ended since then")
    else:
        streams.notice_no_run()
    return EXIT_OK


def show(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show one manifest: the current one, or a run's. With a table, show only its facts."""
    nothing = views.StatusDocument()
    with prints_if_no_state(nothing, options, streams):
        manifest = _manifest(options, streams)
    if manifest is None:
        if options.output == "json":
            streams.print_json(nothing)
        streams.notice_no_run()
        return EXIT_OK
    entry = None if options.one_table is None else named_table(options.one_table, manifest)
    if options.output == "json":
        streams.print_json(manifest if entry is None else entry)
    elif entry is not None:
        streams.out.write(render_state.table_facts(manifest, entry))
    else:
        to = console(streams.out, streams.environ)
        streams.out.write(render_state.manifest_table(manifest, to, verbose=options.verbose))
    return EXIT_OK


def _manifest(options: argparse.Namespace, streams: CommandStreams) -> Manifest | None:
    ledger = _ledger(options, streams)
    if options.run not in (None, CURRENT):
        return committed_runs(ledger, [options.run])[0]
    current = _current(ledger)
    return None if current is None else current.manifest


def _ledger(options: argparse.Namespace, streams: CommandStreams) -> Ledger:
    ledger = open_ledger(state_settings(options, streams), streams.report_retry)
    if ledger is None:
        raise no_state()
    return ledger


def _current(ledger: Ledger) -> Current | None:
    """Return the run that head names, or None before the first commit. Raises NoState if no run has ever begun."""
    current = ledger.current()
    if current is None:
        ledger.require_begun()
    return current
