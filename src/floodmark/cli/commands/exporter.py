"""`floodmark exporter`: the long-lived process that serves the metrics of one state or of many, and their report."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from wsgiref.types import WSGIApplication

from floodmark.backends import open_ledgers
from floodmark.cli.output.log_events import Line
from floodmark.cli.output.logs import Log
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import several_states
from floodmark.cli.signals import StopSignals
from floodmark.errors import EXIT_OK, ConfigError, FloodmarkError
from floodmark.events import ignore_event
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.exposition import text_page
from floodmark.metrics.page import KeptPage, text_front
from floodmark.metrics.server import MetricsServer
from floodmark.report.library import require_report_extra
from floodmark.retrying import Patience
from floodmark.state.ledger import Ledger

_PATIENCE = Patience(tries=2)  # the next interval tries again anyway
_GIVE_STATE = "Give --state URL or set FLOODMARK_STATE; or let the runs push their metrics (--push-gateway)."


def exporter(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Serve the states' metrics and report until a signal comes. Raises ConfigError if the port is not available."""
    ledgers = open_ledgers(several_states(options, streams, _GIVE_STATE), ignore_event, _PATIENCE)
    log = streams.log
    known = Exporter(ledgers, options.interval, _tell(log), state_label=options.state_label)
    front = None if options.no_report else _report_front(ledgers, known, log)
    signals = StopSignals(log.style)
    signals.left = lambda: "The exporter only reads: nothing was changed."
    with (
        signals as stop,
        MetricsServer(options.address, options.port, text_page(known.text), known.healthy, front) as server,
    ):
        log.write(Line("metrics_served", {"address": options.address or "*", "port": server.port}))
        known.run(stop.event)
    return EXIT_OK


def _report_front(ledgers: Sequence[Ledger], known: Exporter, log: Log) -> WSGIApplication:
    """Return the report as the front page, or a text that says how to get it."""
    try:
        require_report_extra()
    except ConfigError as missing:
        return text_front(f"Floodmark: see /metrics and /health\n{missing.sentence}\n{missing.hint}\n")
    from floodmark.cli.report_page import ReportMaker  # noqa: PLC0415 - by need: a page that nobody serves

    def failed(error: Exception) -> None:
        sentence, hint = (error.sentence, error.hint) if isinstance(error, FloodmarkError) else (_place(error), None)
        log.write(Line("report_failed", {"why": sentence, "hint": hint}))

    return KeptPage(ReportMaker(ledgers, known.readings).make, failed).answer


def _place(error: Exception) -> str:
    """Return the class of an unexpected error. Its text can hold anything."""
    return f"an internal error ({type(error).__name__})"


def _tell(log: Log) -> Callable[[str, FloodmarkError | None], None]:
    """Return a function that logs a change between reachable and unreachable."""

    def tell(state: str, error: FloodmarkError | None) -> None:
        if error is not None:
            log.write(Line("state_unreadable", {"state": state, "why": error.sentence, "hint": error.hint}))
        else:
            log.write(Line("state_read", {"state": state}))

    return tell
