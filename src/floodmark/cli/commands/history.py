"""`floodmark status`, `history` and `show`: read the state, and show tables, runs or one manifest."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from itertools import islice

from floodmark.backends import open_ledger
from floodmark.cli.output import render, views
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.settings import no_state, state_settings
from floodmark.errors import EXIT_OK
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Manifest, encode
from floodmark.state.run_ids import find_run


def status(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show every table, how fresh it is, and the last decision about it."""
    current = _current(_ledger(options, streams), options, streams)
    if current is None:
        return EXIT_OK
    now = datetime.now(UTC)
    tables = [views.table_status(entry, now) for entry in current.manifest.tables]
    if options.output == "json":
        streams.print_json({"head": current.head, "tables": tables})
    else:
        to = console(streams.out, streams.environ)
        streams.out.write(render.status_table(current.head, tables, now, to))
    return EXIT_OK


def history(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show the runs, newest first."""
    found = _ledger(options, streams).history(options.limit)
    summaries = [views.run_summary(manifest) for manifest in islice(found, options.limit)]
    if options.output == "json":
        streams.print_json({"runs": summaries})
    elif summaries:
        streams.out.write(render.history_table(summaries, console(streams.out, streams.environ)))
    else:
        streams.notice_no_run()
    return EXIT_OK


def show(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show one manifest: the current one, or a run's."""
    manifest = _manifest(options, streams)
    if manifest is None:
        return EXIT_OK
    if options.output == "json":
        streams.print_json(encode(manifest))
    else:
        streams.out.write(render.manifest_table(manifest, console(streams.out, streams.environ)))
    return EXIT_OK


def _manifest(options: argparse.Namespace, streams: CommandStreams) -> Manifest | None:
    ledger = _ledger(options, streams)
    if options.run is not None:
        return find_run(ledger.history(), options.run)
    current = _current(ledger, options, streams)
    return None if current is None else current.manifest


def _ledger(options: argparse.Namespace, streams: CommandStreams) -> Ledger:
    ledger = open_ledger(state_settings(options, streams), streams.report_retry)
    if ledger is None:
        raise no_state()
    return ledger


def _current(ledger: Ledger, options: argparse.Namespace, streams: CommandStreams) -> Current | None:
    """Return the run that head names. Before the first commit, say so and return None."""
    current = ledger.current()
    if current is None:
        if options.output == "json":
            streams.print_json({"head": None, "tables": []})
        streams.notice_no_run()
    return current
