"""`floodmark plan`: show what a run would do with each table, and why. It only reads."""

from __future__ import annotations

import argparse

from floodmark.cli.interruptible import run_interruptible
from floodmark.cli.output import render, views
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.cli.settings import settings_of
from floodmark.errors import EXIT_OK, EXIT_PLAN_HAS_WORK
from floodmark.pipeline import job


def plan(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show the plan. With --detailed-exitcode, the exit code tells if there is work."""
    settings = settings_of(options, streams)
    planned = run_interruptible(
        streams,
        Tally(),
        lambda observer, stop: job.plan(settings, observer, stop),
        lambda: "A plan only reads: nothing was changed.",
    )
    if options.output == "json":
        streams.print_json(views.plan_document(planned))
    else:
        to = console(streams.out, streams.environ)
        streams.out.write(render.contract_lines(planned.drift, to))
        streams.out.write(render.plan_table(planned.tables, to, verbose=options.verbose))
        streams.out.write(render.left_out_lines(planned.left_out, to))
    if planned.refused is not None:
        raise planned.refused
    return EXIT_PLAN_HAS_WORK if options.detailed_exitcode and any(map(views.has_work, planned.tables)) else EXIT_OK
