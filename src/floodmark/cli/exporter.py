"""`floodmark exporter`: the long-lived process that serves a state's metrics."""

from __future__ import annotations

import argparse

from floodmark.backends import open_ledger
from floodmark.cli import arguments
from floodmark.cli.output import Session
from floodmark.cli.progress import log_of
from floodmark.cli.signals import StopSignals
from floodmark.config import load
from floodmark.errors import EXIT_OK, ConfigError, FloodmarkError
from floodmark.events import ignore_event
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.server import MetricsServer
from floodmark.retrying import Patience

# The next interval tries again anyway.
_PATIENCE = Patience(tries=2)


def exporter(options: argparse.Namespace, session: Session) -> int:
    """Serve the state's metrics until a signal comes. Raises ConfigError if the port is not available."""
    settings = load(arguments.flags(options), session.environ, state_only=True)
    ledger = open_ledger(settings, ignore_event, _PATIENCE)
    if ledger is None:
        why = "runs to this landing zone are stateless: nothing is remembered"
        hint = "Give --state URL or set FLOODMARK_STATE; or let the runs push their metrics (--push-gateway)."
        raise ConfigError("there is no state to read", why=why, hint=hint)

    log = log_of(session)

    def tell(error: FloodmarkError | None) -> None:
        if error is not None:
            log.say("warning", "the state can't be read", {"why": error.sentence, "hint": error.hint})
        else:
            log.say("info", "the state is read", {"state": ledger.url})

    known = Exporter(ledger, options.interval, tell)
    with (
        StopSignals(log.style) as stop,
        MetricsServer(options.address, options.port, known.metrics, known.healthy) as server,
    ):
        log.say("info", "serving metrics", {"address": options.address or "*", "port": server.port})
        known.run(stop.event)
    return EXIT_OK
