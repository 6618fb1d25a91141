"""The receiver of OpenLineage events. No check sends an event."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from floodmark.config import OpenLineageSettings
from floodmark.doctor.finding import Finding, of_error, ok, warning
from floodmark.errors import ConfigError
from floodmark.openlineage.emitter import require_client


def check_openlineage(settings: OpenLineageSettings) -> Iterator[Finding]:
    """Yield a finding if events are wanted. Without the client's package, a run ends before it begins."""
    if settings.transport is None:
        return
    try:
        require_client()
    except ConfigError as error:
        yield of_error("openlineage", error)
        return
    if settings.transport == "http":
        secured = "with an API key" if settings.api_key is not None else "without an API key"
        yield ok("openlineage", f"events go to {settings.url}{settings.endpoint}, {secured}")
        return
    folder = Path(settings.path).absolute().parent
    if os.access(folder, os.W_OK | os.X_OK):
        yield ok("openlineage", f"events are appended to {settings.path}")
    else:
        yield warning("openlineage", f"{folder} is no folder that this user can write to", "Create it, or change path.")
