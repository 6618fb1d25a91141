"""`floodmark exporter`: the long-lived process that shows a state's metrics."""

from __future__ import annotations

import argparse

from floodmark.cli import arguments
from floodmark.cli.output import Session, printable
from floodmark.cli.signals import StopSignals
from floodmark.config import load
from floodmark.errors import EXIT_OK, ConfigError, FloodmarkError
from floodmark.events import silent
from floodmark.metrics.exporter import Exporter
from floodmark.metrics.server import MetricsServer
from floodmark.storage.retry import Patience
from floodmark.stores import open_ledger

# An interval later it is tried again anyway.
_PATIENCE = Patience(tries=2)


def exporter(options: argparse.Namespace, session: Session) -> int:
    """Serve what the state tells until a signal comes. Raises ConfigError where the port can't be had."""
    settings = load(arguments.flags(options), session.environ, state_only=True)
    ledger = open_ledger(settings, silent, _PATIENCE)
    if ledger is None:
        why = "runs to this landing zone are stateless: nothing is remembered"
        hint = "Give --state URL or set FLOODMARK_STATE; or let the runs push their metrics (--push-gateway)."
        raise ConfigError("there is no state to read", why=why, hint=hint)

    def tell(error: FloodmarkError | None) -> None:
        if error is not None:
            session.err.line(f"floodmark: warning: the state can't be read: {printable(error.sentence)}")
        else:
            session.err.line(f"floodmark: the state is read: {printable(ledger.url)}")

    known = Exporter(ledger, options.interval, tell)
    with StopSignals() as stop, MetricsServer(options.address, options.port, known.metrics, known.healthy) as server:
        session.err.line(f"floodmark: metrics at http://{options.address or '*'}:{server.port}/metrics")
        known.run(stop.event)
    return EXIT_OK
