"""`floodmark run`: extract what changed, publish a manifest, and show each table's outcome."""

from __future__ import annotations

import argparse

from floodmark.cli.output import render
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.cli.settings import settings_of
from floodmark.cli.signals import Work, run_interruptible
from floodmark.config import Settings
from floodmark.errors import EXIT_OK, EXIT_PARTIAL
from floodmark.pipeline import job
from floodmark.pipeline.publish import RunResult
from floodmark.state.manifest import encode


def run(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Run, with metrics if the settings ask for them, and make the configured deliveries."""
    settings = settings_of(options, streams)
    if settings.metrics.wanted:
        return _run_with_metrics(options, streams, settings)
    return _run(options, streams, settings, lambda observer, stop: job.run(settings, observer, stop.event))


def _run_with_metrics(options: argparse.Namespace, streams: CommandStreams, settings: Settings) -> int:
    from floodmark.cli.commands.metered_run import MeteredRun  # noqa: PLC0415 - by need: few runs serve metrics

    with MeteredRun(settings, streams.environ) as metered:
        return _run(options, streams, settings, metered.run)


def _run(options: argparse.Namespace, streams: CommandStreams, settings: Settings, work: Work[RunResult]) -> int:
    tally = Tally()
    result = run_interruptible(streams, tally, work)
    if options.output == "json":
        streams.print_json(encode(result.manifest))
    else:
        streams.out.write(_text(result, tally, settings, streams, options))
    return _deliver(settings, streams) or (EXIT_PARTIAL if result.failed else EXIT_OK)


def _text(
    result: RunResult, tally: Tally, settings: Settings, streams: CommandStreams, options: argparse.Namespace
) -> str:
    to = console(streams.out, streams.environ)
    if options.quiet:
        return render.problems(result.manifest, to)
    where = _manifest_place(settings, result)
    return render.run_table(result.manifest, tally.counts(), to, verbose=options.verbose) + render.run_line(
        result.manifest, result.uploaded_bytes, result.duration_seconds, where, to
    )


def _manifest_place(settings: Settings, result: RunResult) -> str:
    if settings.state_url is None or result.manifest_key is None:
        return "no manifest: this run has no state"
    return f"manifest {settings.state_url.rstrip('/')}/{result.manifest_key}"


def _deliver(settings: Settings, streams: CommandStreams) -> int:
    """Make the configured deliveries. Returns 0, or the exit code of a failed delivery, which is worse than partial."""
    if not settings.deliver:
        return EXIT_OK
    from floodmark.cli.commands.deliver import after_run  # noqa: PLC0415 - by need: few runs deliver anything

    return after_run(settings, streams)
