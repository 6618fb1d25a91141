"""The settings of a run's metrics: flags, environment and file → `Metrics`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

from floodmark.config.schema import MetricsSection
from floodmark.config.settings import Flags, Metrics, Secret
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.errors import ConfigError

PUSHGATEWAY = "FLOODMARK_PUSHGATEWAY"
_EXAMPLE = "Write http://host:9091, or https://…."


def metrics_settings(arguments: Flags, environ: Mapping[str, str], section: MetricsSection, name: str) -> Metrics:
    """Return the outputs of a run's metrics. Raises ConfigError, which never holds the gateway's URL."""
    port = section.port if arguments.metrics_port is None else arguments.metrics_port
    textfile = section.textfile if arguments.metrics_textfile is None else arguments.metrics_textfile
    if textfile is not None and not textfile.strip():
        raise ConfigError(CONFIG_REFUSED, on="metrics.textfile", why="it is empty", hint="Write a file's path.")
    return Metrics(port, section.address or "", _gateway_url(arguments, environ, section, name), textfile)


def _gateway_url(arguments: Flags, environ: Mapping[str, str], section: MetricsSection, name: str) -> Secret | None:
    if arguments.push_gateway is not None:
        url, origin = arguments.push_gateway.reveal(), "--push-gateway"
    elif environ.get(PUSHGATEWAY):
        url, origin = environ[PUSHGATEWAY], PUSHGATEWAY
    elif section.pushgateway is not None:
        url, origin = section.pushgateway, f"metrics.pushgateway ({name})"
    else:
        return None
    _require_gateway(url.strip(), origin)
    return Secret(url.strip())


def _require_gateway(url: str, origin: str) -> None:
    if not url.startswith(("http://", "https://")) or re.search(r"[\x00-\x20?#]", url):
        _refuse(origin, "it must be an http:// or https:// URL without parameters", _EXAMPLE)
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named:
        _refuse(origin, "the host is missing, or the port is not a number", _EXAMPLE)
    if parts.password is not None and origin == "--push-gateway":
        hint = f"Other users of this machine can see it. Put the URL into {PUSHGATEWAY}."
        _refuse(origin, "a password on the command line is refused", hint)


def _refuse(origin: str, why: str, hint: str) -> NoReturn:
    raise ConfigError(CONFIG_REFUSED, on=origin, why=why, hint=hint)
