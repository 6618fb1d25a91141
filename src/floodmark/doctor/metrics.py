"""The targets of a run's metrics. An error there fails no run, so it is at most a warning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from floodmark.config import Metrics, Secret
from floodmark.doctor.finding import Finding, ok, warning
from floodmark.errors import ConfigError
from floodmark.metrics.exposition import registry, registry_page
from floodmark.metrics.push import PushFailed, check_ready
from floodmark.metrics.server import MetricsServer


def check_metrics(settings: Metrics) -> Iterator[Finding]:
    if not settings.wanted:
        yield ok("metrics", "a run sends none; `floodmark exporter` serves those that the state gives")
    if settings.pushgateway is not None:
        yield _check_gateway(settings.pushgateway)
    if settings.textfile is not None:
        yield _check_textfile(Path(settings.textfile))
    if settings.port is not None:
        yield _check_port(settings.address, settings.port)


def _check_gateway(gateway: Secret) -> Finding:
    try:
        check_ready(gateway)
    except PushFailed as error:
        fix = "Check metrics.pushgateway (FLOODMARK_PUSHGATEWAY, --push-gateway), its user and password, or NO_PROXY."
        return warning("metrics: pushgateway", f"can't push to {error}", fix)
    return ok("metrics: pushgateway", "the Pushgateway answers")


def _check_textfile(path: Path) -> Finding:
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        fix = "Correct metrics.textfile, or create the folder and let the user that runs Floodmark write there."
        return warning("metrics: textfile", f"{folder} is not a writable folder", fix)
    if path.suffix != ".prom":
        fix = f"Set metrics.textfile: {path.with_suffix('.prom')}"
        return warning("metrics: textfile", "node_exporter reads only files that end in .prom", fix)
    return ok("metrics: textfile", f"{folder} can be written to")


def _check_port(address: str, port: int) -> Finding:
    nothing = registry_page(registry(tuple))
    try:
        MetricsServer(address, port, nothing).close()
    except ConfigError as error:
        return warning(
            "metrics: port", error.sentence, "Set another metrics.port (--metrics-port), or metrics.address."
        )
    return ok("metrics: port", f"port {port} is free")
