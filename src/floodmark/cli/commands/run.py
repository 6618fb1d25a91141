"""`floodmark run`: extract what changed, publish a manifest, and show each table's outcome."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from floodmark.cli.interruptible import Work, run_interruptible
from floodmark.cli.output import render
from floodmark.cli.output.failure import report
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.cli.settings import settings_of
from floodmark.config import Settings
from floodmark.config.load import load_notify
from floodmark.errors import EXIT_OK, EXIT_PARTIAL, FloodmarkError, MessageError
from floodmark.pipeline import job
from floodmark.pipeline.publish import RunResult
from floodmark.state.manifest import encode

if TYPE_CHECKING:
    from floodmark.cli.commands.notified_run import NotifiedRun

Tell = Callable[[FloodmarkError], object]


def run(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Run, with metrics if the settings ask for them, make the configured deliveries, and tell people."""
    try:
        settings = settings_of(options, streams)
    except FloodmarkError as error:
        _tell_refusal(error, options, streams)
        raise
    if not settings.notify.channels:
        return _trace(options, streams, settings, None)
    from floodmark.cli.commands.notified_run import NotifiedRun  # noqa: PLC0415 - by need: few runs tell anyone

    return NotifiedRun(settings, streams).until_told(lambda notified: _trace(options, streams, settings, notified))


def _tell_refusal(error: FloodmarkError, options: argparse.Namespace, streams: CommandStreams) -> None:
    """Tell people that the configuration is refused, as far as it names them."""
    with suppress(FloodmarkError):
        settings = load_notify(options.config, streams.environ, lenient=True)
        if settings.channels:
            from floodmark.cli.commands.notified_run import tell_refusal  # noqa: PLC0415 - by need

            tell_refusal(error, settings, streams)


def _trace(
    options: argparse.Namespace, streams: CommandStreams, settings: Settings, notified: NotifiedRun | None
) -> int:
    """Begin the run, and tell a receiver of OpenLineage events about it if there is one."""
    if settings.openlineage.transport is None:
        return _begin(options, streams, settings, notified, lambda work: work)
    from floodmark.cli.commands.traced_run import TracedRun  # noqa: PLC0415 - by need: few runs are traced

    traced = TracedRun(settings, streams)
    return traced.until_told(lambda: _begin(options, streams, settings, notified, traced.watched))


def _begin(
    options: argparse.Namespace,
    streams: CommandStreams,
    settings: Settings,
    notified: NotifiedRun | None,
    watched: Callable[[Work[RunResult]], Work[RunResult]],
) -> int:
    if not settings.metrics.wanted:
        work = watched(lambda observer, stop: job.run(settings, observer, stop))
        return _run(options, streams, settings, work, notified)
    from floodmark.cli.commands.metered_run import MeteredRun  # noqa: PLC0415 - by need: few runs serve metrics

    with MeteredRun(settings, streams.environ) as metered:
        if notified is not None:
            notified.when_recorded(metered.record_notified)
        return _run(options, streams, settings, watched(metered.run), notified)


def _run(
    options: argparse.Namespace,
    streams: CommandStreams,
    settings: Settings,
    work: Work[RunResult],
    notified: NotifiedRun | None,
) -> int:
    tally = Tally()
    work = work if notified is None else notified.watched(work)
    result = run_interruptible(streams, tally, work, lambda: _left_at_once(tally))
    streams.signals.left = lambda: "The run is committed."
    unwritten = _show(result, tally, settings, streams, options)
    tell = ignore_problem if notified is None else notified.add_problem
    code = _report_completion(result, streams, tell)
    code = _deliver(settings, streams, tell) or code
    if unwritten is not None:
        raise unwritten
    return code or (EXIT_PARTIAL if result.failed else EXIT_OK)


def _left_at_once(tally: Tally) -> str:
    """Return what a run leaves that had no time to end."""
    if tally.step == "committing":
        return "The run was committing: `floodmark history` shows if it is committed."
    return "Nothing was committed. The next run continues from the chunks that were saved by then."


def _show(
    result: RunResult, tally: Tally, settings: Settings, streams: CommandStreams, options: argparse.Namespace
) -> FloodmarkError | None:
    """Write the result to stdout. Return the error if that fails: the commit still needs its last steps."""
    try:
        if options.output == "json":
            streams.print_json(encode(result.manifest))
        else:
            streams.out.write(_text(result, tally, settings, streams, options))
    except FloodmarkError as error:
        return error
    return None


def _text(
    result: RunResult, tally: Tally, settings: Settings, streams: CommandStreams, options: argparse.Namespace
) -> str:
    to = console(streams.out, streams.environ)
    if options.quiet:
        return render.problems(result.manifest, to)
    where = _manifest_place(settings, result)
    contract = render.contract_lines(render.drift_of(result.manifest), to)
    table = render.run_table(result.manifest, tally.counts(), to, verbose=options.verbose)
    return contract + table + render.run_line(result, where, to)


def _manifest_place(settings: Settings, result: RunResult) -> str:
    if settings.state_url is None or result.manifest_key is None:
        return "no manifest: this run has no state"
    return f"manifest {settings.state_url.rstrip('/')}/{result.manifest_key}"


def ignore_problem(error: FloodmarkError) -> None:
    """Ignore what failed after the commit: it is reported, and nobody else wants to know."""


def _report_completion(result: RunResult, streams: CommandStreams, tell: Tell) -> int:
    """Report a commit that could not be announced to schedulers. Returns 0, or the exit code."""
    error = result.completion_error
    if error is None:
        return EXIT_OK
    hint = "The run is committed. The next run announces it."
    hint = hint if error.hint is None else f"{error.hint} {hint}"
    why = ": ".join(filter(None, (error.on, error.why)))
    failed = MessageError("the commit could not be announced", on=error.what, why=why, hint=hint)
    tell(failed)
    return report(failed, streams)


def _deliver(settings: Settings, streams: CommandStreams, tell: Tell) -> int:
    """Make the configured deliveries. Returns 0, or the exit code of a failed delivery, which is worse than partial."""
    if not settings.deliver:
        return EXIT_OK
    from floodmark.cli.commands.deliver import after_run  # noqa: PLC0415 - by need: few runs deliver anything

    return after_run(settings, streams, tell)
