"""`floodmark exporter`: the long-lived process that serves a state's metrics."""

from __future__ import annotations

import argparse

from floodmark.backends import open_ledger
from floodmark.cli.output.log_events import Line
from floodmark.cli.output.streams import CommandStreams
from floodmark.cli.settings import no_state, state_settings
from floodmark.cli.signals import StopSignals
from floodmark.errors import EXIT_OK, FloodmarkError
from floodmark.events import ignore_event
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.server import MetricsServer
from floodmark.retrying import Patience

_PATIENCE = Patience(tries=2)  # the next interval tries again anyway
_GIVE_STATE = "Give --state URL or set FLOODMARK_STATE; or let the runs push their metrics (--push-gateway)."


def exporter(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Serve the state's metrics until a signal comes. Raises ConfigError if the port is not available."""
    ledger = open_ledger(state_settings(options, streams), ignore_event, _PATIENCE)
    if ledger is None:
        raise no_state(_GIVE_STATE)
    log = streams.log

    def log_change(error: FloodmarkError | None) -> None:
        if error is not None:
            log.write(Line("state_unreadable", {"why": error.sentence, "hint": error.hint}))
        else:
            log.write(Line("state_read", {"state": ledger.url}))

    known = Exporter(ledger, options.interval, log_change)
    signals = StopSignals(log.style)
    signals.left = lambda: "The exporter only reads: nothing was changed."
    with (
        signals as stop,
        MetricsServer(options.address, options.port, known.registry, known.healthy) as server,
    ):
        log.write(Line("metrics_served", {"address": options.address or "*", "port": server.port}))
        known.run(stop.event)
    return EXIT_OK
