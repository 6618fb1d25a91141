"""`floodmark exporter`: the long-lived process that serves the metrics of one state or of many."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from floodmark.backends import open_ledgers
from floodmark.cli.output.log_events import Line
from floodmark.cli.output.logs import Log
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import several_states
from floodmark.cli.signals import StopSignals
from floodmark.errors import EXIT_OK, FloodmarkError
from floodmark.events import ignore_event
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.exposition import text_page
from floodmark.metrics.server import MetricsServer
from floodmark.retrying import Patience

_PATIENCE = Patience(tries=2)  # the next interval tries again anyway
_GIVE_STATE = "Give --state URL or set FLOODMARK_STATE; or let the runs push their metrics (--push-gateway)."


def exporter(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Serve the states' metrics until a signal comes. Raises ConfigError if the port is not available."""
    ledgers = open_ledgers(several_states(options, streams, _GIVE_STATE), ignore_event, _PATIENCE)
    log = streams.log
    known = Exporter(ledgers, options.interval, _tell(log), state_label=options.state_label)
    signals = StopSignals(log.style)
    signals.left = lambda: "The exporter only reads: nothing was changed."
    with (
        signals as stop,
        MetricsServer(options.address, options.port, text_page(known.text), known.healthy) as server,
    ):
        log.write(Line("metrics_served", {"address": options.address or "*", "port": server.port}))
        known.run(stop.event)
    return EXIT_OK


def _tell(log: Log) -> Callable[[str, FloodmarkError | None], None]:
    """Return a function that logs a change between reachable and unreachable."""

    def tell(state: str, error: FloodmarkError | None) -> None:
        if error is not None:
            log.write(Line("state_unreadable", {"state": state, "why": error.sentence, "hint": error.hint}))
        else:
            log.write(Line("state_read", {"state": state}))

    return tell
